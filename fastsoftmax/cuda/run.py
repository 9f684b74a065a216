"""What each function does with a checked problem on a GPU: which kernels are launched, with what, in which order.

A call is prepared once for all operands that look alike, its launches once for each stream, and then they are made with
its operands' addresses.  Nothing here waits for the GPU, but for the check of labels when it is asked for.
"""

from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ..core import rules, terms
from ..core.dtypes import FLOAT64, ITEMSIZE
from ..core.memo import Memo
from . import plan
from .check import Loss, Map, computed
from .kernels import recipes as kernels
from .kernels.parameters import Integers, Numbers
from .launches import STORAGE, Piece, Rows, Step, pieces_of, step_of
from .toolkit import compiler
from .toolkit.packed import Cell
from .workspace import HEADER, Workspace

STREAMS = 64  # whose launches and workspaces a prepared call remembers
_NUMBER: dict[str, Any] = {"float32": np.float32, "float64": np.float64}

# What a loss is given at each launch: the addresses of logits, target, gradient, class weights, sample weights,
# upstream gradient and loss; of the blocks' sums and of what gradients are divided by; how many sums there are; and the
# address of a word for a bad label.  0 is for what there is not.  Further pieces of rows have cells of their own.
CELLS = tuple(map(Cell, range(11)))
X, TARGET, OUT, CLASS_WEIGHT, SAMPLE_WEIGHT, UPSTREAM, LOSS, SUMS, DENOMINATOR, BLOCKS, BAD = CELLS
SCALE = len(Integers._fields)  # the number of the parameter that gradients are multiplied by


def _kernel(step: Step, arguments: tuple[Any, ...]) -> Any:
    return compiler.Kernel(step.loaded, step.grid, step.threads, step.shared, arguments)


class MapCall:
    """softmax, log_softmax, logsumexp and products for operands that look alike."""

    def __init__(self, problem: Map, kernel: str, variant: int, *, numbers: bool) -> None:
        self.device, self.numbers, dtype = problem.device, numbers, problem.x.dtype
        self.pieces = pieces_of(Rows(kernel, variant), problem.x, problem.y, problem.out, problem.device)
        self.size, self.one = ITEMSIZE[STORAGE[dtype]], len(self.pieces) == 1
        self.rest = tuple(map(_NUMBER[computed(dtype)], Numbers()))
        self.lock = Lock()
        self.made: Memo[int, Any] = Memo(STREAMS)

    def _on(self, stream: int) -> Any:
        """The launches on a stream, with four cells for each."""
        row_kernels: list[Any] = []
        for piece in self.pieces:
            x, y, out, result = (Cell(4 * len(row_kernels) + i) for i in range(4))
            arguments = x, y, out, 0, 0, 0, 0, result, 0, 0, 0, 0, *piece.shape, *self.rest
            row_kernels.append(_kernel(piece.step, arguments))
        return self.made.keep(stream, compiler.Launches(stream, row_kernels, 4 * len(row_kernels)))

    def __call__(self, x: int, y: int, out: int, result: int, stream: int) -> None:
        """Put the call on a stream, with the addresses of its operands (0: none) and of a number a row."""
        places: tuple[int, ...] = x, y, out, result
        if not self.one:
            places = ()
            for _, _, (x_begin, y_begin, out_begin), row, _ in self.pieces:
                places += x + x_begin, y + y_begin, out + out_begin, result + row * self.size if result else 0
        with self.lock:
            compiler.put(self.device, self.made.get(stream) or self._on(stream), places)

    def idle(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it."""
        _idle(self.pieces, self.device, stream, self.rest)


def _idle(pieces: tuple[Piece, ...], device: int, stream: int, numbers: tuple[Any, ...]) -> None:
    for piece in pieces:
        step, nothing = piece.step, (*(0,) * 13, *piece.shape[1:], *numbers)
        compiler.launch(step.loaded, device, stream, step.grid, step.threads, step.shared, nothing)


class Counted:
    """The weights of the rows that count, which a mean is divided by, and the check of their labels: of all rows."""

    def __init__(self, problem: Loss) -> None:
        shape, self.device, self.hard = problem.x.shape, problem.device, problem.soft is None
        self.rows, self.classes, self.label = shape[:-1], shape[-1], problem.label
        self.count = int(np.prod(self.rows, dtype=np.int64))
        self.ignore_index, self.blocks = problem.options.ignore_index, plan.count_blocks(self.count)
        kind = STORAGE[problem.x.dtype]
        self.step = step_of(kernels.count_recipe(kind, self.label), self.device, self.blocks)
        self.joining = step_of(kernels.total_recipe(FLOAT64), self.device, 1)
        self.made: Memo[int, Any] = Memo(STREAMS)

    def kernels(self) -> list[Any]:
        """The kernels of the count: of several blocks, whose sums are put where those of the losses come later."""
        target = TARGET if self.hard else 0  # without labels every row counts
        several, rest = self.blocks > 1, (BAD, self.ignore_index, self.count, self.classes)
        count = _kernel(self.step, (target, CLASS_WEIGHT, SAMPLE_WEIGHT, SUMS if several else DENOMINATOR, *rest))
        join = _kernel(self.joining, (SUMS, self.blocks, 0, DENOMINATOR))
        return [count, join] if several else [count]

    def __call__(self, weights: tuple[int, int, int], stream: int, header: int, *, check: bool) -> None:
        """Put the count on a stream: of targets, class weights and sample weights at some addresses."""
        (target, class_weight, factor), check = weights, check and self.hard
        bad = header + 8 if check else 0
        if check:
            compiler.clear(self.device, stream, bad, 8)
        made = self.made.get(stream) or self.made.keep(stream, compiler.Launches(stream, self.kernels(), len(CELLS)))
        values = 0, target, 0, class_weight, factor, 0, 0, header + HEADER, header, 0, bad
        compiler.put(self.device, made, values)
        if check:
            self._raise(target, stream, bad)

    def _raise(self, target: int, stream: int, bad: int) -> None:
        """The error for a label that is out of range, if there is one."""
        row = int.from_bytes(compiler.read(self.device, stream, bad, 8), "little") - 1
        if row >= 0:
            value = compiler.read(self.device, stream, target + self.label * row, self.label)
            position = np.unravel_index(row, self.rows)
            raise rules.bad_label(int.from_bytes(value, "little", signed=True), position, self.classes)


class Losses:
    """The losses and gradients of rows, and the sums of their losses by block."""

    def __init__(self, problem: Loss) -> None:
        x, o, self.device = problem.x, problem.options, problem.device
        self.hard, factors = problem.soft is None, problem.loss_factor or problem.grad_factor
        flags = terms.flags(o, hard=self.hard, weighted=problem.weighted, factors=factors, grad=problem.grad)
        what = Rows("cross_entropy", 0, flags, problem.label)
        self.pieces = pieces_of(what, x, problem.soft, problem.out, self.device)
        self.blocks = self.pieces[-1].block + self.pieces[-1].step.grid if self.pieces else 0
        dtype = computed(x.dtype)
        self.number, self.size, self.label = _NUMBER[dtype], ITEMSIZE[STORAGE[dtype]], problem.label
        self.reduced, self.ignore_index = o.reduction != "none", o.ignore_index
        self.numbers = tuple(map(self.number, terms.numbers(o, x.shape[-1])))
        self.up = UPSTREAM if problem.grad_factor else SAMPLE_WEIGHT
        self.made: Memo[int, Any] = Memo(STREAMS)

    def kernels(self) -> list[Any]:
        """The kernels of the rows."""
        y, target = (0, TARGET) if self.hard else (TARGET, 0)
        result, partial = (0, SUMS) if self.reduced else (LOSS, 0)
        at = X, y, OUT, target, CLASS_WEIGHT, SAMPLE_WEIGHT, self.up, result, partial, DENOMINATOR
        rest, made = (0, self.ignore_index), []
        for number, piece in enumerate(self.pieces):
            own = [Cell(a.number + number * len(CELLS)) if isinstance(a, Cell) else a for a in at]
            made.append(_kernel(piece.step, (*own, *rest, *piece.shape, self.number(1), *self.numbers)))
        return made

    def values(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """What cells hold: of several pieces, those of each."""
        if len(self.pieces) < 2:
            return places
        values, size = places, self.size
        for _, _, (x, y, out), row, block in self.pieces[1:]:
            steps = x, self.label * row if self.hard else y, out, 0, *(size * row,) * 3, 8 * block, 0, 0, 0
            values += tuple(place + step if place else 0 for place, step in zip(places, steps, strict=True))
        return values

    def __call__(self, places: tuple[int, ...], stream: int, sums: int, denominator: int, up: float) -> None:
        """Put the rows on a stream.

        Parameters
        ----------
        places
            The addresses of logits, target, gradient, class weights, sample weights, upstream gradient and losses of
            the rows; 0 for those that there are not.
        stream
            Its handle.
        sums, denominator
            The addresses of the sums of losses by block, and of what gradients are divided by (0: nothing).
        up
            What gradients are multiplied by.
        """
        made = self.made.get(stream) or self.made.keep(stream, Series(self, stream, [], []))
        made.put(self.values((*places, sums, denominator, 0, 0)), up)


class Series:
    """The launches of rows on a stream, with others before and behind."""

    def __init__(self, losses: Losses, stream: int, before: list[Any], behind: list[Any]) -> None:
        row_kernels = losses.kernels()
        cells = len(CELLS) * max(1, len(row_kernels))
        self.launches = compiler.Launches(stream, [*before, *row_kernels, *behind], cells)
        self.device, self.number, self.up = losses.device, losses.number, 1.0
        self.scaled = range(len(before), len(before) + len(row_kernels))

    def put(self, values: tuple[int, ...], up: float) -> None:
        """Put them there; gradients are multiplied by `up`."""
        if up != self.up or up == 0:  # which may be -0.0
            for kernel in self.scaled:
                self.launches.change(kernel, SCALE, self.number(up))
            self.up = up
        compiler.put(self.device, self.launches, values)


class Summed:
    """The sum of the blocks' sums, or its mean."""

    def __init__(self, problem: Loss) -> None:
        self.device, self.mean = problem.device, problem.options.reduction == "mean"
        self.step = step_of(kernels.total_recipe(STORAGE[problem.x.dtype]), self.device, 1)
        self.made: Memo[int, Any] = Memo(STREAMS)

    def kernels(self) -> list[Any]:
        """The kernel of the sum."""
        return [_kernel(self.step, (SUMS, BLOCKS, DENOMINATOR, LOSS))]

    def __call__(self, stream: int, header: int, blocks: int, result: int) -> None:
        """Put it on a stream."""
        made = self.made.get(stream) or self.made.keep(stream, compiler.Launches(stream, self.kernels(), len(CELLS)))
        denominator = header if self.mean else 0
        compiler.put(self.device, made, (0, 0, 0, 0, 0, 0, result, header + HEADER, denominator, blocks, 0))


class Room(NamedTuple):
    """What calls on a stream take: its workspace's lock and address, and the launches there."""

    lock: Lock
    header: int
    rest: tuple[int, ...]  # what cells hold besides the addresses of operands
    counting: Series  # with the count of a mean
    plain: Series  # without


class LossCall:
    """A cross-entropy for operands that look alike."""

    def __init__(self, problem: Loss) -> None:
        self.device, o = problem.device, problem.options
        self.mean, self.reduced = o.reduction == "mean", o.reduction != "none"
        self.losses = Losses(problem)
        # The others too, needed or not, so that a check that comes later finds them loaded.
        self.counted, self.summed = Counted(problem), Summed(problem)
        self.one = len(self.losses.pieces) == 1
        self.rooms: Memo[int, Room] = Memo(STREAMS)

    def roomed(self, stream: int, workspace: Workspace) -> Room:
        """What calls on a stream take, with enough memory of a workspace."""
        header = workspace.reserve(max(self.losses.blocks, self.counted.blocks))
        behind = self.summed.kernels() if self.reduced else []
        plain = Series(self.losses, stream, [], behind)
        counting = Series(self.losses, stream, self.counted.kernels(), behind) if self.mean else plain
        rest = header + HEADER, header if self.mean else 0, self.losses.blocks, 0
        return self.rooms.keep(stream, Room(workspace.lock, header, rest, counting, plain))

    def __call__(
        self, places: tuple[int, ...], stream: int, room: Room, up: float = 1.0, check: bool | None = None
    ) -> None:
        """Put the call on a stream.

        Parameters
        ----------
        places
            The addresses of logits, target, gradient, class weights, sample weights, upstream gradient and loss; 0
            for those that there are not.
        stream, room
            The stream's handle, and what `roomed` says of it.
        up
            What gradients are multiplied by.
        check
            Wait for the stream to find labels out of range, before anything is written.
        """
        lock, header, rest, series, plain = room
        values = places + rest
        if not self.one:
            values = self.losses.values(values)
        with lock:
            if check:
                self.counted((places[1], places[3], places[4]), stream, header, check=True)
                series = plain
            series.put(values, up)

    def idle(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it; `roomed` was called for stream 0."""
        lock, header = self.rooms[0][:2]
        small: list[tuple[Step, tuple[int, ...]]] = [(self.counted.step, (0, 0, 0, header + HEADER, 0, 0, 0, 1))]
        small += [(step, (header + HEADER, 0, 0, header)) for step in (self.counted.joining, self.summed.step)]
        with lock:
            for step, arguments in small:
                compiler.launch(step.loaded, self.device, stream, step.grid, step.threads, 0, arguments)
            losses = self.losses
            _idle(losses.pieces, self.device, stream, (losses.number(1), *losses.numbers))

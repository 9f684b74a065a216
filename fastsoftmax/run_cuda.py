"""What each function does with a checked problem on a GPU: which kernels are launched, with what, in which order.

A call is prepared once for all operands that look alike, its launches once for each stream, and then they are made with
its operands' addresses.  Nothing here waits for the GPU, but for the check of labels when it is asked for.
"""

from threading import Lock
from typing import Any, TypeVar

import numpy as np

from . import plan_cuda, terms, wording
from .check_cuda import Loss, Map, computed
from .cuda import kernels, package
from .cuda.params import Integers, Numbers
from .cuda.workspace import HEADER, Workspace
from .pieces_cuda import STORAGE, Piece, Rows, Step, pieces_of, step_of
from .spec import FLOAT64, ITEMSIZE

STREAMS = 64  # whose launches and workspaces a prepared call remembers
ADDRESSES = 10  # of a row kernel's parameters: those that each launch is given
SCALE = len(Integers._fields)  # the parameter that gradients are multiplied by
Made = TypeVar("Made")
_NUMBER: dict[str, Any] = {"float32": np.float32, "float64": np.float64}


def _launch(step: Step, device: int, stream: int, arguments: tuple[Any, ...], first: int) -> Any:
    """A kernel's launches on a stream, of which each is given the first parameters."""
    return package.Launch(step.loaded, device, stream, step.grid, step.threads, step.shared, arguments, first)


def _kept(made: dict[int, Made], stream: int, found: Made) -> Made:
    """What was made for a stream, kept for the next call on it."""
    if len(made) >= STREAMS:
        made.clear()
    made[stream] = found
    return found


def _row_launches(
    pieces: tuple[Piece, ...], device: int, stream: int, ignored: int, numbers: tuple[Any, ...]
) -> list[Any]:
    """The launches of a row kernel on a stream."""
    blank = (0,) * ADDRESSES
    return [_launch(one.step, device, stream, (*blank, 0, ignored, *one.shape, *numbers), ADDRESSES) for one in pieces]


class MapCall:
    """softmax, log_softmax, logsumexp and products for operands that look alike."""

    def __init__(self, problem: Map, kernel: str, variant: int, *, numbers: bool) -> None:
        self.device, self.numbers, dtype = problem.device, numbers, problem.x.dtype
        self.pieces = pieces_of(Rows(kernel, variant), problem.x, problem.y, problem.out, problem.device)
        self.size = ITEMSIZE[STORAGE[dtype]]
        self.rest = tuple(map(_NUMBER[computed(dtype)], Numbers()))
        self.lock = Lock()
        self.launches: dict[int, list[Any]] = {}

    def _on(self, stream: int) -> list[Any]:
        return _kept(self.launches, stream, _row_launches(self.pieces, self.device, stream, 0, self.rest))

    def __call__(self, x: int, y: int, out: int, result: int, stream: int) -> None:
        """Put the call on a stream, with the addresses of its operands (0: none) and of a number a row."""
        with self.lock:
            launches = self.launches.get(stream) or self._on(stream)
            for launch, (_, _, (x_begin, y_begin, out_begin), row, _) in zip(launches, self.pieces, strict=True):
                to = result + row * self.size if result else 0
                launch.put(x + x_begin, y + y_begin, out + out_begin, 0, 0, 0, 0, to, 0, 0)

    def idle(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it."""
        _idle(self.pieces, self.device, stream, self.rest)


def _idle(pieces: tuple[Piece, ...], device: int, stream: int, numbers: tuple[Any, ...]) -> None:
    for piece in pieces:
        step, nothing = piece.step, (*(0,) * 13, *piece.shape[1:], *numbers)
        package.launch(step.loaded, device, stream, step.grid, step.threads, step.shared, nothing)


class Counted:
    """The weights of the rows that count, which a mean is divided by, and the check of their labels: of all rows."""

    def __init__(self, problem: Loss) -> None:
        shape, self.device, self.hard = problem.x.shape, problem.device, problem.soft is None
        self.rows, self.classes, self.label = shape[:-1], shape[-1], problem.label
        self.count = int(np.prod(self.rows, dtype=np.int64))
        self.ignore_index, self.blocks = problem.options.ignore_index, plan_cuda.count_blocks(self.count)
        kind = STORAGE[problem.x.dtype]
        self.step = step_of(kernels.count_recipe(kind, self.label), self.device, self.blocks)
        self.joining = step_of(kernels.total_recipe(FLOAT64), self.device, 1)
        self.launches: dict[int, tuple[Any, Any]] = {}

    def _on(self, stream: int) -> tuple[Any, Any]:
        rest = self.ignore_index, self.count, self.classes
        counting = _launch(self.step, self.device, stream, (0, 0, 0, 0, 0, *rest), 5)
        return _kept(self.launches, stream, (counting, _launch(self.joining, self.device, stream, (0, 0, 0, 0), 4)))

    def __call__(self, weights: tuple[int, int, int], stream: int, header: int, *, check: bool) -> None:
        """Put the count on a stream: of targets, class weights and sample weights at some addresses."""
        target, class_weight, factor = weights
        if not self.hard:
            target, check = 0, False  # every row counts
        bad = header + 8 if check else 0
        if check:
            package.clear(self.device, stream, bad, 8)
        counting, joining = self.launches.get(stream) or self._on(stream)
        if self.blocks == 1:
            counting.put(target, class_weight, factor, header, bad)
        else:
            sums = header + HEADER  # where the blocks' losses come later
            counting.put(target, class_weight, factor, sums, bad)
            joining.put(sums, self.blocks, 0, header)
        if check:
            self._raise(target, stream, bad)

    def _raise(self, target: int, stream: int, bad: int) -> None:
        """The error for a label that is out of range, if there is one."""
        row = int.from_bytes(package.read(self.device, stream, bad, 8), "little") - 1
        if row >= 0:
            value = package.read(self.device, stream, target + self.label * row, self.label)
            position = np.unravel_index(row, self.rows)
            raise wording.bad_label(int.from_bytes(value, "little", signed=True), position, self.classes)


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
        self.launches: dict[int, list[Any]] = {}  # those of the pieces, and the scale that they have now

    def _on(self, stream: int) -> list[Any]:
        numbers = self.number(1), *self.numbers
        launches = _row_launches(self.pieces, self.device, stream, self.ignore_index, numbers)
        return _kept(self.launches, stream, [launches, 1.0])

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
        made = self.launches.get(stream) or self._on(stream)
        launches, scale = made
        if up != scale or up == 0:  # which may be -0.0
            for launch in launches:
                launch.change(SCALE, self.number(up))
            made[1] = up
        x, y, out, class_weight, loss_factor, grad_factor, result = places
        y, target = (0, y) if self.hard else (y, 0)
        grad_factor = grad_factor or loss_factor
        size = self.size
        for launch, (_, _, (x_begin, y_begin, out_begin), row, block) in zip(launches, self.pieces, strict=True):
            launch.put(
                x + x_begin,
                y + y_begin,
                out + out_begin,
                target + self.label * row if target else 0,
                class_weight,
                loss_factor + size * row if loss_factor else 0,
                grad_factor + size * row if grad_factor else 0,
                0 if self.reduced else result + size * row,
                sums + 8 * block if self.reduced else 0,
                denominator,
            )


class Summed:
    """The sum of the blocks' sums, or its mean."""

    def __init__(self, problem: Loss) -> None:
        self.device, self.mean = problem.device, problem.options.reduction == "mean"
        self.step = step_of(kernels.total_recipe(STORAGE[problem.x.dtype]), self.device, 1)
        self.launches: dict[int, Any] = {}

    def _on(self, stream: int) -> Any:
        return _kept(self.launches, stream, _launch(self.step, self.device, stream, (0, 0, 0, 0), 4))

    def __call__(self, stream: int, header: int, blocks: int, result: int) -> None:
        """Put it on a stream."""
        launch = self.launches.get(stream) or self._on(stream)
        launch.put(header + HEADER, blocks, header if self.mean else 0, result)


class LossCall:
    """A cross-entropy for operands that look alike."""

    def __init__(self, problem: Loss) -> None:
        self.device, o = problem.device, problem.options
        self.mean, self.reduced = o.reduction == "mean", o.reduction != "none"
        self.losses = Losses(problem)
        # The others too, needed or not, so that a check that comes later finds them loaded.
        self.counted, self.summed = Counted(problem), Summed(problem)
        self.rooms: dict[int, tuple[Lock, int]] = {}

    def roomed(self, stream: int, room: Workspace) -> tuple[Lock, int]:
        """A stream's workspace, as calls take it: its lock, and the address of memory that is large enough."""
        found = room.lock, room.reserve(max(self.losses.blocks, self.counted.blocks))
        if len(self.rooms) >= STREAMS:
            self.rooms.clear()
        self.rooms[stream] = found
        return found

    def __call__(
        self, places: tuple[int, ...], stream: int, room: tuple[Lock, int], up: float = 1.0, check: bool | None = None
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
        lock, header = room
        with lock:
            if self.mean or check:
                self.counted((places[1], places[3], places[4]), stream, header, check=bool(check))
            self.losses(places, stream, header + HEADER, header if self.mean else 0, up)
            if self.reduced:
                self.summed(stream, header, self.losses.blocks, places[-1])

    def idle(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it; `roomed` was called for stream 0."""
        lock, header = self.rooms[0]
        small: list[tuple[Step, tuple[int, ...]]] = [(self.counted.step, (0, 0, 0, header + HEADER, 0, 0, 0, 1))]
        small += [(step, (header + HEADER, 0, 0, header)) for step in (self.counted.joining, self.summed.step)]
        with lock:
            for step, arguments in small:
                package.launch(step.loaded, self.device, stream, step.grid, step.threads, 0, arguments)
            losses = self.losses
            _idle(losses.pieces, self.device, stream, (losses.number(1), *losses.numbers))

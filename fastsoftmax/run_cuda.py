"""What each function does with a checked problem on a GPU: which kernels are launched, with what, in which order.

A call is prepared once for all operands that look alike, and then made with their addresses.  Nothing here waits for
the GPU, but for the check of labels when it is asked for.
"""

from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from . import plan_cuda, terms, wording
from .check_cuda import Loss, Map, computed
from .cuda import kernels, package
from .cuda.params import Numbers
from .cuda.workspace import HEADER, Workspace
from .levels import merged, offsets, two
from .operands import Operand
from .plan_cuda import Layout
from .spec import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, ITEMSIZE, Flags

STORAGE = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "float64": FLOAT64}
NOTHING = Flags()
STREAMS = 64  # whose workspaces a prepared call remembers
_NUMBER: dict[str, Any] = {"float32": np.float32, "float64": np.float64}


class Step(NamedTuple):
    """A kernel that is ready, and its launch."""

    loaded: Any
    grid: int
    threads: int
    shared: int


class Piece(NamedTuple):
    """Rows on at most two levels of strides, which one launch takes."""

    step: Step
    shape: tuple[int, ...]  # the integers that follow ignore_index
    begins: tuple[int, ...]  # bytes from the addresses of x, y and out
    row: int  # the number of the first row
    block: int  # the number of the first block


@lru_cache(maxsize=4096)
def _step(recipe: kernels.Recipe, device: int, grid: int, shared: int = 0) -> Step:
    """A kernel, compiled and loaded for a GPU."""
    compiled = kernels.compiled(recipe, package.facts(device).capability)
    return Step(package.load(compiled, device, shared), grid, recipe.threads, shared)


class Rows(NamedTuple):
    """What is to be done with each row."""

    kernel: str
    variant: int = 0
    flags: Flags = NOTHING
    label: int = 8  # bytes of a class index


def _pieces(what: Rows, x: Operand, y: Operand | None, out: Operand | None, device: int) -> tuple[Piece, ...]:
    """The launches of a row kernel."""
    if 0 in x.shape:
        return ()
    operands = [a for a in (x, y, out) if a is not None]
    levels = merged(x.shape, tuple(a.strides for a in operands))
    (outer, inner), steps = two(levels)
    rows, classes, facts = outer * inner, x.shape[-1], package.facts(device)
    kinds = STORAGE[x.dtype], STORAGE[(y or x).dtype]
    given = iter(range(len(operands)))
    place = [None if a is None else next(given) for a in (x, y, out)]
    pieces: list[Piece] = []
    for offset in offsets(levels):
        layouts = tuple(
            Layout(ITEMSIZE[STORAGE[a.dtype]], (a.address + begin) % 16, *step, _class_step(a))
            for a, begin, step in zip(operands, offset, steps, strict=True)
        )
        about = facts.multiprocessors, facts.shared, facts.clusters
        plan = plan_cuda.plan(rows, classes, layouts, about, held=2 if what.kernel == "vjp" else 1)
        strides = [s for i in place for s in ((0, 0, 0) if i is None else layouts[i][2:])]
        begins = [0 if i is None else offset[i] for i in place]
        recipe = kernels.recipe(what.kernel, plan, *kinds, what.variant, what.flags, what.label)
        step = _step(recipe, device, plan.grid, plan.shared)
        block = pieces[-1].block + pieces[-1].step.grid if pieces else 0
        pieces.append(Piece(step, (rows, inner, classes, *strides), tuple(begins), len(pieces) * rows, block))
    return tuple(pieces)


def _class_step(a: Operand) -> int:
    return a.strides[-1] if a.shape[-1] > 1 else ITEMSIZE[STORAGE[a.dtype]]


class MapCall:
    """softmax, log_softmax, logsumexp and products for operands that look alike."""

    def __init__(self, problem: Map, kernel: str, variant: int, *, numbers: bool) -> None:
        self.device, self.numbers, dtype = problem.device, numbers, problem.x.dtype
        self.pieces = _pieces(Rows(kernel, variant), problem.x, problem.y, problem.out, problem.device)
        self.size = ITEMSIZE[STORAGE[dtype]]
        self.rest = tuple(map(_NUMBER[computed(dtype)], Numbers()))

    def __call__(self, x: int, y: int, out: int, result: int, stream: int) -> None:
        """Put the call on a stream, with the addresses of its operands (0: none) and of a number a row."""
        device, size, rest = self.device, self.size, self.rest
        for step, shape, (x_begin, y_begin, out_begin), row, _ in self.pieces:
            to = result + row * size if result else 0
            operands = (x + x_begin, y + y_begin, out + out_begin, 0, 0, 0, 0, to, 0, 0, 0, 0)
            package.launch(step.loaded, device, stream, step.grid, step.threads, step.shared, operands + shape + rest)

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
        self.step = _step(kernels.count_recipe(kind, self.label), self.device, self.blocks)
        self.joining = _step(kernels.total_recipe(FLOAT64), self.device, 1)

    def __call__(self, weights: tuple[int, int, int], stream: int, header: int, *, check: bool) -> None:
        """Put the count on a stream: of targets, class weights and sample weights at some addresses."""
        target, class_weight, factor = weights
        if not self.hard:
            target, check = 0, False  # every row counts
        bad = header + 8 if check else 0
        if check:
            package.clear(self.device, stream, bad, 8)
        step, several = self.step, self.blocks > 1
        sums = header + HEADER if several else header  # where the blocks' losses come later
        counting = (target, class_weight, factor, sums, bad, self.ignore_index, self.count, self.classes)
        package.launch(step.loaded, self.device, stream, step.grid, step.threads, 0, counting)
        if several:
            join, where = self.joining, (sums, step.grid, 0, header)
            package.launch(join.loaded, self.device, stream, 1, join.threads, 0, where)
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
        self.pieces = _pieces(what, x, problem.soft, problem.out, self.device)
        self.blocks = self.pieces[-1].block + self.pieces[-1].step.grid if self.pieces else 0
        dtype = computed(x.dtype)
        self.number, self.size, self.label = _NUMBER[dtype], ITEMSIZE[STORAGE[dtype]], problem.label
        self.reduced, self.ignore_index = o.reduction != "none", o.ignore_index
        self.numbers = tuple(map(self.number, terms.numbers(o, x.shape[-1])))

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
        x, y, out, class_weight, loss_factor, grad_factor, result = places
        y, target = (0, y) if self.hard else (y, 0)
        grad_factor = grad_factor or loss_factor
        size, scale = self.size, self.number(up)
        for step, shape, (x_begin, y_begin, out_begin), row, block in self.pieces:
            arguments = (
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
                0,
                self.ignore_index,
                *shape,
                scale,
                *self.numbers,
            )
            package.launch(step.loaded, self.device, stream, step.grid, step.threads, step.shared, arguments)


class Summed:
    """The sum of the blocks' sums, or its mean."""

    def __init__(self, problem: Loss) -> None:
        self.device, self.mean = problem.device, problem.options.reduction == "mean"
        self.step = _step(kernels.total_recipe(STORAGE[problem.x.dtype]), self.device, 1)

    def __call__(self, stream: int, header: int, blocks: int, result: int) -> None:
        """Put it on a stream."""
        where = header + HEADER, blocks, header if self.mean else 0, result
        package.launch(self.step.loaded, self.device, stream, 1, self.step.threads, 0, where)


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

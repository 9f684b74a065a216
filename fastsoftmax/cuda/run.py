"""Prepared calls of each function on a GPU: the kernels that are launched, their arguments and their order.

A call is prepared once for all operands that look alike, its launches once for each stream, and then they are made with
its operands' addresses.  Nothing here waits for the GPU, but for the check of labels when it is asked for.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..core import rules
from ..core.dtypes import FLOAT64, SIZES, STORAGE, computed
from ..core.memo import Memo
from ..core.options import Flags, Numbers, flags_of, numbers_of
from . import plan
from .check import Loss, Map
from .kernels import recipes
from .kernels.parameters import ADJUSTMENTS, Integers
from .launches import RowWork, launch_once, launches_of, loaded_kernel
from .toolkit import compiler
from .toolkit.packed import Cell
from .workspace import HEADER, Workspace

STREAMS = 64  # whose launches and workspaces a prepared call remembers

# The cells that each launch of a loss fills: the addresses of logits, target, gradient, class weights, sample weights,
# upstream gradient, offsets of classes, mask and loss; of the blocks' sums and of what gradients are divided by; how
# many sums there are; and the address of a word for a bad label.  0 is for what there is not.  Further launches of rows
# have cells of their own.
CELLS = tuple(map(Cell, range(13)))
X, TARGET, OUT, CLASS_WEIGHT, SAMPLE_WEIGHT, UPSTREAM, OFFSET, MASK, LOSS, SUMS, DENOMINATOR, BLOCKS, BAD = CELLS
SCALE = len(Integers._fields)  # the number of the parameter that gradients are multiplied by


class MapCall:
    """softmax, log_softmax, logsumexp and products for operands that look alike."""

    def __init__(self, problem: Map, kernel: str, variant: Any, *, numbers: bool) -> None:
        self.device, self.numbers, dtype = problem.device, numbers, problem.x.dtype
        adjust, operands = problem.adjust, (problem.x, problem.y, problem.out)
        work, self.adjusted = RowWork(kernel, variant, adjust.of(Flags())), adjust.given
        self.launches = launches_of(work, *operands, problem.device, adjust.mask)
        self.size, self.one = SIZES[dtype], len(self.launches) == 1
        self.rest = tuple(map(np.dtype(computed(dtype)).type, Numbers()))
        self.lock = Lock()
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int) -> compiler.Launches:
        """The launches on a stream, with five cells for each."""
        kernels = []
        for number, launch in enumerate(self.launches):
            x, y, out, result, mask = (Cell(5 * number + i) for i in range(5))
            integers = x, y, out, 0, 0, 0, 0, result, 0, 0, 0, 0, *launch.shape, *((0, mask) if self.adjusted else ())
            kernels.append(launch.kernel.with_arguments(*integers, *self.rest))
        return self.prepared.keep(stream, compiler.Launches(stream, kernels, 5 * len(kernels)))

    def __call__(self, x: int, y: int, out: int, result: int, stream: int, mask: int = 0) -> None:
        """Put the call on a stream, with the addresses of its operands (0: none) and of a number a row.

        Beside such numbers `out` is where the signs of the sums go.
        """
        places: tuple[int, ...] = x, y, out, result, mask
        if not self.one:
            places = ()
            for _, _, (x_begin, y_begin, out_begin, begin), row, _ in self.launches:
                numbers = result + row * self.size if result else 0
                to = out + (row * self.size if self.numbers and out else out_begin)
                places += x + x_begin, y + y_begin, to, numbers, mask + begin
        with self.lock:
            compiler.put(self.device, self.prepared.get(stream) or self._prepare(stream), places)

    def launch_empty(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it."""
        _launch_empty(self, stream, self.rest)


def _launch_empty(call: "MapCall | RowLaunches", stream: int, numbers: tuple[Any, ...]) -> None:
    for launch in call.launches:
        integers = *(0,) * 13, *launch.shape[1:], *((0, 0) if call.adjusted else ())
        launch_once(launch.kernel, call.device, stream, *integers, *numbers)


class CountLaunches:
    """The weights of the rows that count, which a mean is divided by, and the check of their labels: of all rows."""

    def __init__(self, problem: Loss) -> None:
        shape, self.device = problem.x.shape, problem.device
        self.hard = problem.soft is None and not problem.listed[0]
        self.rows, self.classes, self.label = shape[:-1], shape[-1], problem.label
        self.count = int(np.prod(self.rows, dtype=np.int64))
        self.ignore_index, self.blocks = problem.options.ignore_index, plan.count_blocks(self.count)
        recipe = recipes.count_recipe(STORAGE[problem.x.dtype], self.label)
        self.kernel = loaded_kernel(recipe, self.device, self.blocks)
        self.join = loaded_kernel(recipes.total_recipe(FLOAT64), self.device, 1)
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def kernels(self) -> list[compiler.Kernel]:
        """The kernels of the count: of several blocks, whose sums are put where those of the losses come later."""
        target = TARGET if self.hard else 0  # without labels every row counts
        several, rest = self.blocks > 1, (BAD, self.ignore_index, self.count, self.classes)
        sums = SUMS if several else DENOMINATOR
        count = self.kernel.with_arguments(target, CLASS_WEIGHT, SAMPLE_WEIGHT, sums, *rest)
        return [count, self.join.with_arguments(SUMS, self.blocks, 0, DENOMINATOR)] if several else [count]

    def __call__(self, weights: tuple[int, int, int], stream: int, header: int, *, check: bool) -> None:
        """Put the count on a stream: of targets, class weights and sample weights at some addresses."""
        (target, class_weight, factor), check = weights, check and self.hard
        bad = header + 8 if check else 0
        if check:
            compiler.clear(self.device, stream, bad, 8)
        values = 0, target, 0, class_weight, factor, 0, 0, 0, 0, header + HEADER, header, 0, bad
        compiler.put(self.device, _prepared(self, stream), values)
        if check:
            self._raise(target, stream, bad)

    def _raise(self, target: int, stream: int, bad: int) -> None:
        """The error for a label that is out of range, if there is one."""
        row = int.from_bytes(compiler.read(self.device, stream, bad, 8), "little") - 1
        if row >= 0:
            value = compiler.read(self.device, stream, target + self.label * row, self.label)
            position = np.unravel_index(row, self.rows)
            raise rules.bad_label(int.from_bytes(value, "little", signed=True), position, self.classes)


class RowLaunches:
    """The losses and gradients of rows, and the sums of their losses by block."""

    def __init__(self, problem: Loss) -> None:
        x, o, self.device = problem.x, problem.options, problem.device
        self.hard, factors = problem.soft is None, problem.loss_factor or problem.grad_factor
        self.listed = problem.listed
        hard = self.hard and not self.listed[0]
        flags = flags_of(o, hard=hard, weighted=problem.weighted, factors=factors, grad=problem.grad)
        kernel, variant, more = problem.work
        if kernel == "divergence":  # whose teacher is a second row, and no weights of classes
            flags = flags._replace(soft=False)
        work, adjust = RowWork(kernel, variant, problem.adjust.of(flags), problem.label), problem.adjust
        self.launches = launches_of(work, x, problem.soft, problem.out, self.device, adjust.mask)
        self.adjusted, self.scale = adjust.given, SCALE + (len(ADJUSTMENTS) if adjust.given else 0)
        self.blocks = self.launches[-1].block + self.launches[-1].kernel.grid if self.launches else 0
        dtype = computed(x.dtype)
        self.number, self.size, self.label = np.dtype(dtype).type, SIZES[dtype], problem.label
        self.reduced, self.ignore_index = o.reduction != "none", self.listed[0] or o.ignore_index
        self.numbers = tuple(map(self.number, (*numbers_of(o, x.shape[-1]), *more)))
        self.up = UPSTREAM if problem.grad_factor else SAMPLE_WEIGHT
        self.prepared: Memo[int, LaunchSequence] = Memo(STREAMS)

    def kernels(self) -> list[compiler.Kernel]:
        """The kernels of the rows."""
        y, target = (0, TARGET) if self.hard else (TARGET, 0)
        result, partial = (0, SUMS) if self.reduced else (LOSS, 0)
        at = X, y, OUT, target, CLASS_WEIGHT, SAMPLE_WEIGHT, self.up, result, partial, DENOMINATOR, OFFSET, MASK
        kernels = []
        for number, launch in enumerate(self.launches):
            own = [Cell(a.number + number * len(CELLS)) if isinstance(a, Cell) else a for a in at]
            *own, offset, mask = own
            adjust = (offset, mask) if self.adjusted else ()
            integers = *own, 0, self.ignore_index, *launch.shape, *adjust
            kernels.append(launch.kernel.with_arguments(*integers, *self.numbers))
        return kernels

    def values(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """The values of the cells: of several launches, those of each."""
        if len(self.launches) < 2:
            return places
        values, size, (listed, width) = places, self.size, self.listed
        label, width = self.label * (listed or 1), width * listed
        for _, _, (x, y, out, mask), row, block in self.launches[1:]:
            rows = size * row
            steps = x, label * row if self.hard else y, out, width * row, rows, rows, 0, mask, rows, 8 * block, 0, 0, 0
            values += tuple(place + step if place else 0 for place, step in zip(places, steps, strict=True))
        return values

    def __call__(self, places: tuple[int, ...], stream: int, sums: int, denominator: int, up: float) -> None:
        """Put the rows on a stream, with the addresses of the cells from X to LOSS, and gradients times `up`.

        `sums` and `denominator` are the addresses of the losses by block and of the divisor of gradients (0: none).
        """
        sequence = self.prepared.get(stream) or self.prepared.keep(stream, LaunchSequence(self, stream, [], []))
        if up != sequence.up or up == 0:  # which may be -0.0
            sequence.scale(up)
        compiler.put(self.device, sequence.launches, self.values((*places, sums, denominator, 0, 0)))


class LaunchSequence:
    """The launches of rows on a stream, with others before and behind."""

    def __init__(self, rows: RowLaunches, stream: int, before: list[Any], behind: list[Any]) -> None:
        row_kernels = rows.kernels()
        cells = len(CELLS) * max(1, len(row_kernels))
        self.launches = compiler.Launches(stream, [*before, *row_kernels, *behind], cells)
        self.device, self.number, self.up, self.place = rows.device, rows.number, 1.0, rows.scale
        self.scaled = range(len(before), len(before) + len(row_kernels))

    def scale(self, up: float) -> None:
        """Have later launches multiply gradients by `up`."""
        for kernel in self.scaled:
            self.launches.change(kernel, self.place, self.number(up))
        self.up = up


class SumLaunches:
    """The sum of the blocks' sums, or its mean."""

    def __init__(self, problem: Loss) -> None:
        self.device, self.mean = problem.device, problem.options.reduction == "mean"
        self.kernel = loaded_kernel(recipes.total_recipe(STORAGE[problem.x.dtype]), self.device, 1)
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def kernels(self) -> list[compiler.Kernel]:
        """The kernel of the sum."""
        return [self.kernel.with_arguments(SUMS, BLOCKS, DENOMINATOR, LOSS)]

    def __call__(self, stream: int, header: int, blocks: int, result: int) -> None:
        """Put it on a stream."""
        values = *(0,) * 8, result, header + HEADER, header if self.mean else 0, blocks, 0
        compiler.put(self.device, _prepared(self, stream), values)


def _prepared(launches: CountLaunches | SumLaunches, stream: int) -> compiler.Launches:
    """The launches on a stream, prepared at the first call there."""
    known = launches.prepared.get(stream)
    return known or launches.prepared.keep(stream, compiler.Launches(stream, launches.kernels(), len(CELLS)))


@dataclass(frozen=True, slots=True)
class StreamState:
    """The workspace of a stream, by its lock and address, and a call's launches there."""

    lock: Lock
    header: int
    rest: tuple[int, ...]  # the values of the cells behind the addresses of operands
    counting: LaunchSequence  # with the count of a mean
    plain: LaunchSequence  # without


class LossCall:
    """A cross-entropy for operands that look alike."""

    def __init__(self, problem: Loss) -> None:
        self.device, o = problem.device, problem.options
        self.mean, self.reduced = o.reduction == "mean", o.reduction != "none"
        self.rows = RowLaunches(problem)
        # The others too, needed or not, so that a check that comes later finds them loaded.
        self.count, self.sum = CountLaunches(problem), SumLaunches(problem)
        self.one = len(self.rows.launches) == 1
        self.states: Memo[int, StreamState] = Memo(STREAMS)

    def state_for(self, stream: int, workspace: Workspace) -> StreamState:
        """Prepare the call for a stream, with enough memory of a workspace."""
        header = workspace.reserve(max(self.rows.blocks, self.count.blocks))
        behind = self.sum.kernels() if self.reduced else []
        plain = LaunchSequence(self.rows, stream, [], behind)
        counting = LaunchSequence(self.rows, stream, self.count.kernels(), behind) if self.mean else plain
        rest = header + HEADER, header if self.mean else 0, self.rows.blocks, 0
        return self.states.keep(stream, StreamState(workspace.lock, header, rest, counting, plain))

    def __call__(
        self, places: tuple[int, ...], stream: int, state: StreamState, up: float = 1.0, check: bool | None = None
    ) -> None:
        """Put the call on a stream; with `check`, wait for it to find bad labels before anything is written.

        The `places` are the addresses of the cells from X to LOSS; `state` is what `state_for` returns for the stream,
        and gradients are multiplied by `up`.
        """
        values, sequence = places + state.rest, state.counting
        if not self.one:
            values = self.rows.values(values)
        with state.lock:
            if check:
                self.count((places[1], places[3], places[4]), stream, state.header, check=True)
                sequence = state.plain
            if up != sequence.up or up == 0:  # which may be -0.0
                sequence.scale(up)
            compiler.put(self.device, sequence.launches, values)

    def launch_empty(self, stream: int) -> None:
        """Launch every kernel with no rows, so that the driver has loaded it; `state_for` was called for stream 0."""
        state = self.states[0]
        header = state.header
        with state.lock:
            launch_once(self.count.kernel, self.device, stream, 0, 0, 0, header + HEADER, 0, 0, 0, 1)
            for kernel in (self.count.join, self.sum.kernel):
                launch_once(kernel, self.device, stream, header + HEADER, 0, 0, header)
            _launch_empty(self.rows, stream, self.rows.numbers)

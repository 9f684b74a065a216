"""Calls that look like an earlier one: everything but their addresses is packed beforehand, one dispatch does the rest.

A small call is mostly Python.  What follows from shapes, strides, dtypes and options was checked, planned and packed at
the first call of its kind; a prepared call allocates its results and enters compiled code once, where the labels are
checked, the parameters filled in (each call has a block of its own, so that threads never meet) and the kernel run.
"""

from typing import Any, NamedTuple

import numpy as np

from ..core.dtypes import LOGSUMEXP, computing_dtype
from ..core.strides import extent
from . import parameters as P
from .addresses import HEADER, address, in_struct
from .check import Arguments, Array, Loss, Map, last
from .execute import Job, Operands, Recipe, recipe_of
from .layouts import small
from .parameters import ALL_FIELDS, FIELDS, pack_block
from .parts import launch_parts
from .plan import PARALLEL_LABELS
from .run import loss_job, map_job, new, ordered
from .threads import launch

MOST = 2  # chunks of a small call: NumPy adds up more in another order
HELD = 1 << 12  # elements up to which the interpreter is held: a few microseconds


class Results(NamedTuple):
    """Examples of the arrays that a call makes, in the caller's order of axes, and the type of its loss."""

    out: Array | None = None  # None where the caller gives it, or there is none
    result: Array | None = None
    loss: Any = None
    mean: bool = False


class PreparedCall:
    """A function of operands that look like those that it was prepared for."""

    __slots__ = ("block", "dtype", "entry", "like", "loss", "place", "result", "shape")

    def __init__(self, block: Array, results: Results, entry: Any) -> None:
        self.entry, self.block, self.place, self.loss = entry, block, address(block), results.loss
        self.shape: Any = None if results.out is None else results.out.shape
        self.dtype: Any = None if results.out is None else results.out.dtype
        self.like = results.out is not None and not results.out.flags.c_contiguous
        self.result = None if results.result is None else (results.result.shape, results.result.dtype)

    def __call__(self, x: Array, second: Array | None, out: Array | None) -> tuple[Any, Array | None] | None:
        """(loss or row-wise result, output); None where this call's labels or memory need a closer look."""
        if out is None and self.shape is not None:
            out = np.empty_like(x) if self.like else np.empty(self.shape, self.dtype)
        result = None if self.result is None else np.empty(*self.result)
        done, loss = self.entry(
            self.place,
            id(x),
            0 if second is None else id(second),
            0 if out is None else id(out),
            0 if result is None else id(result),
            0,
        )
        if not done:
            return None
        if result is not None:
            return result[()], out
        return None if self.loss is None else self.loss(loss), out


class LaunchedCall(PreparedCall):
    """The same for calls that threads share: what is prepared saves 30 to 50 microseconds of Python before a launch."""

    __slots__ = ("recipe", "words")

    def __init__(self, block: Array, results: Results, entry: Any, recipe: Recipe) -> None:
        super().__init__(block, results, entry)
        self.recipe, self.words = recipe, ALL_FIELDS + recipe.chunks + small.ALIGN

    def __call__(self, x: Array, second: Array | None, out: Array | None) -> tuple[Any, Array | None] | None:
        """As that of a small call."""
        recipe, parts = self.recipe, self.recipe.parts
        threads = launch.threads_for() if recipe.parallel else 1
        cut = 0 if parts is None else parts.at_once(threads)
        if out is None and self.shape is not None:
            out = new(x, x.dtype)
        result = None if self.result is None else np.empty(*self.result)
        words = self.words + recipe.scratch * (cut or threads) // 8
        space: Any = np.empty(words + (parts.room(cut) if parts is not None else 0), np.int64)
        begin = address(space)
        ready, divisor = self.entry(
            *(self.place, id(x), 0 if second is None else id(second), 0 if out is None else id(out)),
            *(0 if result is None else id(result), begin),
        )
        if not ready:
            return None
        if parts is not None and cut:
            launch_parts(parts, cut, space, begin + words * 8, threads)
        else:
            launch.launch(recipe.kernel, begin, recipe.chunks, threads, recipe.run)
        if result is not None:
            return result[()], out
        return None if self.loss is None else self._loss(space, divisor), out

    @np.errstate(all="ignore")  # as for the first call
    def _loss(self, space: Any, divisor: float) -> Any:
        """The loss of partial losses, added up as those of the first call."""
        return self.loss(float(space[ALL_FIELDS : ALL_FIELDS + self.recipe.chunks].view(np.float64).sum()) / divisor)


def _extent(array: Array | None) -> tuple[int, int]:
    """The first byte of an array's elements and the one after the last, counted from its address."""
    return (0, 0) if array is None else extent(array.shape, array.strides, array.itemsize)


def prepare_map(problem: Map, kernel: str, variant: int, arguments: Arguments) -> PreparedCall | None:
    """`row_map` (or `logsumexp`) for operands that look like these; None where that takes more than one launch."""
    x, y = problem.x.array, None if problem.y is None else problem.y.array
    job = map_job(problem.x, kernel, variant)
    if variant == LOGSUMEXP:
        numbers = np.empty(x.shape[:-1], problem.x.dtype)
        return _prepare(job, Operands(x, result=numbers), Results(result=numbers), arguments)
    like, out = _output(problem.out, arguments)
    return _prepare(job._replace(streamed=like is None), Operands(x, y, out), Results(like), arguments)


def prepare_loss(problem: Loss, grad: bool, arguments: Arguments) -> PreparedCall | None:
    """`cross_entropy` for operands that look like these; None where that takes more than one launch."""
    x, dtype, reduction = problem.x.array, computing_dtype(problem.x.dtype), problem.options.reduction
    labels = None if problem.labels is None else arguments.second  # themselves, not an aligned copy of them
    if problem.widened or (labels is not None and not (labels.dtype == np.int64 and labels.flags.c_contiguous)):
        return None
    if labels is not None and labels.size >= PARALLEL_LABELS:  # which threads check
        return None
    like, out = _output(problem.out, arguments) if grad else (None, None)
    result = np.empty(x.shape[:-1], dtype) if reduction == "none" else None
    results = Results(like, result, dtype.type, reduction == "mean")
    data = Operands(x, problem.soft, out, target=labels, result=result)
    job = loss_job(problem, 1.0, grad=grad, streamed=grad and like is None)
    return _prepare(job, data, results, arguments)


def _output(out: Array | None, arguments: Arguments) -> tuple[Array | None, Any]:
    """(an example of the new array or None, where results go with the classes in the last axis)."""
    if out is not None:
        return None, out
    like = np.empty_like(arguments.x)
    return like, last(like, arguments.axis)


def _prepare(job: Job, data: Operands, results: Results, arguments: Arguments) -> PreparedCall | None:
    """The function of operands like `data`; None where one launch does not do."""
    data, order = ordered(data)
    if order is not None and any(a is not None for a in data[5:]):
        return None  # row-wise arrays are copied
    x, y, out, target = data.x, data.y, data.out, data.target
    # Whether the output is the logits, and whether it is the second operand, element by element.
    shared = [arguments.out is not None and arguments.out is a for a in (arguments.x, arguments.second)]
    recipe = None if x.size == 0 or not in_struct else recipe_of(job, data, in_place=shared[0])
    if recipe is None:
        return None
    second, field = (y, P.Y) if target is None else (target, P.TARGET)
    block: Any = np.zeros(small.HEAD + FIELDS, np.int64)
    block[: small.HEAD] = (
        *(recipe.kernel, recipe.chunks, recipe.scratch, HEADER, field, x.size // x.shape[-1]),
        *(results.mean, results.loss is np.float32, *shared),
        *(*_extent(x), *_extent(second), *_extent(out)),
    )
    call = (0,) * P.IGNORE_INDEX
    pack_block(block, small.HEAD * 8, *call, job.ignore_index, *job.numbers, recipe.shape)
    if recipe.parallel or recipe.chunks > MOST:
        return LaunchedCall(block, results, small.held.entry(), recipe)
    return PreparedCall(block, results, (small.held if x.size <= HELD else small.call).entry())

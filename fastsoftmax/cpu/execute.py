"""From operands to launched kernels: arrays become addresses and strides; what kernels do not read is converted.

The kernels take rows on two levels of strides.  Leading axes are merged where they can be; more levels are walked here.
Everything that follows from shapes, strides and dtypes is worked out once and remembered (a `Recipe`): a call on a
small batch is mostly Python, and would otherwise spend most of its time here.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..core.dtypes import ITEMSIZE, SOFTMAX, computing_dtype, storage_of
from ..core.options import Flags, Numbers
from ..core.strides import merged, nearest_two
from . import table
from .addresses import address
from .layouts.constants import BLOCKS, IN_REGISTERS, LANES
from .parameters import ALL_FIELDS, FIELDS, Shape, pack_block, pack_further, pack_shape, unpack_float
from .parts import Parts, launch_parts, parts_of
from .plan import CHUNK, PARALLEL, Plan, Way, plan, rows_in_lanes, rows_in_registers, run_of
from .threads import launch

Array = Any  # of NumPy
Strides = tuple[int, ...]
CONVERTED = 1 << 18  # elements of an operand that are converted at a time
NEUTRAL = Numbers()
#: Kernels of two layouts, rows and lanes, by the room in scratch that a tile of rows in lanes has.
COPIES = {"statistics": 1, "derivatives": 1, "hessian": 2, "divergence": 2, "listed": 5}


class Job(NamedTuple):
    """The facts that all pieces of one call have in common."""

    kernel: str
    flags: Flags
    variant: Any  # a constant of the kernel: the number of a map, or the columns of statistics
    dtype: np.dtype[Any]  # of the logits once they are readable, and of what is written
    numbers: Numbers = NEUTRAL
    ignore_index: int = 0
    class_weight: Array | None = None  # in the computing dtype
    offset: Array | None = None  # by class, likewise
    streamed: bool = False  # the output may be written past the caches
    curvature: float = 1.0  # a factor of the Hessian
    least: float = 0.0  # which it is raised to
    beta: float = 0.5  # the teacher's share in a mixture


class Operands(NamedTuple):
    """The arrays of a job, classes last, or views of some of their rows.  The row-wise ones are C-contiguous."""

    x: Array
    y: Array | None = None
    out: Array | None = None
    hessian: Array | None = None  # with the strides of `out`
    mask: Array | None = None  # bool, of any strides
    # Row-wise:
    target: Array | None = None
    loss_factor: Array | None = None
    grad_factor: Array | None = None
    third: Array | None = None
    result: Array | None = None
    # Several of a row, which stand in the first axis: statistics in the computing dtype, int64 and bool.
    columns: Array | None = None
    places: Array | None = None
    truths: Array | None = None

    def piece(self, *index: Any) -> "Operands":
        """Views of the rows at an index of the leading axes."""
        row = (*index, ...)
        one = (None if a is None else a[row] for a in self[:10])
        return Operands(*one, *(None if a is None else a[(slice(None), *row)] for a in self[10:]))

    def rows_in_all(self) -> int:
        """The number of elements from one statistic to the next, of the same row."""
        return next((a.strides[0] // a.itemsize for a in self[10:] if a is not None), 0)


class Recipe(NamedTuple):
    """All that shapes, strides and dtypes say about a launch."""

    kernel: int  # address
    chunks: int
    parallel: bool
    scratch: int  # bytes a thread
    height: int  # rows in a tile
    shape: bytes  # the fields of the shape
    mask: tuple[int, int, int] | None = None  # the strides of a mask
    parts: Parts | None = None  # how rows may be cut
    run: int = 1  # chunks that a thread takes at a time


def execute(job: Job, data: Operands) -> float:
    """Run a job on all rows of its operands; returns the sum of the losses (0 where there are none)."""
    x, y, out = data.x, data.y, data.out
    if x.size == 0:
        return 0.0
    in_place = out is not None and address(out) == address(x)  # by another view of the logits too
    recipe = recipe_of(job, data, in_place=in_place)
    if recipe is None:
        if x.dtype != job.dtype or (y is not None and y.dtype not in _y_dtypes(job.dtype)):
            return math.fsum(_converted(job, data))
        return math.fsum([execute(job, data.piece(i)) for i in range(x.shape[0])])
    return _launch(job, data, recipe)


def _launch(job: Job, data: Operands, recipe: Recipe) -> float:
    """Fill in the parameters of a call and run its kernel."""
    threads, parts = launch.threads_for() if recipe.parallel else 1, recipe.parts
    cut = 0 if parts is None else parts.at_once(threads)
    # One allocation: parameters, partial losses, scratch of threads or rows from a cache line's beginning, and states.
    size, scratch = ALL_FIELDS + recipe.chunks + 8, recipe.scratch * (cut or threads) // 8
    space: Array = np.empty(size + scratch + (parts.room(cut) if parts is not None else 0), np.int64)
    begin = address(space)
    pack_block(
        *(space, 0, 0, address(data.x), address(data.y), address(data.out)),
        *(address(data.target), address(job.class_weight), address(job.offset)),
        *(address(data.loss_factor), address(data.grad_factor), address(data.result)),
        *(begin + ALL_FIELDS * 8, (begin + size * 8) // 64 * 64, job.ignore_index),
        *job.numbers,
        recipe.shape,
    )
    pack_further(
        *(space, FIELDS * 8, address(data.columns), address(data.places), address(data.truths), data.rows_in_all()),
        *(0 if data.places is None else len(data.places), address(data.third), address(data.hessian)),
        *(address(data.mask), *(recipe.mask or (0, 0, 0))),
        *(job.curvature, job.least, job.beta),
    )
    if parts is not None and cut:
        launch_parts(parts, cut, space, begin + (size + scratch) * 8, threads)
    else:
        launch.launch(recipe.kernel, begin, recipe.chunks, threads, recipe.run)
    if job.kernel not in ("cross_entropy", "divergence", "listed"):
        return 0.0
    if recipe.chunks == 1:
        return float(unpack_float(space, ALL_FIELDS * 8)[0])
    return float(space[ALL_FIELDS : ALL_FIELDS + recipe.chunks].view(np.float64).sum())


def recipe_of(job: Job, data: Operands, *, in_place: bool) -> Recipe | None:
    """The recipe of a job for operands like these; `in_place` says that the output is the logits."""
    x, y, out = data.x, data.y, data.out
    return recipe_for(
        *(job.kernel, job.flags, job.variant, job.dtype, x.shape, x.dtype, x.strides, in_place),
        *(None if y is None else y.dtype, None if y is None else y.strides, None if out is None else out.strides),
        job.streamed,
        None if data.mask is None else data.mask.strides,
    )


@lru_cache(maxsize=4096)
def recipe_for(
    kernel: str,
    flags: Flags,
    variant: Any,
    dtype: np.dtype[Any],
    shape: Strides,
    x_dtype: np.dtype[Any],
    x: Strides,
    in_place: bool,
    y_dtype: np.dtype[Any] | None,
    y: Strides | None,
    out: Strides | None,
    streamed: bool = False,
    mask: Strides | None = None,
) -> Recipe | None:
    """The recipe for operands of some shapes and strides; None where the kernels cannot take them as they are."""
    written = ITEMSIZE[variant] if kernel == "hessian" else dtype.itemsize
    sizes = (dtype.itemsize, y_dtype.itemsize if y_dtype is not None else 0, written)
    if shape[-1] == 1:  # the step from class to class may be anything
        x, y, out = (*x[:-1], sizes[0]), y and (*y[:-1], sizes[1]), out and (*out[:-1], sizes[2])
        mask = mask and (*mask[:-1], 1)
    readable = x_dtype == dtype and (y_dtype is None or y_dtype in _y_dtypes(dtype))
    operands = tuple(s for s in (x, y, out, mask) if s is not None)
    levels = merged(shape, operands) if readable else None
    if levels is None or len(levels.lengths) > 2:
        return None
    (outer, inner), near = nearest_two(levels)
    steps = [(*two, s[-1]) for two, s in zip(near, operands, strict=True)]
    classes, width = shape[-1], 64 // computing_dtype(dtype).itemsize
    # A contiguous row of the same dtype that is not the logits'.
    apart = out is not None and not in_place and out[-1] == written == dtype.itemsize
    p, way, lanes = _cut(kernel, flags, variant, dtype, (outer, inner, classes), x, apart, streamed)
    layout, present = p.layout, iter(steps)
    *places, masked = [None if s is None else next(present) for s in (x, y, out, mask)]
    same = kernel in ("cross_entropy", "softmax") or (kernel == "hessian" and written == dtype.itemsize)
    if lanes and same and rows_in_registers(outer * inner, classes, steps):
        layout, way = IN_REGISTERS, Way(classes=classes)
    contiguous = [a is None or _nearness(layout, classes, a, size) for a, size in zip(places, sizes, strict=True)]
    way = way._replace(mask=masked is not None and _nearness(layout, classes, masked, 1))
    constants = flags, way, variant, storage_of(dtype), storage_of(y_dtype or dtype), *contiguous
    compiled = table.address(kernel, layout, *constants)
    parts = parts_of(kernel, constants, p, outer * inner, classes, writes=out is not None)
    strides, height = [step for place in places for step in place or (0, 0, 0)], p.tile * width if lanes else 1
    fields = Shape(outer * -(-inner // height), inner, classes, p.chunk, p.tile, p.scratch, *strides)
    run = 1 if out is None or streamed else run_of(p.chunks, math.prod(shape) * written)
    return Recipe(compiled, p.chunks, p.parallel, p.scratch, height, pack_shape(*fields), masked, parts, run)


def _cut(
    kernel: str,
    flags: Flags,
    variant: Any,
    dtype: np.dtype[Any],
    rows: tuple[int, int, int],
    x: Strides,
    apart: bool,
    streamed: bool,
) -> tuple[Plan, Way, bool]:
    """The plan of a kernel's work, its constants, and whether rows go in lanes.

    `rows` are the lengths of two levels of rows, and the number of classes; `apart` says that the output is contiguous,
    of the logits' dtype and not in their place.
    """
    work = computing_dtype(dtype)
    # With adjusted logits at hand, rows in lanes could not tell the slope of a softcap.
    lanes = rows_in_lanes(rows[-1], x, dtype.itemsize) and not (flags.adjusted and flags.cap)
    copied = kernel == "listed"  # the row, in any case
    strided = kernel not in ("vjp", "listed") and not lanes and x[-1] != dtype.itemsize
    used = variant == SOFTMAX if kernel == "softmax" else flags.grad
    keep = strided or (used and not (lanes and (flags.cap or flags.entropy)))
    if kernel in ("divergence", "listed"):  # in scratch, of both rows
        keep, apart = copied or not lanes, False
    if flags.adjusted:  # logits are in their place, and emitted by where they are -inf
        keep = used and not (flags.soft or flags.smooth or flags.cap or flags.entropy)
    streamable = apart and streamed and kernel != "vjp"
    direct = apart and dtype == work
    copies, mask = COPIES.get(kernel, 0), flags.mask
    p = plan(*rows, work.itemsize, lanes, keep, direct, streamable, copies, copied, flags.adjusted, mask)
    gathered = not lanes if flags.adjusted else strided and p.kept
    return p, Way(p.kept, gathered, p.direct, p.streamed), lanes


def _nearness(layout: int, classes: int, place: tuple[int, int, int], size: int) -> int:
    """Whether the elements of a vector are side by side, for the kernels of a layout.

    For rows in registers 2 says that the rows are, and 1 that the classes of each row are.
    """
    if layout == IN_REGISTERS:
        return (place[2] == size) * (1 + (place[1] == classes * size))
    return place[1 if layout in (LANES, BLOCKS) else 2] == size


def largest(x: Array, values: Array, indices: Array, labels: Array | None = None, ignore_index: int = 0) -> None:
    """The largest elements of each row in falling order, and their numbers; all arrays are C-contiguous.

    Rows whose label is to be ignored are not read: theirs are 0 and -1.
    """
    (rows, classes), k = x.shape, values.shape[1]
    chunk = max(1, CHUNK // classes)
    shape = Shape(rows, rows, classes, chunk, k, 0, x_step=x.itemsize)
    space: Array = np.empty(FIELDS, np.int64)
    call = (0, address(x), 0, address(values), address(labels), 0, 0, 0, 0, address(indices), 0, 0, ignore_index)
    pack_block(space, 0, *call, *NEUTRAL, pack_shape(*shape))
    threads = launch.threads_for() if x.size >= PARALLEL else 1
    launch.launch(table.address("largest", storage_of(x.dtype)), address(space), -(-rows // chunk), threads)


def _y_dtypes(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """The dtypes of a second operand, an upstream gradient or soft targets: the computing one, or the logits'."""
    return computing_dtype(dtype), dtype


def _converted(job: Job, data: Operands) -> Iterator[float]:
    """The losses of pieces whose operands are copied to what the kernels read, some rows at a time."""
    for index in pieces(data.x.shape[:-1], max(1, CONVERTED // data.x.shape[-1])):
        piece = data.piece(*index)
        y = piece.y
        if y is not None and y.dtype not in _y_dtypes(job.dtype):
            y = y.astype(_y_dtypes(job.dtype)[0])
        yield execute(job, piece._replace(x=piece.x.astype(job.dtype, copy=False), y=y))


def pieces(shape: tuple[int, ...], rows: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut leading axes of a shape into pieces of at most `rows` rows (but at least one)."""
    across = math.prod(shape[1:])
    if not shape or shape[0] * across <= rows:
        yield ()
    elif across < rows:
        for i in range(0, shape[0], rows // across):
            yield (slice(i, i + rows // across),)
    else:
        for i in range(shape[0]):
            yield from ((i, *rest) for rest in pieces(shape[1:], rows))

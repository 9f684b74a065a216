"""Checked problems, run: the result is allocated, the job described, and executed."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..core import rules
from ..core.dtypes import LOGSUMEXP, computing_dtype
from ..core.options import Flags, Numbers, Options, flags_of, numbers_of
from ..core.strides import axes_last, joined, overlap
from . import check, table
from .addresses import address
from .adjust import NOTHING, Adjust
from .check import Array, Loss, Map
from .derived import Divergence, Listed
from .execute import CONVERTED, Job, Operands, execute, pieces
from .layouts.labels import count as count_labels
from .parameters import FIELDS, Shape, pack_block, pack_shape
from .plan import LABELS, PARALLEL_LABELS, PARALLEL_WEIGHTS
from .threads import launch

ALIGNED = 1 << 18  # elements from which a new array is aligned to cache lines: below, it costs more than it gives


def same(a: Array, b: Array) -> bool:
    """Whether two arrays are the very same elements in the same places."""
    return address(a) == address(b) and (a.strides, a.shape, a.dtype) == (b.strides, b.shape, b.dtype)


def new(like: Array, dtype: np.dtype[Any]) -> Array:
    """An array in the shape and memory order of another; large ones begin a cache line.

    NumPy's begin 16 bytes after one, where the C library has a header: every store of a vector would touch two lines.
    """
    if like.size < ALIGNED or not like.flags.c_contiguous:
        return np.empty_like(like, dtype=dtype, subok=False)
    room = np.empty(like.size * dtype.itemsize + 63, np.uint8)
    return np.ndarray(like.shape, dtype, room, -address(room) % 64)


def destination(x: check.Rows, out: Array | None, in_place: list[Array], others: list[Array]) -> Array:
    """The array for results while operands are read: `out`, or a new one where writing would disturb them.

    An operand of `in_place` may be `out` itself, element by element.
    """
    if out is None:
        return new(x.array, x.dtype)
    disturbed = any(overlap(out, a) and not same(out, a) for a in in_place) or any(overlap(out, a) for a in others)
    return np.empty_like(out, subok=False) if disturbed else out


def undisturbed(labels: Array | None, *outs: Array | None) -> Array | None:
    """Labels, or a copy of them where results would be written over them."""
    if labels is not None and any(out is not None and overlap(out, labels) for out in outs):
        return labels.copy()
    return labels


def delivered(written: Array, out: Array | None) -> Array:
    """A result where it is wanted."""
    if out is None or written is out:
        return written
    np.copyto(out, written)
    return out


def ordered(data: Operands) -> tuple[Operands, tuple[int, ...] | None]:
    """Leading axes by the logits' strides, longest first, so that memory is walked in its own order."""
    if data.x.ndim <= 2:
        return data, None
    strides = [abs(s) for s in data.x.strides[:-1]]
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    if order == list(range(len(strides))):
        return data, None
    wide = [None if a is None else a.transpose(*order, len(order)) for a in data[:5]]
    narrow = [None if a is None else np.ascontiguousarray(a.transpose(order)) for a in data[5:10]]
    return Operands(*wide, *narrow), tuple(order)


def row_map(problem: Map, kernel: str, variant: int) -> Array:
    """softmax and log_softmax (kernel "softmax"), and their vector-Jacobian products ("vjp")."""
    x = problem.x
    sources = [x.array] if problem.y is None else [x.array, problem.y.array]
    out = destination(x, problem.out, sources, [])
    y = None if problem.y is None else problem.y.array
    data = ordered(Operands(x.array, y, out, mask=problem.adjust.mask))[0]
    execute(adjusted(map_job(x, kernel, variant, streamed=out is problem.out), problem.adjust), data)
    return delivered(out, problem.out)


def adjusted(job: Job, adjust: Adjust) -> Job:
    """The same job on adjusted logits."""
    if not adjust.given:
        return job
    offset = None if adjust.offset is None else adjust.offset.astype(computing_dtype(job.dtype))
    flags = job.flags._replace(adjusted=True, offset=offset is not None, mask=adjust.mask is not None)
    return job._replace(flags=flags, offset=offset)


def map_job(x: check.Rows, kernel: str, variant: int, *, streamed: bool = False) -> Job:
    """The job of a function from rows to rows, or to a number a row."""
    return Job(kernel, Flags(), variant, x.dtype, streamed=streamed)


def _merged(array: Array, leading: int) -> Array | None:
    """A view with all axes from number `leading` on merged into one; None where strides do not allow it."""
    axis = joined(array.shape, array.strides, leading) if leading < array.ndim else (1, array.itemsize)
    if axis is None:
        return None
    count, step = axis if axis[0] > 1 else (1, array.itemsize)
    shape, strides = (*array.shape[:leading], count), (*array.strides[:leading], step)
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def map_over_axes(problem: check.Axes, variant: int) -> Array:
    """softmax and log_softmax over several axes: they are merged into one, by a copy to the result if need be."""
    order, leading = axes_last(problem.axes, problem.array.strides), problem.array.ndim - len(problem.axes)
    moved = problem.array.transpose(order)
    x, adjust = _merged(moved, leading), _adjust_over_axes(problem.mask, order, leading)
    target = None if problem.out is None else _merged(problem.out.transpose(order), leading)
    if x is None or target is None:
        target = np.empty((*moved.shape[:leading], math.prod(moved.shape[leading:])), problem.dtype)
    if x is None:
        target.reshape(moved.shape)[...] = moved
        x = target
    result = row_map(Map(check.Rows(x, problem.dtype), None, target, adjust), "softmax", variant)
    if problem.out is not None and np.may_share_memory(result, problem.out):
        return problem.out
    return delivered(result.reshape(moved.shape).transpose(np.argsort(order)), problem.out)


def _adjust_over_axes(mask: Array | None, order: tuple[int, ...], leading: int) -> Adjust:
    """A mask with all axes from number `leading` on merged into one, as the logits'."""
    if mask is None:
        return NOTHING
    moved = mask.transpose(order)
    return Adjust(mask=moved.reshape(*moved.shape[:leading], -1))


def logsumexp_over_axes(problem: check.Axes) -> Array:
    """logsumexp over several axes; where they cannot be merged, rows are copied, some at a time."""
    if problem.array.size == 0:
        rest = [n for axis, n in enumerate(problem.array.shape) if axis not in problem.axes]
        return np.full(rest, -np.inf, problem.dtype)
    leading = problem.array.ndim - len(problem.axes)
    order = axes_last(problem.axes, problem.array.strides)
    moved, adjust = problem.array.transpose(order), _adjust_over_axes(problem.mask, order, leading)
    x = _merged(moved, leading)
    if x is not None:
        return logsumexp(Map(check.Rows(x, problem.dtype), None, None, adjust))
    classes = math.prod(moved.shape[leading:])
    result = np.empty(moved.shape[:leading], problem.dtype)
    for index in pieces(moved.shape[:leading], max(1, CONVERTED // classes)):
        rows = moved[(*index, ...)]
        flat = rows.astype(problem.dtype).reshape(*rows.shape[: rows.ndim - len(problem.axes)], classes)
        here = adjust if adjust.mask is None else Adjust(mask=adjust.mask[(*index, ...)])
        result[(*index, ...)] = logsumexp(Map(check.Rows(flat, problem.dtype), None, None, here))
    return result


def logsumexp(problem: Map) -> Array:
    """logsumexp of every row."""
    x = problem.x
    if x.array.shape[-1] == 0:
        return np.full(x.array.shape[:-1], -np.inf, x.dtype)
    result = np.empty(x.array.shape[:-1], x.dtype)
    data, order = ordered(Operands(x.array, mask=problem.adjust.mask, result=result))
    execute(adjusted(map_job(x, "softmax", LOGSUMEXP), problem.adjust), data)
    return restored(data.result, order)


def restored(result: Array | None, order: tuple[int, ...] | None) -> Array:
    """A row-wise result with its axes in the caller's order."""
    assert result is not None
    return result if order is None else result.transpose(np.argsort(order))


def counted(problem: Loss) -> float:
    """The sum of the weights of the rows that count, once every label is known to be in range."""
    labels, factors = problem.labels, problem.sample_weight
    if labels is None:
        rows = problem.x.array.size // problem.x.array.shape[-1]
        return float(rows if factors is None else factors.sum())
    classes = problem.x.array.shape[-1]
    if problem.class_weight is None and factors is None and labels.size < PARALLEL_LABELS:
        bad, total = count_labels(address(labels), labels.size, classes, problem.options.ignore_index)
    else:
        bad, total = _scanned(labels, classes, problem)
    if bad >= 0:
        position = np.unravel_index(int(bad), labels.shape)
        raise rules.bad_label(int(labels[position]), position, classes)
    return float(total)


def _scanned(labels: Array, classes: int, problem: Loss) -> tuple[float, float]:
    """(number of the first bad row or -1, sum of weights), by the kernel that takes weights and many labels."""
    weights, factors = problem.class_weight, problem.sample_weight
    chunks = -(-labels.size // LABELS)
    if not chunks:
        return -1.0, 0.0
    results: Any = np.empty((chunks, 2))
    space: Any = np.empty(FIELDS, np.int64)
    shape = Shape(labels.size, labels.size, classes, LABELS, 1, 0)
    pack_block(
        *(space, 0, 0, 0, 0, 0, address(labels), address(weights), 0, address(factors), 0),
        *(address(results), 0, 0, problem.options.ignore_index, *Numbers(), pack_shape(*shape)),
    )
    kernel = table.address("scan", weights is not None, factors is not None)
    threads = launch.threads_for() if labels.size >= PARALLEL_WEIGHTS else 1
    launch.launch(kernel, address(space), chunks, threads)
    bad = results[:, 0]
    return float(bad[bad >= 0].min(initial=math.inf) if bad.max() >= 0 else -1), float(results[:, 1].sum())


@lru_cache(maxsize=1024)
def _numbers(o: Options, classes: int, up: float, count: float) -> Numbers:
    """The numbers of a cross-entropy; `up` multiplies gradients, `count` is the denominator of the mean."""
    if o.reduction == "mean":
        up = up / count if count else math.nan  # as in torch, with smoothing too
    return numbers_of(o, classes)._replace(scale=up)


def factors_of(problem: Loss) -> tuple[Array | None, Array | None]:
    """The factors of each row's loss and of each row's gradient, in the computing dtype."""
    weight, up, dtype = problem.sample_weight, problem.grad_output, computing_dtype(problem.x.dtype)
    if weight is None and not isinstance(up, np.ndarray):
        return None, None
    shape = problem.x.array.shape[:-1]
    loss = np.ones(shape, dtype) if weight is None else weight.astype(dtype)
    if not isinstance(up, np.ndarray):
        return loss, loss
    return loss, (up if weight is None else up * weight).astype(dtype)


def loss_job(problem: Loss, count: float, *, grad: bool, streamed: bool = False) -> Job:
    """The job of a cross-entropy whose rows weigh `count` together."""
    dtype, options, up = computing_dtype(problem.x.dtype), problem.options, problem.grad_output
    class_weight = None if problem.class_weight is None else problem.class_weight.astype(dtype)
    numbers = _numbers(options, problem.x.array.shape[-1], 1.0 if isinstance(up, np.ndarray) else up, count)
    factors = problem.sample_weight is not None or isinstance(up, np.ndarray)
    hard, weighted = problem.labels is not None, class_weight is not None
    flags = flags_of(options, hard=hard, weighted=weighted, factors=factors, grad=grad)
    job = Job("cross_entropy", flags, 0, problem.x.dtype, numbers, options.ignore_index, class_weight)
    return adjusted(job._replace(streamed=streamed), problem.adjust)


def reduced(problem: Loss, total: float, count: float) -> Any:
    """The loss of rows whose losses add up to `total`."""
    mean = problem.options.reduction == "mean"
    return computing_dtype(problem.x.dtype).type((total / count if count else math.nan) if mean else total)


def cross_entropy(problem: Loss, grad: bool, listed: Listed | None = None, **change: Any) -> tuple[Any, Array | None]:
    """(loss, gradient or None) of a cross-entropy, or of what else a changed job computes."""
    if problem.widened:
        return _in_double(problem, grad, listed, change)
    x, labels, dtype = problem.x, problem.labels, computing_dtype(problem.x.dtype)
    count = counted(problem)
    out = None
    if grad:
        labels = undisturbed(labels, problem.out)
        out = destination(x, problem.out, [x.array], [] if problem.soft is None else [problem.soft])
    result = np.empty(x.array.shape[:-1], dtype) if problem.options.reduction == "none" else None
    third = None if listed is None else listed.excess.astype(dtype)
    rows = Operands(x.array, problem.soft, out, None, problem.adjust.mask, labels, *factors_of(problem), third, result)
    data, order = ordered(rows)
    if listed is not None:
        columns, places = _beside(listed.log_prob, order, dtype), _beside(listed.indices, order, np.dtype(np.int64))
        data = data._replace(columns=columns, places=places)
    job = loss_job(problem, count, grad=grad, streamed=out is problem.out)
    total = execute(job._replace(**change) if change else job, data)
    loss = reduced(problem, total, count) if result is None else restored(data.result, order)[()]
    return loss, None if out is None else delivered(out, problem.out)


def _beside(array: Array, order: tuple[int, ...] | None, dtype: np.dtype[Any]) -> Array:
    """Several numbers of each row, side by side and with rows in their order, by a view that has them first."""
    turned = array if order is None else array.transpose(*order, len(order))
    return np.moveaxis(np.ascontiguousarray(turned, dtype), -1, 0)


def divergence(problem: Divergence, grad: bool) -> tuple[Any, Array | None]:
    """(divergence, gradient or None) of a student from a teacher."""
    kernel = "divergence" if problem.listed is None else "listed"
    change = {"kernel": kernel, "variant": problem.variant, "beta": problem.beta, "streamed": False}
    return cross_entropy(problem.of, grad, problem.listed, **change)


def _in_double(problem: Loss, grad: bool, listed: Listed | None, change: dict[str, Any]) -> tuple[Any, Array | None]:
    """The same computed in float64, and rounded to the dtypes that the narrower logits have it in."""
    x = problem.x
    loss, written = cross_entropy(check.in_double(problem)._replace(out=None), grad, listed, **change)
    loss = np.asarray(loss).astype(computing_dtype(x.dtype))[()]
    return loss, None if written is None else delivered(written.astype(x.dtype), problem.out)

"""Functions of arrays in main memory: prepared for arrays that look alike, or checked and run.

Numba, whose import takes half a second, is imported by the first call that computes.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import memo, rules
from ..core.conversion import numbers, positive, whole
from ..core.dtypes import LOGSUMEXP, computing_dtype
from ..core.interrupts import imported
from ..core.options import Options
from ..core.statistics import BITS
from . import check, derived
from .check import Array

#: Calls by their keys, some 2 KB each; None where a call takes more than one launch.
_prepared = memo.shared(4096)


#: The dtype of labels that prepared calls read.
INT64 = np.dtype(np.int64)


def _long_labels(logits: Any, target: Array) -> Array:
    """Labels of fewer bytes as int64, so that a call on them is prepared as well; other targets as they are."""
    dtype = target.dtype
    if dtype.kind in "iu" and dtype.itemsize < INT64.itemsize and target.ndim < getattr(logits, "ndim", 0):
        return target.astype(INT64)
    return target


def _run() -> Any:
    return imported(".run", __package__)


def _key(x: Any, second: Any, axis: Any, out: Any, *constants: Any) -> tuple[Any, ...] | None:
    """All that the checks and the plan of a call depend on but the contents of arrays.

    None where an argument is no plain array (nor, for those that may be left out, None), or the axis no plain number.
    """
    if type(x) is not np.ndarray or type(axis) is not int:
        return None
    others: tuple[Any, ...] = ()
    if second is not None:
        if type(second) is not np.ndarray:
            return None
        others = (second.shape, second.strides, second.dtype)
    if out is not None:
        if type(out) is not np.ndarray or not out.flags.writeable:
            return None
        others = (*others, out.shape, out.strides, out.dtype, out is x, out is second)
    return (x.shape, x.strides, x.dtype, others, axis, constants)


def _keep(key: Any, prepare: str, *arguments: Any) -> None:
    """Have later calls of the same key, one of which went well, prepared."""
    if key is not None and key not in _prepared:
        _prepared.keep(key, getattr(imported(".prepared", __package__), prepare)(*arguments))


def _as_asked(written: Any, axis: Any, out: Array | None) -> Any:
    """An output with its axes as the caller has them."""
    if out is not None:
        return out
    return written if axis == -1 or written is None else np.moveaxis(written, -1, axis)


def rows(
    x: Any, y: Any, axis: Any, out: Any, kernel: str, variant: int, keepdims: bool = False, where: Any = None
) -> Any:
    """A function from rows to rows, or (of the variant LOGSUMEXP) to a number a row."""
    key = _key(x, y, axis, out, kernel, variant) if where is None else None
    prepared = _prepared.get(key)
    results = None if prepared is None else prepared(x, y, out)
    if results is None:
        results, axis = _rows(key, x, y, axis, out, kernel, variant, where)
    if variant != LOGSUMEXP:
        return results[1]
    return np.expand_dims(results[0], axis) if keepdims else results[0]


@np.errstate(all="ignore")  # whatever the caller has NumPy do: infinities and NaN are results like others
def _rows(key: Any, x: ArrayLike, y: Any, axis: Any, out: Any, kernel: str, variant: int, where: Any) -> Any:
    """((a number a row or None, rows or None), axes) of a call that is checked first."""
    sums = variant == LOGSUMEXP  # which of nothing are -inf
    if kernel == "softmax":
        axis = rules.alone(axis, numbers("x", x).ndim)
    if kernel == "softmax" and (axis is None or isinstance(axis, tuple)):
        axes = check.over_axes(x, axis, out, empty=sums, where=where)
        if variant == LOGSUMEXP:
            return (_run().logsumexp_over_axes(axes)[()], None), axes.axes
        return (None, _run().map_over_axes(axes, variant)), axes.axes
    axis = whole("axis", axis, "an integer")
    if kernel == "softmax":
        problem = check.row_map(x, axis, out, empty=sums, where=where)
    else:
        problem = check.product(x, y, axis, out)
    result = written = None
    if variant == LOGSUMEXP:
        result = _run().logsumexp(problem)[()]
    else:
        written = _run().row_map(problem, kernel, variant)
    _keep(key, "prepare_map", problem, kernel, variant, check.Arguments(x, y, axis, out))
    return (result, _as_asked(written, axis, out)), axis


@np.errstate(all="ignore")  # as for `_rows`
def row_stats(
    logits: ArrayLike,
    target: Any,
    variant: int,
    axis: Any,
    options: Options,
    k: Any,
    adjust: tuple[Any, Any],
) -> dict[str, Any]:
    """The statistics of a set, by name; `adjust` is a mask and an offset of the classes."""
    problem = derived.statistics(logits, target, whole("axis", axis, "an integer"), options, adjust)
    most = positive("k", k, problem.x.array.shape[-1]) if variant & BITS["top_k"] else 0
    result: dict[str, Any] = imported(".statistics", __package__).row_stats(problem, variant, most)
    return result


@np.errstate(all="ignore")  # as for `_rows`
def row_stats_vjp(
    logits: ArrayLike,
    target: Any,
    upstreams: tuple[Any, ...],
    axis: Any,
    options: Options,
    out: Any,
    adjust: tuple[Any, Any],
) -> Any:
    """The gradient of statistics, by their upstream gradients."""
    axis = whole("axis", axis, "an integer")
    problem = derived.row_stats_vjp(logits, target, upstreams, axis, options, out, adjust)
    return _as_asked(imported(".statistics", __package__).row_stats_vjp(problem), axis, out)


@np.errstate(all="ignore")  # as for `_rows`
def grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    weights: tuple[Any, Any],
    axis: Any,
    options: Options,
    hessian: Any,
    least: Any,
    dtype: Any,
    out: Any,
) -> tuple[Any, Any]:
    """(gradient, diagonal of the Hessian)."""
    axis = whole("axis", axis, "an integer")
    problem = derived.grad_hess(logits, target, weights, axis, options, (hessian, least), dtype, out)
    grad, hess = imported(".hessian", __package__).grad_hess(problem)
    outs = (None, None) if out is None else out
    return _as_asked(grad, axis, outs[0]), _as_asked(hess, axis, outs[1])


@np.errstate(all="ignore")  # as for `_rows`
def divergence(
    student: ArrayLike,
    teacher: ArrayLike,
    axis: Any,
    kind: tuple[Any, Any],
    sample_weight: Any,
    options: Options,
    grad_output: Any,
    out: Any,
    grad: bool,
    where: Any = None,
) -> Any:
    """(divergence, gradient or None) of a student from a teacher."""
    axis = whole("axis", axis, "an integer")
    problem = derived.divergence(student, teacher, axis, kind, sample_weight, options, grad_output, out, where)
    value, written = _run().divergence(problem, grad)
    return value, _as_asked(written, axis, out)


@np.errstate(all="ignore")  # as for `_rows`
def signed_logsumexp(x: ArrayLike, axis: Any, b: Any, keepdims: bool, return_sign: bool, where: Any = None) -> Any:
    """The logarithm of the magnitude of a sum with factors, and its sign if that is wanted, by SciPy."""
    array = numbers("x", x)
    axis = rules.alone(axis, array.ndim)
    axes_given = axis if axis is None or isinstance(axis, tuple) else (axis,)
    problem = check.over_axes(array, axes_given, None, empty=True, where=where)
    work, axes = computing_dtype(problem.dtype), problem.axes
    factors = None if b is None else numbers("b", b).astype(work)
    if factors is not None:
        rules.factors(factors.shape, array.shape)
    if any(array.shape[axis] == 0 for axis in axes):  # of which SciPy before 1.15 has no maximum
        nothing = np.zeros(array.shape, problem.dtype).sum(axis=axes, keepdims=keepdims)
        return (nothing - np.inf, nothing) if return_sign else nothing - np.inf
    wide = array.astype(work, copy=False)
    if problem.mask is not None:
        wide = np.where(problem.mask, wide, work.type(-np.inf))
        factors = None if factors is None else np.where(problem.mask, factors, work.type(0))
    if not axes:  # each element is alone
        wide, axes = wide[..., None], (array.ndim,)
        factors = None if factors is None else np.broadcast_to(factors, array.shape)[..., None]
    of = imported("scipy.special", __package__).logsumexp
    found = of(wide, axis=axes, b=factors, keepdims=keepdims and bool(problem.axes), return_sign=return_sign)
    narrow = tuple(np.asarray(part).astype(problem.dtype)[()] for part in (found if return_sign else (found,)))
    return narrow if return_sign else narrow[0]


def loss(
    logits: ArrayLike,
    target: ArrayLike,
    class_weight: Any,
    sample_weight: Any,
    grad_output: Any,
    out: Any,
    axis: Any,
    options: Options,
    grad: bool,
    check_targets: Any = None,  # on a GPU alone: here labels are always checked
    where: Any = None,
    class_offset: Any = None,
) -> Any:
    """(loss, gradient or None) of a cross-entropy."""
    key = None
    plain = class_weight is None and sample_weight is None and where is None and class_offset is None
    if plain and grad_output is None:
        if type(target) is np.ndarray and target.dtype is not INT64:
            target = _long_labels(logits, target)
        key = _key(logits, target, axis, out, grad, options)
    prepared = _prepared.get(key)
    results = None if prepared is None else prepared(logits, target, out)
    if results is not None:
        return results
    weights, adjust = (class_weight, sample_weight), (where, class_offset)
    axis = whole("axis", axis, "an integer")
    return _loss(key, logits, target, axis, weights, options, grad_output, out, grad, adjust)


@np.errstate(all="ignore")  # as for `_rows`
def _loss(
    key: Any,
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weights: tuple[Any, Any],
    options: Options,
    grad_output: Any,
    out: Any,
    grad: bool,
    adjust: tuple[Any, Any],
) -> Any:
    problem = check.cross_entropy(logits, target, axis, *weights, options, grad_output, out, adjust)
    value, written = _run().cross_entropy(problem, grad=grad)
    _keep(key, "prepare_loss", problem, grad, check.Arguments(logits, target, axis, out))
    return value, _as_asked(written, axis, out)

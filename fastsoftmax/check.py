"""Arguments to checked, normalised problems: every user error is raised here, and only here.

What comes out has the classes in the last axis, the dtype of results beside the logits as they came, row-wise arrays
that are C-contiguous, and options that are plain numbers.
"""

import math
import operator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import wording
from .spec import storage_of

Array = NDArray[Any]
REDUCTIONS = ("mean", "sum", "none")


class Options(NamedTuple):
    """The options of a loss, checked."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    focal_gamma: float
    temperature: float
    softcap: float | None
    reduction: str


class Rows(NamedTuple):
    """An operand with its classes in the last axis."""

    array: Array
    dtype: np.dtype[Any]  # of results, and of the logits where they must be converted first


class Loss(NamedTuple):
    """A cross-entropy to compute."""

    x: Rows
    labels: Array | None  # class indices: int64, C-contiguous, shape (...); or
    soft: Array | None  # probabilities with the classes in the last axis
    class_weight: Array | None  # float64
    sample_weight: Array | None  # float64, shape (...)
    grad_output: Array | float  # float64
    options: Options
    out: Array | None  # where the gradient goes, with the classes in the last axis


class Map(NamedTuple):
    """A function from rows to rows (or to a number a row) to compute."""

    x: Rows
    y: Rows | None  # the second operand of a vector-Jacobian product
    out: Array | None


class Given(NamedTuple):
    """The array arguments of a call, as they came."""

    x: Any
    second: Any  # of a product, or the target
    axis: Any
    out: Any


def form(x: Any, second: Any, axis: Any, out: Any, *constants: Any) -> tuple[Any, ...] | None:
    """What a call looks like: all that its checks depend on but the contents of arrays.

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


def numbers(name: str, value: ArrayLike) -> Array:
    """`value` as an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers; NumPy cannot make one: {error}") from None
    if (array.dtype.kind in "biuf" and array.dtype.itemsize <= 8) or array.dtype.name == "bfloat16":
        return array
    raise TypeError(
        f"{name} must have dtype float16, bfloat16, float32, float64 or an integer dtype, got {array.dtype} "
        f"with shape {array.shape}; convert it, for example with {name}.astype(numpy.float64)"
    )


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of results: that of floating input in native byte order, float64 for integers."""
    if storage_of(dtype) >= 0:
        return dtype
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def rows(name: str, value: ArrayLike, axis: Any) -> Rows:
    """An operand whose classes are along `axis`."""
    array = value if type(value) is np.ndarray and storage_of(value.dtype) >= 0 else numbers(name, value)
    ndim = array.ndim
    if axis != -1 or ndim == 0:
        axis = wording.axis_of(axis, ndim, name)
        if axis != ndim - 1:
            array = np.moveaxis(array, axis, -1)
    if array.shape[-1] == 0:
        raise wording.no_class(name, axis, np.shape(value))
    return Rows(array, result_dtype(array.dtype))


def output(out: Any, like: Array, dtype: np.dtype[Any], name: str = "out") -> None:
    """Check an `out=` argument against the shape and dtype of the result."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(out).__name__}; leave it out to get a new array")
    about = out.shape, out.strides, out.dtype, not out.flags.writeable
    error = wording.wrong_output(name, about, like.shape, dtype, "numpy.empty_like(...)")
    if error is not None:
        raise error


def last(out: Array | None, axis: Any) -> Array | None:
    """`out` with the classes in the last axis."""
    return out if out is None or axis == -1 else np.moveaxis(out, axis, -1)


def _number(name: str, value: Any, low: float, *, strict: bool = False, high: float = math.inf) -> float:
    """A finite option within its bounds."""
    bounds = f"{'>' if strict else '>='} {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number {bounds}, got {value!r}") from None
    if not (math.isfinite(number) and low <= number <= high and (number > low or not strict)):
        raise ValueError(f"{name} must be a finite number {bounds}, got {value!r}")
    return number


def _options(
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    focal_gamma: Any,
    temperature: Any,
    softcap: Any,
    reduction: Any,
) -> Options:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")
    try:
        ignored = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}") from None
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index must fit in 64 bits, got {ignored}")
    return Options(
        ignored,
        _number("label_smoothing", label_smoothing, 0.0, high=1.0),
        _number("z_loss", z_loss, 0.0),
        _number("focal_gamma", focal_gamma, 0.0),
        _number("temperature", temperature, 0.0, strict=True),
        None if softcap is None or softcap == math.inf else _number("softcap", softcap, 0.0, strict=True),
        reduction,
    )


_cached_options = lru_cache(maxsize=256, typed=True)(_options)  # 1.0 is no ignore_index


def options(*values: Any) -> Options:
    """The checked options; a set of values that was seen before costs one look-up."""
    try:
        return _cached_options(*values)
    except TypeError:
        once_more = _options  # for values that cannot be hashed, or that are refused with an error of their own
    return once_more(*values)


def _indices(target: Array, x: Array) -> Array:
    """Class indices as a C-contiguous, aligned int64 array; their range is checked when the rows are counted."""
    if target.dtype == np.uint64 and target.size and np.max(target) > np.iinfo(np.int64).max:
        row = np.unravel_index(int(np.argmax(target)), target.shape)
        raise wording.bad_label(int(np.max(target)), row, x.shape[-1])
    if target.dtype == np.int64 and target.flags.carray:
        return target
    return np.array(target, dtype=np.int64, order="C")


def _target(target: ArrayLike, x: Array, axis: Any, ignore_index: int) -> tuple[Array | None, Array | None]:
    """(class indices, None) or (None, probabilities with the classes in the last axis)."""
    array = target if type(target) is np.ndarray else numbers("target", target)
    kind = array.dtype.kind
    if kind in "iu" and array.shape == x.shape[:-1]:
        return _indices(array, x), None
    original = x.shape if axis == -1 else np.moveaxis(x, -1, axis).shape
    if array.shape == original:
        wording.no_ignored_rows(ignore_index)
        array = numbers("target", array)
        return None, array if axis == -1 else np.moveaxis(array, axis, -1)
    if array.shape == x.shape[:-1]:
        raise TypeError(
            f"class indices must have an integer dtype, got {array.dtype} with shape {array.shape}; "
            "use target.astype(numpy.int64)"
        )
    raise wording.wrong_target(x.shape[:-1], original, array.shape)


def weights(name: str, value: ArrayLike, shape: tuple[int, ...], meaning: str) -> Array:
    """Finite, nonnegative weights in float64."""
    array = numbers(name, value).astype(np.float64, order="C")
    if array.shape != shape:
        raise wording.wrong_weights(name, shape, meaning, array.shape)
    good = (array >= 0) & (array < math.inf)
    if not good.all():
        where = tuple(map(int, np.argwhere(~good)[0]))
        raise ValueError(f"{name} must hold finite numbers >= 0, got {array[where]} at {where}")
    return array


def _grad_output(value: ArrayLike, shape: tuple[int, ...], reduction: str) -> Array | float:
    array = numbers("grad_output", value)
    if array.ndim == 0:
        return float(array)
    wording.upstream(array.shape, shape, reduction)
    return array.astype(np.float64, order="C")


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    axis: Any,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    opts: Options,
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
) -> Loss:
    """A cross-entropy problem from the arguments of the public functions."""
    x = rows("logits", logits, axis)
    shape = x.array.shape[:-1]
    labels, soft = _target(target, x.array, axis, opts.ignore_index)
    if soft is not None:
        wording.not_focal(opts.focal_gamma)
    if out is not None:
        output(out, np.asarray(logits), x.dtype)
    return Loss(
        x,
        labels,
        soft,
        None if class_weight is None else weights("class_weight", class_weight, x.array.shape[-1:], "a class"),
        None if sample_weight is None else weights("sample_weight", sample_weight, shape, "a row"),
        1.0 if grad_output is None else _grad_output(grad_output, shape, opts.reduction),
        opts,
        last(out, axis),
    )


def row_map(x: ArrayLike, axis: Any, out: Array | None) -> Map:
    """A softmax-like problem along one axis."""
    r = rows("x", x, axis)
    if out is not None:
        output(out, np.asarray(x), r.dtype)
    return Map(r, None, last(out, axis))


def product(y: ArrayLike, grad: ArrayLike, axis: Any, out: Array | None) -> Map:
    """A vector-Jacobian product along one axis."""
    a, b = rows("y", y, axis), rows("grad", grad, axis)
    if a.array.shape != b.array.shape:
        raise ValueError(f"grad must have the shape of y, {np.shape(y)}, got {np.shape(grad)}")
    if out is not None:
        output(out, np.asarray(y), a.dtype)
    return Map(a, b, last(out, axis))


class Axes(NamedTuple):
    """A softmax-like problem over several axes at once."""

    array: Array
    dtype: np.dtype[Any]  # of results
    axes: tuple[int, ...]  # sorted
    out: Array | None


def over_axes(x: ArrayLike, axis: tuple[Any, ...] | None, out: Array | None) -> Axes:
    """A softmax-like problem over a tuple of axes, or all of them."""
    array = numbers("x", x)
    found = wording.axes_of(axis, array.shape)
    dtype = result_dtype(array.dtype)
    if out is not None:
        output(out, array, dtype)
    return Axes(array, dtype, found, out)

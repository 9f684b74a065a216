"""Arguments to checked, normalised problems: every user error is raised here, and only here.

What comes out has the classes in the last axis, the dtype of results beside the logits as they came, row-wise arrays
that are C-contiguous, and options that are plain numbers.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import rules
from ..core.conversion import array_of, is_convertible, is_read, numbers, real
from ..core.dtypes import computed, storage_of
from ..core.options import Options, for_probabilities, in_precision, wide_enough
from ..core.weights import held, scaled, upstream, weights
from .adjust import NOTHING, Adjust, adjustment, broadcast

Array = NDArray[Any]


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
    widened: bool = False  # whether narrower logits are computed in float64, as an option needs it
    adjust: Adjust = NOTHING


def in_double(problem: Loss) -> Loss:
    """The same problem on logits that are converted to float64."""
    double = np.dtype(np.float64)
    return problem._replace(x=Rows(problem.x.array.astype(double), double), widened=False)


class Map(NamedTuple):
    """A function from rows to rows (or to a number a row) to compute."""

    x: Rows
    y: Rows | None  # the second operand of a vector-Jacobian product
    out: Array | None
    adjust: Adjust = NOTHING


class Arguments(NamedTuple):
    """The array arguments of a call, as they came."""

    x: Any
    second: Any  # of a product, or the target
    axis: Any
    out: Any


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of results: that of floating input in native byte order, float64 for integers."""
    if storage_of(dtype) >= 0:
        return dtype
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def rows(name: str, value: Any, axis: Any, *, empty: bool = False) -> Rows:
    """An operand whose classes are along `axis`; `empty` says that there may be none."""
    array = value if type(value) is np.ndarray and storage_of(value.dtype) >= 0 else numbers(name, value)
    ndim = array.ndim
    if axis != -1 or ndim == 0:
        axis = rules.axis_of(axis, ndim, name)
        if axis != ndim - 1:
            array = np.moveaxis(array, axis, -1)
    if array.shape[-1] == 0 and not empty:
        raise rules.no_class(name, axis, np.shape(value))
    return Rows(array, result_dtype(array.dtype))


def output(out: Any, like: Array, dtype: np.dtype[Any], name: str = "out") -> None:
    """Check an `out=` argument against the shape and dtype of the result."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(out).__name__}; leave it out to get a new array")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain array, got a masked one, whose mask would not change; pass {name}.data"
        )
    about = out.shape, out.strides, out.dtype, not out.flags.writeable
    rules.output(name, about, like.shape, dtype, out.itemsize, "numpy.empty_like(...)")


def last(array: Array, axis: Any) -> Array:
    """An array with the classes in the last axis."""
    return array if axis == -1 else np.moveaxis(array, axis, -1)


def destination(out: Any, like: Array, dtype: np.dtype[Any], axis: Any) -> Array | None:
    """An `out=` argument, checked, with the classes in the last axis."""
    if out is None:
        return None
    output(out, like, dtype)
    return last(out, axis)


def _indices(target: Array, x: Array) -> Array:
    """Class indices as a C-contiguous, aligned int64 array; their range is checked when the rows are counted."""
    if target.dtype == np.uint64 and target.size and np.max(target) > np.iinfo(np.int64).max:
        row = np.unravel_index(int(np.argmax(target)), target.shape)
        raise rules.bad_label(int(np.max(target)), row, x.shape[-1])
    if target.dtype == np.int64 and target.flags.carray:
        return target
    return np.array(target, dtype=np.int64, order="C")


def target_of(
    target: ArrayLike, logits: Array, x: Array, axis: Any, options: Options
) -> tuple[Array | None, Array | None]:
    """(class indices, None) or (None, probabilities with the classes in the last axis), for logits and their rows."""
    array, rows = array_of("target", target), x.shape[:-1]
    if array.shape == rows:
        if array.dtype.kind not in "iu":
            raise _no_indices(array)
        return _indices(array, x), None
    about = array.shape, real("target", target, array).dtype, array.dtype.kind in "biu"
    mend = "numpy.asarray(target, dtype=numpy.float64)"
    rules.probabilities(about, logits.shape, rows, mend, options.ignore_index)
    for_probabilities(options)
    return None, last(array, axis)


def _no_indices(target: Array) -> TypeError:
    """The error for class indices that are no integers."""
    if target.dtype.kind == "c":
        mend = "pass numpy.real(target).astype(numpy.int64)"
    elif target.dtype.kind == "f" and target.size and not (np.mod(target, 1) == 0).all():
        where = tuple(map(int, np.argwhere(~(np.mod(target, 1) == 0))[0]))
        mend = f"{target[where]} at {where} is no class; pass the number of a class for each row"
    elif is_convertible(target, np.int64):
        mend = "pass numpy.asarray(target, dtype=numpy.int64)"
    else:
        mend = "for the number of each label in their sorted order pass numpy.unique(target, return_inverse=True)[1]"
    said = "class indices" if is_read(target.dtype) else "target must have dtype int64, say: class indices"
    return TypeError(f"{said} must have an integer dtype, got {target.dtype} with shape {target.shape}; {mend}")


def weights_of(
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    x: Array,
    labels: Array | None,
    opts: Options,
    dtype: str,
) -> tuple[Array | None, Array | None]:
    """Weights of the classes and of the rows, which a mean scales as it likes: they are divided by their sum."""
    of_class, of_row = None, None
    if class_weight is not None:
        of_class = weights("class_weight", class_weight, x.shape[-1:], "a class")
        free = opts.reduction == "mean" and labels is not None  # the mean of soft targets is over the rows' weights
        of_class = scaled(of_class, dtype) if free else held("class_weight", of_class, dtype)
    if sample_weight is not None:
        of_row = weights("sample_weight", sample_weight, x.shape[:-1], "a row")
        if opts.reduction != "mean":
            return of_class, held("sample_weight", of_row, dtype)
        weight = scaled(of_row, dtype)
        if weight is not of_row and labels is not None:  # far from 1: those of rows that do not count must not decide
            weight = scaled(np.where(labels == opts.ignore_index, 0.0, of_row), dtype)
        of_row = weight
    return of_class, of_row


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    axis: Any,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    opts: Options,
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
    adjust: tuple[Any, Any] = (None, None),
) -> Loss:
    """A cross-entropy problem from the arguments of the public functions; `adjust` is a mask and an offset."""
    array, x, dtype, opts = logits_of(logits, axis, opts)
    shape = x.array.shape[:-1]
    labels, soft = target_of(target, array, x.array, axis, opts)
    to = destination(out, array, x.dtype, axis)
    return Loss(
        *(x, labels, soft, *weights_of(class_weight, sample_weight, x.array, labels, opts, dtype)),
        1.0 if grad_output is None else upstream(grad_output, shape, opts.reduction, dtype),
        opts,
        to,
        dtype != computed(x.dtype.name),
        adjustment(*adjust, array, axis, dtype),
    )


def logits_of(logits: ArrayLike, axis: Any, opts: Options, name: str = "logits") -> tuple[Array, Rows, str, Options]:
    """(logits as they came, their rows, the dtype to compute in, the options in its precision)."""
    array = numbers(name, logits)
    x = rows(name, array, axis)
    dtype = wide_enough(opts, computed(x.dtype.name))
    return array, x, dtype, in_precision(opts, dtype)


def row_map(x: ArrayLike, axis: Any, out: Array | None, *, empty: bool = False, where: Any = None) -> Map:
    """A softmax-like problem along one axis."""
    array = numbers("x", x)
    operand = rows("x", array, axis, empty=empty)
    adjust = adjustment(where, None, array, axis, computed(operand.dtype.name))
    return Map(operand, None, destination(out, array, operand.dtype, axis), adjust)


def product(y: ArrayLike, grad: ArrayLike, axis: Any, out: Array | None) -> Map:
    """A vector-Jacobian product along one axis."""
    y_array, grad_array = numbers("y", y), numbers("grad", grad)
    a, b = rows("y", y_array, axis), rows("grad", grad_array, axis)
    rules.same_shape(y_array.shape, grad_array.shape)
    return Map(a, b, destination(out, y_array, a.dtype, axis))


class Axes(NamedTuple):
    """A softmax-like problem over several axes at once."""

    array: Array
    dtype: np.dtype[Any]  # of results
    axes: tuple[int, ...]  # sorted
    out: Array | None
    mask: Array | None = None


def over_axes(
    x: ArrayLike, axis: tuple[Any, ...] | None, out: Array | None, *, empty: bool = False, where: Any = None
) -> Axes:
    """A softmax-like problem over a tuple of axes, or all of them."""
    array = numbers("x", x)
    axes = rules.axes_of(axis, array.shape, empty=empty)
    dtype = result_dtype(array.dtype)
    mask = None if where is None else broadcast(where, array.shape)
    return Axes(array, dtype, axes, destination(out, array, dtype, -1), mask)

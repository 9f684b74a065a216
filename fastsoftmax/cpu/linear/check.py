"""Arguments of linear passes to checked, normalised problems; those of the losses in `cpu.check`."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core.compressed import Compressed, compressed, sparse_format
from ...core.conversion import dtype_of, natural, numbers, positive, positive_or_none
from ...core.options import Options, wide_enough
from ...core.rules import bias_shape, direction, features_shape, outputs, shown, weight_shape, wrt_names
from ...core.strides import overlap
from ...core.weights import held, scaled, weights
from .. import check, derived
from ..check import Array, Loss, Rows

LONGEST = 2**31 - 1  # features, and logits a row


class Features(NamedTuple):
    """The features of n rows, as they came: an array, or a sparse matrix in CSR or CSC format."""

    array: Any
    dtype: np.dtype[Any]  # of gradients
    shape: tuple[int, int]
    sparse: str | None  # "csr", "csc"
    parts: Compressed | None = None  # of a sparse matrix, checked


class Linear(NamedTuple):
    """Logits ``x Wᵀ + b``, and the dtype that they are computed in."""

    x: Features
    weight: Rows  # (classes, features)
    bias: Rows | None
    dtype: np.dtype[Any]

    @property
    def classes(self) -> int:
        """The number of classes."""
        rows: int = self.weight.array.shape[0]
        return rows

    @property
    def proba_dtype(self) -> np.dtype[Any]:
        """The dtype of probabilities: that of the features, where it is a half type and they are computed wider."""
        return self.x.dtype if self.x.dtype.itemsize == 2 and self.dtype.itemsize == 4 else self.dtype


class LinearLoss(NamedTuple):
    """A cross-entropy of such logits, and the gradients that are asked for."""

    linear: Linear
    loss: Loss  # of virtual logits
    wanted: tuple[str, ...]
    out: Mapping[str, Array]
    block: int | None


def _features(x: Any) -> Features:
    kind = sparse_format(x)
    if kind is None:
        array = numbers("x", x)
        features_shape(array.shape)
        return Features(array, check.result_dtype(array.dtype), array.shape, None)
    if kind not in ("csr", "csc"):
        raise TypeError(
            f"x must be an array or a sparse matrix in CSR or CSC format, got {type(x).__name__}; use x.tocsr()"
        )
    dtype = check.result_dtype(numbers("x", x.data).dtype)
    features_shape(x.shape)
    return Features(x, dtype, x.shape, kind, compressed(x))


def _countable(features: Features, logits: int) -> None:
    """Refuse sizes that BLAS cannot be told of."""
    if not features.sparse and max(features.shape[1], logits) > LONGEST:
        raise ValueError(
            f"x must have at most {LONGEST} features, and as many logits a row, as BLAS counts them in 32 bits; got x "
            f"of shape {features.shape} and {logits} logits a row"
        )


def linear(x: Any, weight: ArrayLike, bias: ArrayLike | None, names: tuple[str, str] = ("weight", "bias")) -> Linear:
    """The logits of features, checked, which may be those of another problem."""
    features, w = x if isinstance(x, Features) else _features(x), numbers(names[0], weight)
    weight_shape(w.shape, features.shape, names[0])
    _countable(features, w.shape[0])
    dtypes = features.dtype, check.result_dtype(w.dtype)
    double = any(d.itemsize == 8 for d in dtypes)
    b = None
    if bias is not None:
        array = numbers(names[1], bias)
        bias_shape(array.shape, w.shape[0], names[1])
        b = Rows(array, check.result_dtype(array.dtype))
    return Linear(features, Rows(w, dtypes[1]), b, np.dtype(np.float64 if double else np.float32))


def _virtual(problem: Linear) -> Array:
    """Logits that have a shape and a dtype, and no memory."""
    return np.broadcast_to(np.zeros((), problem.dtype), (problem.x.shape[0], problem.classes))


def _wanted(wrt: Any, problem: Linear) -> tuple[str, ...]:
    names = wrt_names(wrt)
    if "x" in names and problem.x.sparse:
        raise ValueError("wrt must not name 'x' when x is sparse, as its gradient is dense; use x.toarray()")
    return tuple(n for n in names if n != "bias" or problem.bias is not None)


def _outputs(out: Any, wanted: tuple[str, ...], problem: Linear) -> Mapping[str, Array]:
    arrays = outputs(out, wanted)
    likes: dict[str, Any] = {
        "x": (problem.x.array, problem.x.dtype),
        "weight": problem.weight,
        "bias": problem.bias,
    }
    for name, array in arrays.items():
        like, dtype = likes[name]
        check.output(array, like, dtype, name=f"out[{name!r}]")
    for (name, a), (other, b) in combinations(arrays.items(), 2):
        if overlap(a, b):
            raise ValueError(f"out[{other!r}] must not share memory with out[{name!r}]; pass an array for each")
    return arrays


def row_stats(
    x: Any, weight: ArrayLike, target: ArrayLike | None, bias: ArrayLike | None, opts: Options, offset: Any
) -> tuple[Linear, Loss]:
    """Logits of features, and what statistics of them are of: their target and options."""
    problem = linear(x, weight, bias)
    return problem, derived.statistics(_virtual(problem), target, -1, opts, (None, offset))


def loss(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: Options,
    *,
    block_rows: Any = None,
    grad_output: ArrayLike | None = None,
    wrt: Any = (),
    out: Any = None,
    class_offset: Any = None,
) -> LinearLoss:
    """A cross-entropy of a linear map from the arguments of the public functions."""
    problem = linear(x, weight, bias)
    problem = problem._replace(dtype=np.dtype(wide_enough(options, problem.dtype.name)))
    rows = target, -1, class_weight, sample_weight, options, grad_output
    about = check.cross_entropy(_virtual(problem), *rows, adjust=(None, class_offset))
    wanted = _wanted(wrt, problem)
    block = positive_or_none("block_rows", block_rows)
    return LinearLoss(problem, about, wanted, _outputs(out, wanted, problem), block)


def hessian(
    x: Any,
    weight: ArrayLike,
    bias: ArrayLike | None,
    weight_direction: ArrayLike,
    bias_direction: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
) -> tuple[Linear, Linear, Array | None]:
    """(where, in which direction, factors of the rows) of a product with the Hessian."""
    problem = linear(x, weight, bias)
    along = linear(problem.x, weight_direction, bias_direction, ("weight_direction", "bias_direction"))
    direction(problem.weight.array.shape, along.weight.array.shape, (bias, bias_direction), reduction)
    _countable(problem.x, 2 * problem.classes)
    problem = problem._replace(dtype=np.result_type(problem.dtype, along.dtype))
    rows = problem.x.shape[:1]
    factors = None if sample_weight is None else weights("sample_weight", sample_weight, rows, "a row")
    if reduction == "mean":
        factors = np.ones(rows) if factors is None else scaled(factors, problem.dtype.name)
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = factors / factors.sum()
    elif factors is not None:
        factors = held("sample_weight", factors, problem.dtype.name)
    return problem, along, factors


def proba(x: Any, weight: ArrayLike, bias: ArrayLike | None, out: Array | None) -> tuple[Linear, Array | None]:
    """(logits, where their probabilities go)."""
    problem = linear(x, weight, bias)
    if out is not None:
        check.output(out, _virtual(problem), problem.proba_dtype)
    return problem, out


def virtual_problem(rows: Any, features: Any, classes: Any, dtype: Any, wrt: Any, block_rows: Any) -> LinearLoss:
    """A cross-entropy of arrays that have shapes and strides, and no memory."""
    n, d = (natural(name, value) for name, value in (("rows", rows), ("features", features)))
    k = positive("classes", classes)
    kind = check.result_dtype(dtype_of("dtype", dtype))
    if (n * max(d, k) + k * d) * 8 >= 2**62:
        raise ValueError(f"rows, features and classes must be those of arrays, got {shown((n, d, k))}")

    def array(shape: tuple[int, ...], of: np.dtype[Any]) -> Array:
        strides = np.cumprod((of.itemsize, *shape[:0:-1]))[::-1]
        return np.lib.stride_tricks.as_strided(np.zeros(1, of), shape, strides, writeable=False)

    about = linear(array((n, d), kind), array((k, d), kind), array((k,), kind))
    options = Options()
    loss_ = Loss(
        Rows(_virtual(about), about.dtype), array((n,), np.dtype(np.int64)), None, None, None, 1.0, options, None
    )
    return LinearLoss(about, loss_, _wanted(wrt, about), {}, positive_or_none("block_rows", block_rows))

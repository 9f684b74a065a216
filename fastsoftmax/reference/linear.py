"""The functions of features, from logits that are held whole."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..api.linear import LinearLossAndGrad
from ..api.statistics import RowStats, TopK
from .losses import cross_entropy_and_grad
from .maps import Array, converted, log_softmax, softmax, softmax_vjp
from .statistics import row_stats


def linear_logits(x: Any, weight: ArrayLike, bias: ArrayLike | None, dtype: DTypeLike) -> tuple[Array, Array, Array]:
    """Features, weights and logits ``X Wᵀ + b``; what a sparse matrix does not store takes no part in a product."""
    a, w = x.astype(dtype) if hasattr(x, "toarray") else converted(x, dtype), converted(weight, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return a, w, np.asarray(a @ w.T) + (0 if bias is None else converted(bias, dtype))


def linear_cross_entropy(x: Any, weight: ArrayLike, target: ArrayLike, bias: Any = None, **options: Any) -> Any:
    """The loss of `linear_cross_entropy_and_grad`."""
    return linear_cross_entropy_and_grad(x, weight, target, bias, wrt=(), **options).loss


def linear_cross_entropy_and_grad(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike = 1.0,
    grad_output: ArrayLike = 1.0,
    ignore_index: int = -100,
    wrt: tuple[str, ...] = ("weight", "bias"),
    dtype: DTypeLike = np.float64,
    **options: Any,
) -> LinearLossAndGrad:
    """Cross-entropy of ``X Wᵀ + b``, without the rows that are ignored; options are those of `cross_entropy`."""
    y = np.asarray(target)
    used = y != ignore_index if y.ndim == 1 else np.ones(len(y), bool)
    features = x.astype(dtype) if hasattr(x, "toarray") else np.asarray(x)  # SciPy picks no rows of half types
    a, w, z = linear_logits(features[used], weight, bias, dtype)
    rows, up = (np.broadcast_to(v, used.shape)[used] for v in (sample_weight, grad_output))
    loss, g = cross_entropy_and_grad(z, y[used], sample_weight=rows, grad_output=up, dtype=dtype, **options)
    if np.ndim(loss):
        loss = _spread(loss, used)
    return LinearLossAndGrad(
        loss,
        _spread(g @ w, used) if "x" in wrt else None,
        np.asarray(g.T @ a) if "weight" in wrt else None,
        g.sum(axis=0) if "bias" in wrt and bias is not None else None,
    )


def _spread(rows: Array, used: Array) -> Array:
    """The rows that are used in their places, and zeros in those of the others."""
    result = np.zeros((*used.shape, *rows.shape[1:]), rows.dtype)
    result[used] = rows
    return result


def linear_hessian_product(
    x: Any,
    weight: ArrayLike,
    bias: ArrayLike | None,
    weight_direction: ArrayLike,
    bias_direction: ArrayLike | None,
    *,
    sample_weight: ArrayLike = 1.0,
    reduction: str = "mean",
    dtype: DTypeLike = np.float64,
) -> tuple[Array, Array | None]:
    """``sum_i s_i (diag(p_i) - p_i p_iᵀ) (V x_i + v) (x_iᵀ, 1)``; the mean divides by the sum of the ``s_i``."""
    a, _, z = linear_logits(x, weight, bias, dtype)
    s = np.broadcast_to(converted(sample_weight, dtype), len(z))
    up = linear_logits(x, weight_direction, bias_direction, dtype)[2] * s[:, None]
    u = up / (s.sum() if reduction == "mean" else 1)
    g = softmax_vjp(softmax(z, dtype=dtype), u, dtype=dtype)
    return np.asarray(g.T @ a), None if bias is None else g.sum(axis=0)


def linear_predict(x: Any, weight: ArrayLike, bias: Any = None, *, dtype: DTypeLike = np.float64) -> NDArray[np.int64]:
    """The first class of the largest logit."""
    result: NDArray[np.int64] = linear_logits(x, weight, bias, dtype)[2].argmax(axis=1)
    return result


def linear_predict_proba(x: Any, weight: ArrayLike, bias: Any = None, *, dtype: DTypeLike = np.float64) -> Array:
    """The softmax of the logits."""
    return softmax(linear_logits(x, weight, bias, dtype)[2], dtype=dtype)


def linear_top_k(x: Any, weight: ArrayLike, bias: Any = None, *, k: int, dtype: DTypeLike = np.float64) -> TopK:
    """The classes of the k largest logits (NaN is the largest), of equal ones the first; their log-probabilities."""
    z = linear_logits(x, weight, bias, dtype)[2]
    indices = np.lexsort((-np.nan_to_num(z, nan=0, posinf=np.inf, neginf=-np.inf), ~np.isnan(z)), axis=1)[:, :k]
    return TopK(indices, np.take_along_axis(log_softmax(z, dtype=dtype), indices, axis=1))


def linear_row_stats(
    x: Any, weight: ArrayLike, target: Any = None, bias: Any = None, *, dtype: DTypeLike = np.float64, **options: Any
) -> RowStats:
    """`row_stats` of the logits."""
    return row_stats(linear_logits(x, weight, bias, dtype)[2], target, dtype=dtype, **options)

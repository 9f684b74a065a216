"""The public functions in plain float64 NumPy: the specification, and the oracle of the tests.

Everything is converted to float64, nothing is fused, and nothing is taken from the formulas that the kernels compile.
Each function also takes the dtype to compute in: ``dtype=numpy.longdouble`` is a yardstick for float64, and
``dtype=numpy.float32`` says what these formulas lose when they are evaluated as they stand.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .api.cross_entropy import LossAndGrad
from .api.linear import LinearLossAndGrad, TopK

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None


def _converted(x: Any, dtype: DTypeLike) -> Array:
    return x.astype(dtype).toarray() if hasattr(x, "toarray") else np.asarray(x).astype(dtype)


def logsumexp(x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, dtype: DTypeLike = np.float64) -> Any:
    """``log(sum_j exp(x_j))``; infinite where the maximum is."""
    z = _converted(x, dtype)
    m = z.max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.exp(np.where(z == m, 0.0, z - m)).sum(axis=axis, keepdims=True)
        result = m + np.log(total)
    return result if keepdims else np.squeeze(result, axis)[()]


def log_softmax(x: ArrayLike, axis: Axis = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``(x_j - m) - log(sum_i exp(x_i - m))``; NaN where the maximum is infinite."""
    z = _converted(x, dtype)
    with np.errstate(invalid="ignore"):
        d = z - z.max(axis=axis, keepdims=True)
        result: Array = d - np.log(np.exp(d).sum(axis=axis, keepdims=True))
    return result


def softmax(x: ArrayLike, axis: Axis = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``exp(x_j - m) / sum_i exp(x_i - m)``; NaN where the maximum is infinite."""
    z = _converted(x, dtype)
    with np.errstate(invalid="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        result: Array = e / e.sum(axis=axis, keepdims=True)
    return result


def softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``y_j (g_j - sum_i g_i y_i)``."""
    y, g = _converted(y, dtype), _converted(grad, dtype)
    result: Array = y * (g - (g * y).sum(axis=axis, keepdims=True))
    return result


def log_softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``g_j - exp(y_j) sum_i g_i``."""
    y, g = _converted(y, dtype), _converted(grad, dtype)
    result: Array = g - np.exp(y) * g.sum(axis=axis, keepdims=True)
    return result


def cross_entropy(logits: ArrayLike, target: ArrayLike, **options: Any) -> Any:
    """The loss of `cross_entropy_and_grad`."""
    return cross_entropy_and_grad(logits, target, **options).loss


def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike = 1.0,
    dtype: DTypeLike = np.float64,
) -> LossAndGrad:
    """Cross-entropy and its gradient; the parameters are those of `fastsoftmax.cross_entropy_and_grad`."""
    x = np.moveaxis(_converted(logits, dtype), axis, -1)
    w = np.ones(x.shape[-1], dtype) if class_weight is None else _converted(class_weight, dtype)
    rows = np.ones(x.shape[:-1], dtype) if sample_weight is None else _converted(sample_weight, dtype)
    with np.errstate(all="ignore"):
        z = x if softcap is None else softcap * np.tanh(x / softcap)
        slope = np.ones_like(x) if softcap is None else 1 - np.tanh(x / softcap) ** 2
        z, slope = z / temperature, slope / temperature
        if np.ndim(target) == x.ndim - 1:
            used = np.asarray(target) != ignore_index
            t = np.where(used, target, 0).astype(np.int64)[..., None]
            row_weight = w[t][..., 0]
            loss, grad = _of_indices(z, t, w, label_smoothing, focal_gamma, poly_epsilon)
        else:
            used, row_weight = np.ones(x.shape[:-1], dtype=bool), np.ones(x.shape[:-1], dtype)
            q = np.moveaxis(_converted(target, dtype), axis, -1)
            loss, grad = _of_probabilities(z, w * ((1 - label_smoothing) * q + label_smoothing / x.shape[-1]))
        lse = logsumexp(z, keepdims=True, dtype=dtype)
        loss = loss + z_loss * row_weight * lse[..., 0] ** 2
        grad = (grad + 2 * z_loss * row_weight[..., None] * lse * softmax(z, dtype=dtype)) * slope
        count = (row_weight * rows)[used].sum()
        divisor = (count or np.nan) if reduction == "mean" else 1.0  # the mean of nothing is NaN
        scale = np.broadcast_to(_converted(grad_output, dtype), rows.shape) * rows / divisor
        loss = np.where(used, loss * rows, 0.0)
        grad = np.where(used[..., None], grad * scale[..., None], 0.0)
        total = loss[()] if reduction == "none" else loss.sum() / divisor
    return LossAndGrad(total, np.moveaxis(grad, -1, axis))


def _of_indices(
    z: Array, t: NDArray[np.int64], w: Array, smoothing: float, gamma: float, epsilon: float
) -> tuple[Array, Array]:
    """The loss a row of class indices `t`, of shape (..., 1), and its gradient."""
    m = z.max(axis=-1, keepdims=True)
    one_hot = np.arange(z.shape[-1]) == t
    e, d_t = np.exp(z - m), np.take_along_axis(z - m, t, -1)
    s, others = e.sum(axis=-1, keepdims=True), np.where(one_hot, 0.0, e).sum(axis=-1, keepdims=True)
    p, u = e / s, others / s  # u is 1 - p_t
    nll = np.where(d_t == 0, np.log1p(others), np.log(s) - d_t)  # so that small losses have all their digits
    p_t = np.take_along_axis(p, t, -1)
    term, slope = _focal(nll + epsilon * u, 1 + epsilon * p_t, u, p_t, gamma)
    loss = (1 - smoothing) * w[t] * term
    grad = (1 - smoothing) * w[t] * slope * np.where(one_hot, -u, p)
    if smoothing:
        share = smoothing / z.shape[-1]
        loss = loss + share * _weighted(w, np.where(one_hot, nll, np.log(s) - (z - m))).sum(axis=-1, keepdims=True)
        grad = grad + share * (w.sum() * p - w)
    return loss[..., 0], grad


def _of_probabilities(z: Array, v: Array) -> tuple[Array, Array]:
    """The loss a row, ``sum_j v_j (-log p_j)``, and its gradient."""
    loss = _weighted(v, -log_softmax(z, dtype=z.dtype)).sum(axis=-1)
    return loss, v.sum(axis=-1, keepdims=True) * softmax(z, dtype=z.dtype) - v


def _weighted(w: Array, x: Array) -> Array:
    """``w * x`` with 0 * inf = 0: a class of weight 0 adds nothing, however impossible it is."""
    return np.where(w == 0, 0.0, w * x)


def _focal(term: Array, slope: Array, u: Array, q: Array, gamma: float) -> tuple[Any, Any]:
    """``(1-q)**gamma term`` and its derivative by nll, for that of the term, ``q = p_t`` and ``u = 1 - q``."""
    if gamma == 0:
        return term, slope
    steepness = np.where(q == 0, 0.0, gamma * q * np.where(u == 0, 1.0, term / u))
    return u**gamma * term, u**gamma * (slope + steepness)


def _linear(x: Any, weight: ArrayLike, bias: ArrayLike | None, dtype: DTypeLike) -> tuple[Array, Array, Array]:
    """Features, weights and logits ``X Wᵀ + b``; what a sparse matrix does not store takes no part in a product."""
    a, w = x.astype(dtype) if hasattr(x, "toarray") else _converted(x, dtype), _converted(weight, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return a, w, np.asarray(a @ w.T) + (0 if bias is None else _converted(bias, dtype))


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
    a, w, z = _linear(features[used], weight, bias, dtype)
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
    a, _, z = _linear(x, weight, bias, dtype)
    s = np.broadcast_to(_converted(sample_weight, dtype), len(z))
    u = _linear(x, weight_direction, bias_direction, dtype)[2] * s[:, None] / (s.sum() if reduction == "mean" else 1)
    g = softmax_vjp(softmax(z, dtype=dtype), u, dtype=dtype)
    return np.asarray(g.T @ a), None if bias is None else g.sum(axis=0)


def linear_predict(x: Any, weight: ArrayLike, bias: Any = None, *, dtype: DTypeLike = np.float64) -> NDArray[np.int64]:
    """The first class of the largest logit."""
    result: NDArray[np.int64] = _linear(x, weight, bias, dtype)[2].argmax(axis=1)
    return result


def linear_predict_proba(x: Any, weight: ArrayLike, bias: Any = None, *, dtype: DTypeLike = np.float64) -> Array:
    """The softmax of the logits."""
    return softmax(_linear(x, weight, bias, dtype)[2], dtype=dtype)


def linear_top_k(x: Any, weight: ArrayLike, bias: Any = None, *, k: int, dtype: DTypeLike = np.float64) -> TopK:
    """The classes of the k largest logits (NaN is the largest), of equal ones the first; their log-probabilities."""
    z = _linear(x, weight, bias, dtype)[2]
    indices = np.lexsort((-np.nan_to_num(z, nan=0, posinf=np.inf, neginf=-np.inf), ~np.isnan(z)), axis=1)[:, :k]
    return TopK(indices, np.take_along_axis(log_softmax(z, dtype=dtype), indices, axis=1))

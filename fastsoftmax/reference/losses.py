"""Cross-entropy with all of its options, and its gradient."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..api.cross_entropy import LossAndGrad
from .maps import Array, converted, log_softmax, logsumexp, softmax, transformed


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
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike = 1.0,
    dtype: DTypeLike = np.float64,
) -> LossAndGrad:
    """Cross-entropy and its gradient; the parameters are those of `fastsoftmax.cross_entropy_and_grad`."""
    with np.errstate(all="ignore"):
        x, z, slope, there = transformed(logits, axis, softcap, temperature, where, class_offset, dtype)
        w = np.ones(x.shape[-1], dtype) if class_weight is None else converted(class_weight, dtype)
        rows = np.ones(x.shape[:-1], dtype) if sample_weight is None else converted(sample_weight, dtype)
        if np.ndim(target) == x.ndim - 1:
            used = np.asarray(target) != ignore_index
            t = np.where(used, target, 0).astype(np.int64)[..., None]
            row_weight = w[t][..., 0]
            loss, grad = _of_indices(z, t, w, w * there, label_smoothing, focal_gamma, poly_epsilon)
        else:
            used, row_weight = np.ones(x.shape[:-1], dtype=bool), np.ones(x.shape[:-1], dtype)
            q = np.moveaxis(converted(target, dtype), axis, -1)
            loss, grad = _of_probabilities(z, w * ((1 - label_smoothing) * q + label_smoothing / x.shape[-1] * there))
        lse = logsumexp(z, keepdims=True, dtype=dtype)
        loss = loss + z_loss * row_weight * lse[..., 0] ** 2
        grad = (grad + 2 * z_loss * row_weight[..., None] * lse * softmax(z, dtype=dtype)) * slope
        total, grad = _reduced(loss, grad, used, row_weight, rows, reduction, converted(grad_output, dtype))
    return LossAndGrad(total, np.moveaxis(grad, -1, axis))


def _reduced(
    loss: Array, grad: Array, used: Array, row_weight: Array, rows: Array, reduction: str, up: Array
) -> tuple[Any, Array]:
    """The loss of all rows and its gradient, by weights of the rows that count, and an upstream gradient."""
    divisor = ((row_weight * rows)[used].sum() or np.nan) if reduction == "mean" else 1.0  # the mean of nothing is NaN
    scale = np.broadcast_to(up, rows.shape) * rows / divisor
    loss, grad = np.where(used, loss * rows, 0.0), np.where(used[..., None], grad * scale[..., None], 0.0)
    return loss[()] if reduction == "none" else loss.sum() / divisor, grad


def _of_indices(
    z: Array, t: NDArray[np.int64], w: Array, v: Array, smoothing: float, gamma: float, epsilon: float
) -> tuple[Array, Array]:
    """The loss a row of class indices `t`, of shape (..., 1), and its gradient; `v` are weights in smoothing."""
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
        loss = loss + share * _weighted(v, np.where(one_hot, nll, np.log(s) - (z - m))).sum(axis=-1, keepdims=True)
        grad = grad + share * (v.sum(axis=-1, keepdims=True) * p - v)
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

"""Gradient and diagonal of the Hessian."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..api.boosting import GradHess
from .losses import cross_entropy_and_grad
from .maps import Array, converted


@np.errstate(all="ignore")
def cross_entropy_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    hessian: str = "diagonal",
    min_hessian: float = 0.0,
    dtype: DTypeLike = np.float64,
) -> GradHess:
    """``A p (1 - p) / T**2`` and its kin; the parameters are those of `fastsoftmax.cross_entropy_grad_hess`."""
    loss: dict[str, Any] = {"axis": axis, "ignore_index": ignore_index, "temperature": temperature, "dtype": dtype}
    weights: dict[str, Any] = {"class_weight": class_weight, "sample_weight": sample_weight}
    loss |= {"label_smoothing": label_smoothing, "focal_gamma": focal_gamma, "reduction": "none"}
    grad = cross_entropy_and_grad(logits, target, **weights, **loss).grad
    x = np.moveaxis(converted(logits, dtype), axis, -1)
    q = _distribution(target, x, axis, ignore_index)
    w = np.ones(x.shape[-1], dtype) if class_weight is None else converted(class_weight, dtype)
    rows = np.ones(x.shape[:-1], dtype) if sample_weight is None else converted(sample_weight, dtype)
    p, but_p = _probabilities(x / temperature)
    total, bend = _curvature(p, but_p, q, w, label_smoothing, None if np.ndim(target) == x.ndim else focal_gamma)
    factor = {"upper": 2, "lightgbm": x.shape[-1] / max(x.shape[-1] - 1, 1)}.get(hessian, 1)
    hess = (factor * total * p * but_p + bend) * rows[..., None] / temperature**2
    if hessian == "residual":
        hess = np.abs(np.moveaxis(grad, axis, -1)) / temperature
    hess = np.where(q.any(-1, keepdims=True) | (np.ndim(target) == x.ndim), hess, 0.0)
    return GradHess(grad, np.moveaxis(np.where(hess < min_hessian, min_hessian, hess), -1, axis))


def _curvature(p: Array, but_p: Array, q: Array, w: Array, smoothing: float, gamma: float | None) -> tuple[Any, Any]:
    """The factor of ``p (1 - p)``, and what is added to it; without a `gamma` of probabilities `q`."""
    share = smoothing / p.shape[-1]
    if gamma is None:
        return (w * ((1 - smoothing) * q + share)).sum(-1, keepdims=True), 0.0
    p_t, u = (p * q).sum(-1, keepdims=True), (but_p * q).sum(-1, keepdims=True)
    slope, bend = _focal(p_t, u, gamma)
    keep = (1 - smoothing) * (w * q).sum(-1, keepdims=True)
    return keep * slope + share * w.sum(), keep * bend * np.where(q == 1, but_p, p) ** 2


def _distribution(target: ArrayLike, x: Array, axis: int, ignore_index: int) -> Array:
    """The target of each row over the classes; 0 for ignored rows."""
    if np.ndim(target) == x.ndim:
        return np.moveaxis(converted(target, x.dtype), axis, -1)
    labels = np.where(np.asarray(target) == ignore_index, -1, target)
    result: Array = (np.arange(x.shape[-1]) == labels[..., None]).astype(x.dtype)
    return result


def _probabilities(z: Array) -> tuple[Array, Array]:
    """(p, 1 - p), the latter of a row's first maximum by the sum of the others."""
    e, first = np.exp(z - z.max(-1, keepdims=True)), np.arange(z.shape[-1]) == z.argmax(-1)[..., None]
    s, rest = e.sum(-1, keepdims=True), np.where(first, 0.0, e).sum(-1, keepdims=True)
    return e / s, np.where(first, rest / s, (s - e) / s)


def _focal(p: Array, u: Array, gamma: float) -> tuple[Any, Any]:
    """The first and the second derivative of ``(1-p)**gamma n`` by ``n = -log p``."""
    if gamma == 0:
        return 1.0, 0.0
    n = np.where(p > 0.5, -np.log1p(-u), -np.log(p))
    ratio = np.where(u == 0, 1.0, n / u)
    bend = gamma * p * u ** (gamma - 1) * (2 - n + (gamma - 1) * p * ratio)
    return u**gamma * (1 + gamma * np.where(p == 0, 0.0, p * ratio)), np.where((u == 0) | (p == 0), 0.0, bend)

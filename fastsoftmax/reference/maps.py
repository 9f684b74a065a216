"""Softmax, its logarithm, log-sum-exp, and vector-Jacobian products."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None


def converted(x: Any, dtype: DTypeLike) -> Array:
    """An array in the dtype that is computed in."""
    return x.astype(dtype).toarray() if hasattr(x, "toarray") else np.asarray(x).astype(dtype)


def adjusted(z: Array, where: Any = None, class_offset: Any = None, axis: int = -1) -> Array:
    """Logits plus an offset for each class along an axis, and -inf where a mask is False."""
    with np.errstate(invalid="ignore"):
        if class_offset is not None:
            o = np.asarray(class_offset, z.dtype).reshape([-1] + [1] * (z.ndim - 1 - axis % z.ndim))
            z = np.where(o == -np.inf, o, z + o)
        return z if where is None else np.where(where, z, -np.inf)


def transformed(
    logits: ArrayLike,
    axis: int,
    softcap: float | None,
    temperature: float,
    where: ArrayLike | None,
    class_offset: ArrayLike | None,
    dtype: DTypeLike,
) -> tuple[Array, Array, Array, Array]:
    """Logits with their classes last, as they came and as they are used; the slope between them; 0 for no class."""
    x = np.moveaxis(converted(logits, dtype), axis, -1)
    y = x if softcap is None else np.tanh(x / softcap)
    z, slope = (x, np.ones_like(x)) if softcap is None else (softcap * y, 1 - y**2)
    z, slope, there = z / temperature, slope / temperature, np.ones_like(x)
    if where is not None or class_offset is not None:
        mask = None if where is None else np.moveaxis(np.broadcast_to(where, np.shape(logits)), axis, -1)
        z = adjusted(z, mask, class_offset)
        there = np.where(z == -np.inf, 0.0, 1.0).astype(z.dtype)
        slope = np.where(z == -np.inf, 0.0, slope)
    return x, z, slope, there


def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, where: Any = None, b: Any = None, keepdims: bool = False,
    return_sign: bool = False, dtype: DTypeLike = np.float64,
) -> Any:  # fmt: skip
    """``log(sum_j b_j exp(x_j))``, or that of the sum's size, and its sign; a class is not looked at where b is 0."""
    z, there = converted(x, dtype), True if where is None else where
    w = np.where(there, converted(1.0 if b is None else b, dtype), 0.0) * np.ones_like(z)
    z = np.where(w == 0.0, -np.inf, z)
    m = z.max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        d = np.where(z == np.inf, z, z - np.where(m == -np.inf, 0.0, m))
        total = (w * np.exp(d)).sum(axis=axis, keepdims=True)
        value, sign = m + np.log(np.abs(total) if return_sign else total), np.sign(total)
    if not keepdims:
        value, sign = np.squeeze(value, axis)[()], np.squeeze(sign, axis)[()]
    return (value, sign) if return_sign else value


def log_softmax(x: ArrayLike, axis: Axis = -1, *, where: Any = None, dtype: DTypeLike = np.float64) -> Array:
    """``(x_j - m) - log(sum_i exp(x_i - m))``; NaN where the maximum is infinite."""
    z = adjusted(converted(x, dtype), where)
    with np.errstate(invalid="ignore"):
        d = z - z.max(axis=axis, keepdims=True)
        result: Array = d - np.log(np.exp(d).sum(axis=axis, keepdims=True))
    return result


def softmax(x: ArrayLike, axis: Axis = -1, *, where: Any = None, dtype: DTypeLike = np.float64) -> Array:
    """``exp(x_j - m) / sum_i exp(x_i - m)``; NaN where the maximum is infinite."""
    z = adjusted(converted(x, dtype), where)
    with np.errstate(invalid="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        result: Array = e / e.sum(axis=axis, keepdims=True)
    return result


def softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``y_j (g_j - sum_i g_i y_i)``."""
    y, g = converted(y, dtype), converted(grad, dtype)
    result: Array = y * (g - (g * y).sum(axis=axis, keepdims=True))
    return result


def log_softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, dtype: DTypeLike = np.float64) -> Array:
    """``g_j - exp(y_j) sum_i g_i``."""
    y, g = converted(y, dtype), converted(grad, dtype)
    result: Array = g - np.exp(y) * g.sum(axis=axis, keepdims=True)
    return result

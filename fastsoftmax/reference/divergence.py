"""Divergences between a student and a teacher, and their gradients by the student's logits."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..api.cross_entropy import LossAndGrad
from .maps import Array, converted, log_softmax


def kl_divergence(student: ArrayLike, teacher: Any, **options: Any) -> Any:
    """The value of `kl_divergence_and_grad`."""
    return kl_divergence_and_grad(student, teacher, **options).loss


@np.errstate(all="ignore")
def kl_divergence_and_grad(
    student: ArrayLike,
    teacher: Any,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    teacher_is: str = "logits",
    direction: str | float = "forward",
    tail: str | None = None,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike = 1.0,
    dtype: DTypeLike = np.float64,
) -> LossAndGrad:
    """Divergences; the parameters are those of `fastsoftmax.kl_divergence_and_grad`."""
    x = np.moveaxis(converted(student, dtype), axis, -1)
    there = True if where is None else np.moveaxis(np.broadcast_to(where, np.shape(student)), axis, -1)
    log_p = log_softmax(x / temperature, where=there, dtype=dtype)
    if tail is None:
        y = np.where(there, np.moveaxis(converted(teacher, dtype), axis, -1), 0 if teacher_is == "prob" else -np.inf)
        log_q = _dense(y, temperature, teacher_is)
    else:
        indices, given = (np.moveaxis(np.asarray(z), axis, -1) for z in teacher)
        log_q = _completed(log_p, indices, given.astype(dtype), tail)
    value, grad = _divergence(log_p, log_q, direction)
    if tail == "ignore":
        value = value + np.exp(log_q).sum(-1) - 1
    rows = np.ones(x.shape[:-1], dtype) if sample_weight is None else converted(sample_weight, dtype)
    divisor = (rows.sum() or np.nan) if reduction == "mean" else 1.0
    up = np.broadcast_to(converted(grad_output, dtype), rows.shape) * rows / divisor / temperature
    loss = value * rows
    total = loss[()] if reduction == "none" else loss.sum() / divisor
    return LossAndGrad(total, np.moveaxis(grad * up[..., None], -1, axis))


def _dense(y: Array, temperature: float, teacher_is: str) -> Array:
    """The logarithms of the probabilities of a teacher of all classes."""
    if teacher_is == "logits":
        return log_softmax(y / temperature, dtype=y.dtype)
    result: Array = np.log(y) if teacher_is == "prob" else y
    return result


def _completed(log_p: Array, indices: Array, log_q: Array, tail: str) -> Array:
    """The logarithms of all classes' probabilities, of a teacher that lists some.

    A bucket adds nothing but its two sums where the teacher's classes in it have the student's proportions.
    """
    others = np.full(log_p.shape, True)
    np.put_along_axis(others, indices, False, -1)
    result: Array = np.full(log_p.shape, -np.inf, log_p.dtype)
    if tail == "renormalize":
        log_q = log_q - np.log(np.exp(log_q).sum(-1, keepdims=True))
    if tail == "bucket":
        rest = np.maximum(1 - np.exp(log_q).sum(-1, keepdims=True), 0)
        p_rest = np.where(others, np.exp(log_p), 0).sum(-1, keepdims=True)
        result = np.where(others, log_p + np.log(rest / p_rest), -np.inf)
    np.put_along_axis(result, indices, log_q, -1)
    return result


def _divergence(log_p: Array, log_q: Array, direction: str | float) -> tuple[Array, Array]:
    """(value, gradient) of each row."""
    p, q, t = np.exp(log_p), np.exp(log_q), _ratio(log_p, log_q)
    if direction == "forward":
        return _sum(q, p, -t), q.sum(-1, keepdims=True) * p - q
    if direction == "reverse":
        return _sum(p, q, t), _times(p, t - _times(p, t).sum(-1, keepdims=True))
    beta = float(direction)
    m = beta * q + (1 - beta) * p
    to_p, to_q = _ratio(log_p, np.log(m)), _ratio(log_q, np.log(m))
    value = beta * _sum(q, m, to_q) + (1 - beta) * _sum(p, m, to_p)
    return value, (1 - beta) * _times(p, to_p - _times(p, to_p).sum(-1, keepdims=True))


def _ratio(log_a: Array, log_b: Array) -> Array:
    """``log(a/b)``, 0 where both are 0."""
    result: Array = np.where(log_a == log_b, 0.0, log_a - log_b)
    return result


def _times(a: Array, x: Array) -> Array:
    """``a x`` with 0 for a = 0."""
    result: Array = np.where(a == 0, 0.0, a * x)
    return result


def _sum(a: Array, b: Array, log_ratio: Array) -> Array:
    """``sum a log(a/b) - a + b``."""
    result: Array = (_times(a, log_ratio) - a + b).sum(-1)
    return result

"""The functions in plain JAX operations: what gradients by weights and probabilities, and second derivatives, are of.

Values and first gradients come from the library's kernels, and nothing here is fast.
"""

from typing import Any

import jax
import jax.numpy as jnp

from .calls import computed, row_shape


def transformed(x: Any, o: Any) -> Any:
    """Logits as they are used: capped, then divided."""
    return (x if o.softcap is None else o.softcap * jnp.tanh(x / o.softcap)) / o.temperature


def times(a: Any, x: Any) -> Any:
    """``a x`` with 0 for a = 0, in derivatives as well."""
    return a * jnp.where(a == 0, 0.0, x)


def adjusted(x: Any, where: Any, class_offset: Any, used: Any, axis: int, o: Any) -> tuple[Any, Any]:
    """Logits as they are used, with their classes last, and which classes are there; rows that are not are zeros."""
    x, row = jnp.moveaxis(x.astype(computed(x)), axis, -1), used[..., None]
    seen = row if where is None else row & jnp.moveaxis(where, axis, -1)
    z = transformed(jnp.where(seen, x, 0.0), o)
    z = z if class_offset is None else z + class_offset.astype(z.dtype)
    z = jnp.where(row, jnp.where(seen, z, -jnp.inf), 0.0)
    return z, jnp.ones_like(z) if where is None and class_offset is None else (z > -jnp.inf).astype(z.dtype)


def cross_entropy(
    constants: Any, x: Any, target: Any, class_weight: Any, sample_weight: Any, where: Any, class_offset: Any
) -> Any:
    """The loss, reduced."""
    axis, o = constants
    rows, classes = row_shape(x, axis), x.shape[axis]
    hard = not jnp.issubdtype(target.dtype, jnp.floating)
    used = target != o.ignore_index if hard else jnp.ones(rows, bool)
    z, there = adjusted(x, where, class_offset, used, axis, o)
    log_p, share = jax.nn.log_softmax(z, -1), o.label_smoothing / classes * there
    w = jnp.ones(classes, z.dtype) if class_weight is None else class_weight.astype(z.dtype)
    if hard:
        t = jnp.where(used, target, 0)
        log_q, row_weight = jnp.take_along_axis(log_p, t[..., None], -1)[..., 0], w[t]
        rest = -jnp.expm1(log_q)  # 1 - p_t
        term = o.poly_epsilon * rest - log_q
        if o.focal_gamma:
            term *= jnp.maximum(rest, jnp.finfo(z.dtype).tiny) ** o.focal_gamma
        loss = (1.0 - o.label_smoothing) * row_weight * term
        if o.label_smoothing:
            loss -= times(share * w, log_p).sum(-1)
    else:
        q = jnp.moveaxis(target.astype(z.dtype), axis, -1)
        row_weight = jnp.ones(rows, z.dtype)
        loss = -times(w * ((1.0 - o.label_smoothing) * q + share), log_p).sum(-1)
    if o.z_loss:
        loss += o.z_loss * row_weight * jax.nn.logsumexp(z, -1) ** 2
    loss, row_weight = (jnp.where(used, v, 0.0) for v in (loss, row_weight))
    return reduced(loss, row_weight, sample_weight, o.reduction)


def reduced(loss: Any, row_weight: Any, sample_weight: Any, reduction: str) -> Any:
    """The rows' losses, their sum, or that divided by the rows' weights."""
    if sample_weight is not None:
        loss, row_weight = (v * sample_weight.astype(v.dtype) for v in (loss, row_weight))
    if reduction == "none":
        return loss
    return loss.sum() / row_weight.sum() if reduction == "mean" else loss.sum()


def linear_cross_entropy(
    constants: Any, x: Any, weight: Any, bias: Any, target: Any, class_weight: Any, sample_weight: Any, offset: Any
) -> Any:
    """The loss of the logits ``x Wᵀ + b``, all of them at once."""
    dtype, by = computed(x, weight), (class_weight, sample_weight, None, offset)
    z = jnp.matmul(x.astype(dtype), weight.astype(dtype).T, precision="highest")
    return cross_entropy((-1, *constants), z if bias is None else z + bias.astype(dtype), target, *by)


def softmax_vjp(constants: Any, y: Any, grad: Any) -> Any:
    """The product of an upstream gradient with the Jacobian of a softmax, or of its logarithm, from its output."""
    axis, log = constants
    dtype = y.dtype
    y, grad = y.astype(computed(y)), grad.astype(computed(y))
    if log:
        return (grad - jnp.exp(y) * grad.sum(axis, keepdims=True)).astype(dtype)
    return (y * (grad - (grad * y).sum(axis, keepdims=True))).astype(dtype)


def row_stats(constants: Any, x: Any, target: Any, where: Any, class_offset: Any) -> Any:
    """Log-probability (of the first class without a target), entropy and log-sum-exp."""
    axis, o = constants
    used = jnp.ones(row_shape(x, axis), bool) if target is None else target != o.ignore_index
    z, _ = adjusted(x, where, class_offset, used, axis, o)
    log_p = jax.nn.log_softmax(z, -1)
    p, t = jnp.exp(log_p), jnp.zeros(used.shape, int) if target is None else jnp.where(used, target, 0)
    log_prob = jnp.take_along_axis(log_p, t[..., None], -1)[..., 0]
    found = log_prob, -times(p, log_p).sum(-1), jax.nn.logsumexp(z, -1)
    return [jnp.where(used, value, 0.0) for value in found]


def row_stats_vjp(constants: Any, x: Any, target: Any, where: Any, class_offset: Any, *upstreams: Any) -> Any:
    """The gradient of the three by logits, for upstream gradients of some."""
    return by_some(lambda z: row_stats(constants, z, target, where, class_offset), upstreams, x)


def row_stats_by_offset(constants: Any, x: Any, target: Any, where: Any, class_offset: Any, *upstreams: Any) -> Any:
    """The same by an offset of the classes."""
    return by_some(lambda offset: row_stats(constants, x, target, where, offset), upstreams, class_offset)


def by_some(function: Any, upstreams: Any, array: Any) -> Any:
    """The gradient of some results of a function: None where there is no upstream gradient."""
    found, pull = jax.vjp(function, array)
    ups = [jnp.zeros_like(y) if up is None else up.astype(y.dtype) for y, up in zip(found, upstreams, strict=True)]
    return pull(ups)[0]


def kl_divergence(constants: Any, student: Any, teacher: Any, listed: Any, where: Any, sample_weight: Any) -> Any:
    """The divergence, reduced."""
    axis, teacher_is, direction, tail, o = constants
    x, y = (jnp.moveaxis(v.astype(computed(student)), axis, -1) for v in (student, teacher))
    if where is not None:
        there = jnp.moveaxis(where, axis, -1)
        x = jnp.where(there, x, -jnp.inf)
        y = jnp.where(there, y, 0.0 if teacher_is == "prob" else -jnp.inf)
    log_p = jax.nn.log_softmax(x / o.temperature, -1)
    if listed is not None:
        log_p, log_q = _gathered(log_p, y, jnp.moveaxis(listed, axis, -1), tail)
    elif teacher_is == "logits":
        log_q = jax.nn.log_softmax(y / o.temperature, -1)
    else:
        log_q = _log(y) if teacher_is == "prob" else y
    p, q = jnp.exp(log_p), y if teacher_is == "prob" else jnp.exp(log_q)
    if direction == "forward":
        value = _divergence(q, p, log_q, log_p)
    elif direction == "reverse":
        value = _divergence(p, q, log_p, log_q)
    else:
        m = direction * q + (1.0 - direction) * p
        log_m = _log(m)
        value = direction * _divergence(q, m, log_q, log_m) + (1.0 - direction) * _divergence(p, m, log_p, log_m)
    if tail == "ignore":
        value += q.sum(-1) - 1.0
    return reduced(value, jnp.ones_like(value), sample_weight, o.reduction)


def _log(a: Any) -> Any:
    """The logarithm; of 0 -inf, and in derivatives nothing."""
    return jnp.where(a == 0, -jnp.inf, jnp.log(jnp.where(a == 0, 1.0, a)))


def _gathered(log_p: Any, log_q: Any, listed: Any, tail: str) -> tuple[Any, Any]:
    """The student's and the teacher's log-probabilities of the listed classes, and of all others together."""
    if tail == "renormalize":
        log_q = jax.nn.log_softmax(log_q, -1)
    found = jnp.take_along_axis(log_p, listed, -1)
    if listed.shape[-1] == log_p.shape[-1]:
        return found, log_q
    away = jnp.put_along_axis(log_p, listed, -jnp.inf, -1, inplace=False)
    others = jax.nn.logsumexp(away, -1, keepdims=True)
    left = 1.0 - jnp.exp(log_q).sum(-1, keepdims=True)
    rest = _log(jnp.maximum(left, 0.0) if tail == "bucket" else jnp.zeros_like(left))
    return jnp.concatenate([found, others], -1), jnp.concatenate([log_q, rest], -1)


def _divergence(a: Any, b: Any, log_a: Any, log_b: Any) -> Any:
    """``sum a log(a/b) - a + b``."""
    none = (log_a == log_b) & (log_a == -jnp.inf)  # equal numbers have a difference, with a derivative
    ratio = jnp.where(none, 0.0, jnp.where(none, 0.0, log_a) - jnp.where(none, 0.0, log_b))
    return (times(a, ratio) - a + b).sum(-1)

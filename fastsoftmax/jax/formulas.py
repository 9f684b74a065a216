"""The functions in plain JAX operations: what gradients by weights and probabilities, and second derivatives, are of.

Values and first gradients come from the library's kernels, and nothing here is fast.
"""

from typing import Any

import jax
import jax.numpy as jnp

from .calls import computed


def transformed(x: Any, o: Any) -> Any:
    """Logits as they are used: capped, then divided."""
    return (x if o.softcap is None else o.softcap * jnp.tanh(x / o.softcap)) / o.temperature


def times(a: Any, x: Any) -> Any:
    """``a x`` with 0 for a = 0, in derivatives as well."""
    return a * jnp.where(a == 0, 0.0, x)


def cross_entropy(constants: Any, x: Any, target: Any, class_weight: Any, sample_weight: Any) -> Any:
    """The loss, reduced."""
    axis, o = constants
    x = jnp.moveaxis(x.astype(computed(x)), axis, -1)
    hard, classes = not jnp.issubdtype(target.dtype, jnp.floating), x.shape[-1]
    used = target != o.ignore_index if hard else jnp.ones(x.shape[:-1], bool)
    z = transformed(jnp.where(used[..., None], x, 0.0), o)
    log_p = jax.nn.log_softmax(z, -1)
    w = jnp.ones(classes, x.dtype) if class_weight is None else class_weight.astype(x.dtype)
    if hard:
        t = jnp.where(used, target, 0)
        log_q, row_weight = jnp.take_along_axis(log_p, t[..., None], -1)[..., 0], w[t]
        rest = -jnp.expm1(log_q)  # 1 - p_t
        term = o.poly_epsilon * rest - log_q
        if o.focal_gamma:
            term *= jnp.maximum(rest, jnp.finfo(x.dtype).tiny) ** o.focal_gamma
        loss = (1.0 - o.label_smoothing) * row_weight * term
        if o.label_smoothing:
            loss -= o.label_smoothing / classes * times(w, log_p).sum(-1)
    else:
        q = jnp.moveaxis(target.astype(x.dtype), axis, -1)
        row_weight = jnp.ones(x.shape[:-1], x.dtype)
        loss = -times(w * ((1.0 - o.label_smoothing) * q + o.label_smoothing / classes), log_p).sum(-1)
    if o.z_loss:
        loss += o.z_loss * row_weight * jax.nn.logsumexp(z, -1) ** 2
    loss, row_weight = (jnp.where(used, v, 0.0) for v in (loss, row_weight))
    if sample_weight is not None:
        loss, row_weight = (v * sample_weight.astype(x.dtype) for v in (loss, row_weight))
    if o.reduction == "none":
        return loss
    return loss.sum() / row_weight.sum() if o.reduction == "mean" else loss.sum()


def linear_cross_entropy(constants: Any, x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    """The loss of the logits ``x Wᵀ + b``, all of them at once."""
    dtype = computed(x, weight)
    z = jnp.matmul(x.astype(dtype), weight.astype(dtype).T, precision="highest")
    return cross_entropy((-1, *constants), z if bias is None else z + bias.astype(dtype), *rest)


def softmax_vjp(constants: Any, y: Any, grad: Any) -> Any:
    """The product of an upstream gradient with the Jacobian of a softmax, or of its logarithm, from its output."""
    axis, log = constants
    dtype = y.dtype
    y, grad = y.astype(computed(y)), grad.astype(computed(y))
    if log:
        return (grad - jnp.exp(y) * grad.sum(axis, keepdims=True)).astype(dtype)
    return (y * (grad - (grad * y).sum(axis, keepdims=True))).astype(dtype)


def row_stats(constants: Any, x: Any, target: Any) -> Any:
    """Log-probability (zeros without a target), entropy and log-sum-exp."""
    axis, o = constants
    x = jnp.moveaxis(x.astype(computed(x)), axis, -1)
    used = jnp.ones(x.shape[:-1], bool) if target is None else target != o.ignore_index
    z = transformed(jnp.where(used[..., None], x, 0.0), o)
    log_p = jax.nn.log_softmax(z, -1)
    p, t = jnp.exp(log_p), jnp.zeros(used.shape, int) if target is None else jnp.where(used, target, 0)
    log_prob = jnp.take_along_axis(log_p, t[..., None], -1)[..., 0]
    found = log_prob, -times(p, log_p).sum(-1), jax.nn.logsumexp(z, -1)
    return [jnp.where(used, value, 0.0) for value in found]


def row_stats_vjp(constants: Any, x: Any, target: Any, *upstreams: Any) -> Any:
    """The gradient of the three, by upstream gradients of some."""
    found, pull = jax.vjp(lambda array: row_stats(constants, array, target), x)
    ups = [jnp.zeros_like(y) if up is None else up.astype(y.dtype) for y, up in zip(found, upstreams, strict=True)]
    return pull(ups)[0]

"""The functions in plain torch operations, as often differentiable as anybody likes: what second derivatives are of.

Values and first gradients come from the library's kernels, and nothing here is fast.  Each formula takes the tensors
and the parameters of the operator that it stands for.
"""

import math
from typing import Any

import torch

from .tensors import computed


def cross_entropy(
    x: Any, target: Any, weight: Any, where: Any, class_offset: Any, sample_weight: Any,
    dim: int, ignore_index: int, terms: list[float], reduction: str, *_: Any,
) -> Any:  # fmt: skip
    """The loss, reduced."""
    smoothing, z_loss, gamma, epsilon, temperature, cap = terms
    shape = x.movedim(dim, -1).shape
    classes, rows, hard = shape[-1], shape[:-1], target.shape == shape[:-1]
    used = target != ignore_index if hard else torch.ones(rows, dtype=torch.bool, device=x.device)
    z, there = adjusted(x, where, class_offset, used, dim, temperature, cap)
    w = z.new_ones(classes) if weight is None else weight.to(z.dtype)
    log_p, lse = torch.log_softmax(z, -1), torch.logsumexp(z, -1)
    share, row_weight = smoothing / classes * there, z.new_ones(rows)
    if hard:
        t = torch.where(used, target, 0).long()
        log_q, row_weight = log_p.gather(-1, t[..., None])[..., 0], w[t]
        u = -torch.expm1(log_q)
        term = epsilon * u - log_q
        if gamma:
            term = u.clamp_min(torch.finfo(u.dtype).tiny) ** gamma * term
        loss = (1.0 - smoothing) * row_weight * term
        if smoothing:
            loss = loss - times(share * w, log_p).sum(-1)
    else:
        q = target.to(z.dtype).movedim(dim, -1)
        loss = -times(w * ((1.0 - smoothing) * q + share), log_p).sum(-1)
    if z_loss:
        loss = loss + z_loss * row_weight * lse**2
    return reduced(torch.where(used, loss, 0.0), torch.where(used, row_weight, 0.0), sample_weight, reduction)


def linear_cross_entropy(
    x: Any, weight: Any, bias: Any, target: Any, class_weight: Any, class_offset: Any, sample_weight: Any,
    ignore_index: int, *rest: Any,
) -> Any:  # fmt: skip
    """The loss of the logits ``x Wᵀ + b``, all of them at once."""
    z = logits(x, weight, bias)
    return cross_entropy(z, target, class_weight, None, class_offset, sample_weight, -1, ignore_index, *rest)


def logits(x: Any, weight: Any, bias: Any) -> Any:
    """``x Wᵀ + b`` in the dtype that it is computed in."""
    dtype = computed(x, weight)
    z = x.to(dtype) @ weight.to(dtype).T
    return z if bias is None else z + bias.to(dtype)


def row_stats(
    x: Any, target: Any, where: Any, class_offset: Any, dim: int, terms: list[float], ignore_index: int
) -> list[Any]:
    """Log-probability (of the first class without a target), entropy and log-sum-exp."""
    rows = x.movedim(dim, -1).shape[:-1]
    used = torch.ones(rows, dtype=torch.bool, device=x.device) if target is None else target != ignore_index
    z, _ = adjusted(x, where, class_offset, used, dim, *terms)
    log_p = torch.log_softmax(z, -1)
    p, t = log_p.exp(), torch.zeros_like(used).long() if target is None else torch.where(used, target, 0).long()
    found = log_p.gather(-1, t[..., None])[..., 0], -times(p, log_p).sum(-1), torch.logsumexp(z, -1)
    return [torch.where(used, value, 0.0) for value in found]


def linear_row_stats(x: Any, weight: Any, bias: Any, target: Any, class_offset: Any, *rest: Any) -> list[Any]:
    """The same of the logits ``x Wᵀ + b``."""
    return row_stats(logits(x, weight, bias), target, None, class_offset, -1, *rest)


def kl_divergence(
    student: Any, teacher: Any, listed: Any, where: Any, sample_weight: Any,
    dim: int, temperature: float, teacher_is: str, direction: str, beta: float, tail: str, reduction: str,
) -> Any:  # fmt: skip
    """The divergence, reduced."""
    x, y = (v.to(computed(student)).movedim(dim, -1) for v in (student, teacher))
    if where is not None:
        away = ~where.expand(student.shape).movedim(dim, -1)
        x = x.masked_fill(away, -math.inf)
        y = y.masked_fill(away, 0.0 if teacher_is == "prob" else -math.inf)
    log_p = torch.log_softmax(x / temperature, -1)
    if listed is not None:
        log_p, log_q = _gathered(log_p, y, listed.movedim(dim, -1).long(), tail)
    elif teacher_is == "logits":
        log_q = torch.log_softmax(y / temperature, -1)
    else:
        log_q = y.log() if teacher_is == "prob" else y
    p, q = log_p.exp(), y if teacher_is == "prob" else log_q.exp()
    if direction == "forward":
        value = _divergence(q, p, log_q, log_p)
    elif direction == "reverse":
        value = _divergence(p, q, log_p, log_q)
    else:
        m = beta * q + (1.0 - beta) * p
        log_m = m.masked_fill(m == 0, 1.0).log()  # both are 0 there
        value = beta * _divergence(q, m, log_q, log_m) + (1.0 - beta) * _divergence(p, m, log_p, log_m)
    if tail == "ignore":
        value = value + q.sum(-1) - 1.0
    return reduced(value, torch.ones_like(value), sample_weight, reduction)


def _gathered(log_p: Any, log_q: Any, listed: Any, tail: str) -> tuple[Any, Any]:
    """The student's and the teacher's log-probabilities of the listed classes, and of all others together."""
    if tail == "renormalize":
        log_q = torch.log_softmax(log_q, -1)
    found = log_p.gather(-1, listed)
    if listed.shape[-1] == log_p.shape[-1]:
        return found, log_q
    others = log_p.scatter(-1, listed, -math.inf).logsumexp(-1, keepdim=True)
    left = 1.0 - log_q.exp().sum(-1, keepdim=True)
    none = left <= 0 if tail == "bucket" else torch.ones_like(left, dtype=torch.bool)
    rest = left.masked_fill(none, 1.0).log().masked_fill(none, -math.inf)
    return torch.cat([found, others], -1), torch.cat([log_q, rest], -1)


def _divergence(a: Any, b: Any, log_a: Any, log_b: Any) -> Any:
    """``sum a log(a/b) - a + b``."""
    none = (log_a == log_b) & (log_a == -math.inf)  # equal numbers have a difference, with a derivative
    return (times(a, torch.where(none, 0.0, log_a - log_b)) - a + b).sum(-1)


def adjusted(
    x: Any, where: Any, class_offset: Any, used: Any, dim: int, temperature: float, cap: float
) -> tuple[Any, Any]:
    """Logits as they are used, with their classes last, and which classes are there; rows that are not are zeros."""
    x = x.to(computed(x)).movedim(dim, -1)
    seen = (
        used[..., None] if where is None else used[..., None] & where.expand(x.movedim(-1, dim).shape).movedim(dim, -1)
    )
    x = x.masked_fill(~seen, 0.0)
    z = (x if cap == math.inf else cap * torch.tanh(x / cap)) / temperature
    z = z if class_offset is None else z + class_offset.to(z.dtype)
    z = z.masked_fill(used[..., None] & ~seen, -math.inf)
    return z, torch.ones_like(z) if where is None and class_offset is None else (z > -math.inf).to(z.dtype)


def times(a: Any, x: Any) -> Any:
    """``a x`` with 0 for a = 0, in derivatives as well."""
    return a * x.masked_fill(a == 0, 0.0)


def reduced(loss: Any, row_weight: Any, sample_weight: Any, reduction: str) -> Any:
    """The rows' losses, their sum, or that divided by the rows' weights."""
    if sample_weight is not None:
        loss, row_weight = (v * sample_weight.to(loss.dtype) for v in (loss, row_weight))
    if reduction == "none":
        return loss
    return loss.sum() / row_weight.sum() if reduction == "mean" else loss.sum()


def softmax_vjp(y: Any, grad: Any, dim: int, log: bool) -> Any:
    """The product of an upstream gradient with the Jacobian of a softmax, or of its logarithm, from its output."""
    y, g = y.to(computed(y)), grad.to(computed(y))
    if log:
        return g - y.exp() * g.sum(dim, keepdim=True)
    return y * (g - (g * y).sum(dim, keepdim=True))


def logsumexp(x: Any, where: Any, dims: list[int]) -> Any:
    """The logarithm of the sum of exponentials along some dimensions."""
    x = x.to(computed(x))
    return torch.logsumexp(x if where is None else x.masked_fill(~where, -math.inf), dims)

"""Statistics, gradient and Hessian, and divergences: the contestants, as users of each library write them."""

import functools
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import reference
from ...api import boosting, cross_entropy, divergence, statistics
from .. import by_torch
from ..cases import DIVERGENCE, GRAD_HESS, ROW_STATS, Case
from ..inputs import Inputs, off
from ..results import COMPILED, INTO, JAX, NUMPY, OURS, TORCH, YARDSTICK
from ..timing import Call
from ..unable import Unable
from . import by_jax

Array = NDArray[Any]
WANT = ("log_prob", "entropy", "correct")
HESSIAN: dict[str, Any] = {"hessian": "upper", "min_hessian": 1e-6}  # XGBoost's


def names(case: Case) -> list[str]:
    """The contestants of a case."""
    others = {ROW_STATS: [YARDSTICK, NUMPY, TORCH, COMPILED, JAX], GRAD_HESS: [INTO, YARDSTICK, NUMPY]}
    return [OURS, *others.get(case.function, [INTO, NUMPY, TORCH, COMPILED, JAX])]


def calls(name: str, case: Case, sets: list[Inputs]) -> list[Call]:
    """A contestant's call for each set of inputs; results are a tuple of arrays."""
    return [_CALLS[name](case, d) for d in sets]


def disagreement(case: Case, d: Inputs, result: Any) -> str:
    """The fault of a contestant's result; an empty text if it is right."""
    x, target = d.x[: d.distinct], d.target[: d.distinct]
    if case.function == ROW_STATS:
        stats = reference.row_stats(x, target, want=WANT)
        right: Any = stats.log_prob, stats.entropy, stats.correct
    elif case.function == GRAD_HESS:
        right = reference.cross_entropy_grad_hess(x, target, **HESSIAN)
    else:
        counts = np.bincount(np.arange(len(d.x)) % d.distinct)
        total = reference.kl_divergence(x, target, reduction="sum", sample_weight=counts)
        right = total, reference.kl_divergence_and_grad(x, target, reduction="sum").grad
    for got, exact in zip(result, right, strict=True):
        part = np.asarray(got.detach() if hasattr(got, "detach") else got)
        part = part[: d.distinct] if part.ndim else part
        if off(part.astype(np.float64), np.asarray(exact, np.float64), "float32"):
            return f"wrong: numbers off by up to {np.abs(part - exact).max():.3g}"
    return ""


def _ours(case: Case, d: Inputs, *, into: bool = False) -> Call:
    new = [np.zeros_like(d.x, np.float32) for _ in range(2 * into)]
    if case.function == ROW_STATS:

        def stats() -> object:
            found = statistics.row_stats(d.x, d.target, want=WANT)
            return found.log_prob, found.entropy, found.correct

        return stats
    if case.function == GRAD_HESS:
        out: Any = tuple(new) if into else None
        return functools.partial(boosting.cross_entropy_grad_hess, d.x, d.target, dtype=np.float32, out=out, **HESSIAN)
    first = new[0] if into else None
    return functools.partial(divergence.kl_divergence_and_grad, d.x, d.target, reduction="sum", out=first)


def _yardstick(case: Case, d: Inputs) -> Call:
    if case.function == ROW_STATS:
        return functools.partial(cross_entropy.cross_entropy, d.x, d.target)
    order: Any = "F" if d.x.flags.f_contiguous else "C"
    x = np.asarray(np.concatenate([d.x, d.x]), np.float32, order=order)
    return functools.partial(cross_entropy.cross_entropy_and_grad, x, np.concatenate([d.target, d.target]))


def _log_softmax(x: Array) -> Array:
    z = x - x.max(axis=1, keepdims=True)
    result: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return result


def _numpy(case: Case, d: Inputs) -> Call:
    def stats() -> object:
        log_p = _log_softmax(d.x)
        return log_p[rows, d.target], -(np.exp(log_p) * log_p).sum(axis=1), d.x.argmax(axis=1) == d.target

    def grad_hess() -> object:
        p = np.exp(_log_softmax(d.x))
        hess = np.maximum(2.0 * p * (1.0 - p), 1e-6)
        p[rows, d.target] -= 1
        return p.astype(np.float32), hess.astype(np.float32)

    def kl() -> object:
        log_p, log_q = _log_softmax(d.x), _log_softmax(d.target)
        q = np.exp(log_q)
        return (q * (log_q - log_p)).sum(), np.exp(log_p) - q

    rows = np.arange(len(d.x))
    return {ROW_STATS: stats, GRAD_HESS: grad_hess, DIVERGENCE: kl}[case.function]


def _torch(case: Case, d: Inputs, *, compile_: bool = False) -> Call:
    torch, x, other = by_torch.module(), by_torch.tensor(d.x), by_torch.tensor(d.target)

    def stats(x: Any, target: Any) -> Any:
        log_p = torch.log_softmax(x, -1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return log_p.gather(-1, target[:, None])[:, 0], entropy, x.argmax(-1) == target

    def kl(x: Any, y: Any) -> Any:
        pair = torch.log_softmax(x, -1), torch.log_softmax(y, -1)
        return torch.nn.functional.kl_div(*pair, log_target=True, reduction="sum")

    function = stats if case.function == ROW_STATS else kl
    if compile_:
        torch.compiler.reset()
        function = torch.compile(function, dynamic=False)
    if case.function == ROW_STATS:
        return lambda: function(x, other)
    leaf = x.requires_grad_()

    def value_and_grad() -> object:
        loss = function(leaf, other)
        return loss, torch.autograd.grad(loss, leaf)[0]

    return value_and_grad


def _jax(case: Case, d: Inputs) -> Call:
    jax = by_jax.module()
    if importlib.import_module("numba").get_num_threads() != by_jax.threads():
        raise Unable(f"JAX runs {by_jax.threads()} threads")

    def stats(x: Any, target: Any) -> Any:
        log_p = jax.nn.log_softmax(x)
        picked = jax.numpy.take_along_axis(log_p, target[:, None], axis=-1)[:, 0]
        return picked, -(jax.numpy.exp(log_p) * log_p).sum(-1), x.argmax(-1) == target

    def kl(x: Any, y: Any) -> Any:
        log_p, log_q = jax.nn.log_softmax(x), jax.nn.log_softmax(y)
        return (jax.numpy.exp(log_q) * (log_q - log_p)).sum()

    compiled = jax.jit(stats if case.function == ROW_STATS else jax.value_and_grad(kl))
    target = d.target.astype(np.int32) if case.function == ROW_STATS else d.target
    arguments = jax.numpy.array(d.x), jax.numpy.array(target)
    return lambda: jax.block_until_ready(compiled(*arguments))


_CALLS: dict[str, Any] = {
    OURS: _ours,
    INTO: functools.partial(_ours, into=True),
    YARDSTICK: _yardstick,
    NUMPY: _numpy,
    TORCH: _torch,
    COMPILED: functools.partial(_torch, compile_=True),
    JAX: _jax,
}

"""Statistics of rows, and the gradient of three of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..api.statistics import RowStats, TopK
from .maps import Array, logsumexp, transformed


def _log_probs(z: Array) -> Array:
    """``log p_j``, of each row's first maximum as ``-log1p`` of the others' sum; NaN where the maximum is infinite."""
    first = np.arange(z.shape[-1]) == z.argmax(axis=-1)[..., None]
    m = z.max(axis=-1, keepdims=True)
    d = np.where(first, m - m, z - m)
    rest = np.where(first, 0.0, np.exp(d)).sum(axis=-1, keepdims=True)
    result: Array = d - np.log1p(rest) + (m - m)
    return result


def _entropy(log_p: Array) -> Array:
    """``-sum_j p_j log p_j`` with ``0 log 0 = 0``."""
    p = np.exp(log_p)
    result: Array = -np.where(p == 0, 0.0, p * log_p).sum(axis=-1)
    return result


@np.errstate(all="ignore")
def row_stats(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    want: str | Sequence[str],
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    k: int = 5,
    dtype: DTypeLike = np.float64,
) -> RowStats:
    """Statistics of rows; the parameters are those of `fastsoftmax.row_stats`."""
    x, z, _, _ = transformed(logits, axis, softcap, temperature, where, class_offset, dtype)
    if where is not None or class_offset is not None:
        x = z
    rows = x.shape[:-1]
    used = np.full(rows, True) if target is None else np.asarray(target) != ignore_index
    t = np.where(used, 0 if target is None else target, 0).astype(np.int64)[..., None]
    log_p, found = _found(x, z, t)
    largest = np.argsort(np.where(np.isnan(x), -np.inf, -x), axis=-1, kind="stable")[..., :k]
    ignored = {"argmax": -1, "rank": -1, "correct": False}
    found = {name: np.where(used, value, ignored.get(name, 0.0)) for name, value in found.items()}
    best = np.where(used[..., None], np.take_along_axis(log_p, largest, -1), 0.0)
    asked = {want} if isinstance(want, str) else set(want)
    top = TopK(np.where(used[..., None], largest, -1), best) if "top_k" in asked else None
    return RowStats(**{name: value[()] for name, value in found.items() if name in asked}, top_k=top)


def _found(x: Array, z: Array, t: NDArray[np.int64]) -> tuple[Array, dict[str, Any]]:
    """(log-probabilities, the statistics of all rows by name) of logits as they are ordered, and as they are used."""
    log_p, others = _log_probs(z), np.where(np.arange(x.shape[-1]) == t, -np.inf, z)
    return log_p, {
        "log_prob": np.take_along_axis(log_p, t, -1)[..., 0],
        "entropy": _entropy(log_p),
        "log_sum_exp": logsumexp(z, dtype=z.dtype),
        "argmax": x.argmax(axis=-1),
        "max_prob": np.exp(log_p.max(axis=-1)),
        "correct": x.argmax(axis=-1) == t[..., 0],
        "rank": (x > np.take_along_axis(x, t, -1)).sum(axis=-1),
        "margin": np.take_along_axis(z, t, -1)[..., 0] - others.max(axis=-1),
    }


@np.errstate(all="ignore")
def row_stats_vjp(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    log_prob: ArrayLike | None = None,
    entropy: ArrayLike | None = None,
    log_sum_exp: ArrayLike | None = None,
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    """``a ([j=t] - p_j) - b p_j (log p_j + H) + c p_j``; the parameters are those of `fastsoftmax.row_stats_vjp`."""
    x, z, slope, _ = transformed(logits, axis, softcap, temperature, where, class_offset, dtype)
    a, b, c = (np.asarray(0.0 if v is None else v, dtype)[..., None] for v in (log_prob, entropy, log_sum_exp))
    used = np.full(x.shape[:-1], True) if target is None else np.asarray(target) != ignore_index
    hit = np.arange(x.shape[-1]) == np.where(used, -1 if target is None else target, -1)[..., None]
    log_p = _log_probs(z)
    p, h = np.exp(log_p), _entropy(log_p)[..., None]
    grad = a * np.where(hit, -np.expm1(log_p), -p) - b * np.where(p == 0, 0.0, p * (log_p + h)) + c * p
    return np.moveaxis(np.where(used[..., None], grad * slope, 0.0), -1, axis)

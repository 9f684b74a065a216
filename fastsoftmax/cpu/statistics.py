"""Statistics of rows: results are allocated, one launch fills their columns, and the largest logits are looked up."""

from typing import Any

import numpy as np

from ..core import law
from ..core.dtypes import computing_dtype
from ..core.options import Flags, numbers_of
from ..core.statistics import BITS, INDEX, REAL, TRUTH, asked, columns_of
from . import check, run
from .check import Array, Loss
from .derived import Derivative
from .execute import CONVERTED, Job, Operands, execute, largest, pieces
from .run import ordered, restored

_law = law.bind({name: getattr(np, name) for name in law.PRIMITIVES}, lambda function: function)


def row_stats(problem: Loss, variant: int, k: int) -> dict[str, Any]:
    """The statistics of a set, by name; `top_k` is a pair of arrays."""
    if problem.widened:
        return _in_double(problem, variant, k)
    if problem.labels is not None:
        run.counted(problem)  # which refuses labels that are no classes
    data, order = ordered(Operands(problem.x.array, mask=problem.adjust.mask, target=problem.labels))
    columns = columns_of(variant)
    kinds = {REAL: computing_dtype(problem.x.dtype), INDEX: np.dtype(np.int64), TRUTH: np.dtype(np.bool_)}
    numbers = {kind: len(asked(variant, kind)) for kind in kinds}
    numbers[REAL] += columns.top_k >= 0
    room = {kind: np.empty((numbers[kind], *data.x.shape[:-1]), dtype) for kind, dtype in kinds.items()}
    data = data._replace(columns=room[REAL], places=room[INDEX], truths=room[TRUTH])
    execute(_job(problem, "statistics", columns, entropy=columns.entropy >= 0), data)
    found: dict[str, Any] = {
        name: restored(room[kind][getattr(columns, name)], order)[()] for kind in kinds for name in asked(variant, kind)
    }
    if variant & BITS["top_k"]:
        found["top_k"] = _top_k(problem, k, restored(room[REAL][columns.top_k], order))
    return found


def _job(problem: Loss, kernel: str, variant: Any = 0, *, entropy: bool) -> Job:
    """The job of a set of statistics, or of a gradient of some."""
    o, gradient = problem.options, kernel == "derivatives"
    flags = Flags(
        hard=problem.labels is not None,
        grad=gradient,
        upstream=gradient,
        entropy=entropy,
        rest=True,
        temper=o.temperature != 1.0,
        cap=o.softcap is not None,
    )
    numbers = numbers_of(o, problem.x.array.shape[-1])
    return run.adjusted(Job(kernel, flags, variant, problem.x.dtype, numbers, o.ignore_index), problem.adjust)


def row_stats_vjp(problem: Derivative) -> Array:
    """The gradient of statistics of rows, by their upstream gradients."""
    of, x = problem.of, problem.of.x
    if of.widened:
        wide = row_stats_vjp(problem._replace(of=check.in_double(of)._replace(out=None)))
        return run.delivered(wide.astype(x.dtype), of.out)
    if of.labels is not None:
        run.counted(of)
    labels, out = run.undisturbed(of.labels, of.out), run.destination(x, of.out, [x.array], [])
    shape, dtype = x.array.shape[:-1], computing_dtype(x.dtype)
    a, b, c = (np.full(shape, 0.0 if up is None else up, dtype) for up in problem.upstreams)
    data = ordered(Operands(x.array, None, out, None, of.adjust.mask, labels, a, b, c))[0]
    job = _job(of, "derivatives", entropy=problem.upstreams[1] is not None)
    execute(job._replace(streamed=out is of.out), data)
    return run.delivered(out, of.out)


def _top_k(problem: Loss, k: int, log_s: Array) -> tuple[Array, Array]:
    """The k largest logits of each row by index, and their log-probabilities; logits are read once more."""
    x, dtype, labels = problem.x.array, problem.x.dtype, problem.labels
    rows = x.shape[:-1]
    if problem.adjust.given:
        dtype = computing_dtype(dtype)
    indices, values = np.empty((*rows, k), np.int64), np.empty((*rows, k), dtype)
    for index in pieces(rows, max(1, CONVERTED // x.shape[-1])):
        piece = _seen(problem, index).reshape(-1, x.shape[-1])
        here = None if labels is None else labels[(*index, ...)]
        largest(piece, values[index].reshape(-1, k), indices[index].reshape(-1, k), here, problem.options.ignore_index)
    d = values.astype(computing_dtype(dtype), copy=False)
    if not problem.adjust.given:
        d = _transformed(problem, d)
    log_probs = d - d[..., :1] - log_s[..., None]
    return indices, log_probs if labels is None else np.where(indices < 0, 0, log_probs)


def _seen(problem: Loss, index: Any) -> Array:
    """Logits of some rows, contiguous: as they came, or as the passes see adjusted ones."""
    x, (offset, mask) = problem.x.array[(*index, ...)], problem.adjust
    if not problem.adjust.given:
        return np.ascontiguousarray(x, problem.x.dtype)
    dtype = computing_dtype(problem.x.dtype)
    by = np.zeros(1, dtype) if offset is None else offset.astype(dtype)
    if mask is not None:
        by = np.where(mask[(*index, ...)], by, dtype.type(-np.inf))
    return np.ascontiguousarray(_law["adjusted"](_transformed(problem, x.astype(dtype)), by))


def _transformed(problem: Loss, x: Array) -> Array:
    """Logits after softcap and temperature, as kernels have them but for an ulp."""
    numbers, o = numbers_of(problem.options, problem.x.array.shape[-1]), problem.options
    if o.softcap is not None:
        x = _law["capped"](x, x.dtype.type(numbers.cap), x.dtype.type(1 / numbers.cap))
    return x if o.temperature == 1.0 else x * x.dtype.type(numbers.inverse_temperature)


def _in_double(problem: Loss, variant: int, k: int) -> dict[str, Any]:
    """The same computed in float64, and rounded to the dtype that the narrower logits have it in."""
    found, narrow = row_stats(check.in_double(problem), variant, k), computing_dtype(problem.x.dtype)
    if "top_k" in found:
        found["top_k"] = found["top_k"][0], found["top_k"][1].astype(narrow)
    return found | {name: found[name].astype(narrow) for name in asked(variant, REAL)}

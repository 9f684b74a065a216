"""Predictions of a linear map, block by block: classes, probabilities, the most probable classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...core import interrupts
from ...core.dtypes import LOG_SOFTMAX, SOFTMAX
from ...core.options import Flags
from ...core.strides import overlap
from .. import run, statistics
from ..check import Array, Loss, Rows
from ..execute import Job, Operands, execute, largest
from ..run import delivered
from . import plan as plan_linear
from .blas import single_threaded
from .check import Linear
from .matrices import as_matrix, product
from .operands import Sparse
from .own_blocks import sparse_logits
from .run import bias_of, features_of, operands_of


def _blocks(problem: Linear, room: Array | None, block: int | None = None) -> Iterator[tuple[slice, Array]]:
    """The rows of one block after the other, and their logits: in `room`, or in scratch that each block overwrites."""
    rows, features = problem.x.shape
    x, bias = features_of(problem), bias_of(problem, problem.dtype)
    by_feature = isinstance(x, Sparse)
    weight = as_matrix(problem.weight.array.T, problem.dtype, plain=by_feature)
    size = block or plan_linear.shared_rows(features, problem.classes, problem.dtype.itemsize, staged=not by_feature)
    z = np.empty((min(size, rows), problem.classes), problem.dtype) if room is None else room
    for start in range(0, rows, size):
        interrupts.check()
        at = slice(start, min(start + size, rows))
        here = z[at] if room is not None else z[: at.stop - start]
        if isinstance(x, Sparse):
            sparse_logits(x, weight, bias, at, here)
        else:
            product(as_matrix(x[at], problem.dtype), weight, here, bias=bias)
        yield at, here


def predict(problem: Linear) -> Array:
    """The class of the largest logit of each row."""
    result = np.empty(problem.x.shape[0], np.int64)
    with single_threaded():
        for at, z in _blocks(problem, None):
            z.argmax(axis=1, out=result[at])
    return result


def predict_proba(problem: Linear, out: Array | None) -> Array:
    """The probabilities of the classes for each row."""
    shape, dtype = (problem.x.shape[0], problem.classes), problem.proba_dtype
    result = np.empty(shape, dtype) if out is None or any(overlap(out, a) for a in operands_of(problem)) else out
    job = Job("softmax", Flags(), SOFTMAX, problem.dtype)
    room = result if result.dtype == problem.dtype and result.flags.carray else None
    with single_threaded():
        for at, z in _blocks(problem, room):
            execute(job, Operands(z, out=z))
            if room is None:
                result[at] = z
    return delivered(result, out)


def top_k(problem: Linear, k: int) -> tuple[Array, Array]:
    """The classes of the largest logits of each row, in falling order, and their log-probabilities."""
    indices, values = (np.empty((problem.x.shape[0], k), t) for t in (np.int64, problem.dtype))
    job = Job("softmax", Flags(), LOG_SOFTMAX, problem.dtype)
    with single_threaded():
        for at, z in _blocks(problem, None):
            largest(z, values[at], indices[at])  # by logits: with +inf among them no log-probability is a number
            execute(job, Operands(z, out=z))
            values[at] = np.take_along_axis(z, indices[at], axis=1)
    return indices, values


def row_stats(problem: Linear, of: Loss, variant: int, k: int, block: int | None) -> dict[str, Any]:
    """Statistics of the logits of each row, by name, as `statistics.row_stats` has them; `of` is what they are of."""
    if of.labels is not None:
        run.counted(of)  # all of them before anything is computed
    rows, labels = problem.x.shape[0], of.labels
    found: list[dict[str, Any]] = []

    def take(at: slice, z: Array) -> None:
        part = of._replace(x=Rows(z, problem.dtype), labels=None if labels is None else labels[at])
        found.append(statistics.row_stats(part, variant, k))

    with single_threaded():
        if rows == 0:
            take(slice(0, 0), np.empty((0, problem.classes), problem.dtype))
        for at, z in _blocks(problem, None, block):
            take(at, z)
    together = {name: [part[name] for part in found] for name in found[0]}
    top = together.pop("top_k", None)
    result: dict[str, Any] = {name: np.concatenate(parts) for name, parts in together.items()}
    if top is not None:
        result["top_k"] = tuple(np.concatenate(parts) for parts in zip(*top, strict=True))
    return result

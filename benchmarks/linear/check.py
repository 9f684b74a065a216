"""Agreement of the contestants of a linear case, without which times mean nothing; memory that a fit holds."""

import tracemalloc
from typing import Any

import numpy as np
import scipy.special

from .cases import FIT, LOSS, PREDICT, Array, Case, Data
from .contestants import contestants

TOLERANCE = 1e-3  # of a result's largest number: float32 sums of 60000 rows one by one, as some do, are not better
SAME_CLASS = 0.999  # of the rows: two logits may be as good as equal
EXCESS = 1e-6  # of scikit-learn's final objective: what counts as reached
NEAR = 1e-4  # of it: what counts as the same classifier, at the tolerances of both
BLOCK = 1 << 22  # logits in float64 at a time


def objective(model: Any, d: Data, C: float = 1.0) -> float:
    """LogisticRegression's objective at a model's coefficients, in float64: mean loss and |W|² / (2 C n)."""
    weight, bias = (np.asarray(a, np.float64) for a in (model.coef_, model.intercept_))
    rows = len(d.target)
    step = max(1, BLOCK // len(weight))
    total = 0.0
    for start in range(0, rows, step):
        some = slice(start, start + step)
        logits = d.x[some].astype(np.float64) @ weight.T + bias
        at_target = np.take_along_axis(logits, d.target[some, None], axis=1)[:, 0]
        total += float((scipy.special.logsumexp(logits, axis=1) - at_target).sum())
    return total / rows + float(np.square(weight).sum()) / (2 * C * rows)


def excess(d: Data, model: Any, reference: Any) -> float:
    """The part by which a model's objective exceeds the reference's."""
    theirs = objective(reference, d)
    return objective(model, d) / theirs - 1


def _difference(result: Any, expected: Any) -> float:
    """The largest difference, as a part of the largest number expected."""
    expected = np.asarray(expected)
    return float(np.abs(np.asarray(result) - expected).max() / np.abs(expected).max())


def disagreement(case: Case, d: Data, result: Any, expected: Any) -> str:
    """The fault of a result that should be the expected one; an empty text if it is."""
    if expected is None:
        return "there is nothing to compare it with"
    if case.operation == LOSS:
        parts = zip(("loss", "gradient of the weights", "gradient of the bias"), result, expected, strict=True)
        off = [
            f"{name} is off by {_difference(a, b):.1e}" for name, a, b in parts if not _difference(a, b) <= TOLERANCE
        ]
        return ", ".join(off)
    if case.operation == PREDICT:
        same = float((np.asarray(result) == np.asarray(expected)).mean())
        return "" if same >= SAME_CLASS else f"predicts {1 - same:.1%} of the rows otherwise"
    if case.operation == FIT:
        more = excess(d, result, expected)
        return "" if more <= EXCESS else f"stops at an objective that is {more:.1e} larger"
    return ""


def results(model: Any) -> list[Array]:
    """The arrays of a fitted model."""
    return [value for value in vars(model).values() if isinstance(value, np.ndarray)]


def extra_memory(case: Case, d: Data, name: str) -> int:
    """The most bytes that a fit holds at a time beyond its input and its result, by what NumPy and Python allocate.

    What modules and compiled kernels hold is there already: the same is fitted to a few rows of every class before.
    """
    make = contestants(case)[name]
    few = np.arange(4 * len(d.weight))
    make(d._replace(x=d.x[: len(few)], target=(few % len(d.weight))[: len(d.target)]))()
    fit = make(d)
    tracemalloc.start()
    try:
        model = fit()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - sum(array.nbytes for array in results(model))

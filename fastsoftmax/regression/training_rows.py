"""The rows that a model is fitted to: their weights, and those held out to see when to stop."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from .objective import Data

Array = NDArray[Any]


def weighted(x: Any, labels: Array, classes: Array, sample_weight: Any, class_weight: Any) -> Data:
    """Rows with `sample_weight` times the weights of their classes, None for weights that are all 1."""
    weight = None if sample_weight is None else _of_samples(sample_weight, x)
    if labels.ndim == 1:
        labels = labels.astype(np.int64, copy=False)
    elif class_weight is not None:
        raise ValueError(
            "class_weight needs labels, but y holds probabilities, with which a row has no one class; pass "
            "sample_weight=y @ weights instead"
        )
    if class_weight is not None:
        of_class = _of_classes(class_weight, labels, classes, weight)
        weight = of_class[labels] if weight is None else weight * of_class[labels]
    if weight is None:
        return Data(x, labels, None)
    # Weights near 1 for float32, which has none of 1e39; a power of two rounds nothing.
    exponent = int(np.frexp(weight.max())[1])
    data = Data(x, labels, np.ldexp(weight, -exponent), math.ldexp(1.0, min(exponent, 1023)))
    if not (np.isfinite(weight).all() and exponent <= 1023 and math.isfinite(data.total())):
        raise ValueError(
            "the weights of the rows must add up to a finite number: sample_weight times class_weight reaches "
            f"{weight.max():g}; divide them by their largest"
        )
    return data


def _of_samples(sample_weight: Any, x: Any) -> Array:
    weight: Array = _check_sample_weight(sample_weight, x, dtype=np.float64)
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min()} at {int(weight.argmin())}")
    if not weight.any():
        raise ValueError("sample_weight must not be zero for every row: at least one weight must be positive")
    return weight


def _of_classes(class_weight: Any, labels: Array, classes: Array, weight: Array | None) -> Array:
    if isinstance(class_weight, Mapping):
        return np.asarray(compute_class_weight(class_weight, classes=classes, y=classes), np.float64)
    # Relative to the largest, so that their sum is finite.
    relative = None if weight is None else weight / weight.max()
    sums = np.bincount(labels, weights=relative, minlength=len(classes))
    balanced: Array = np.divide(sums.sum() / len(sums), sums, out=np.zeros(len(sums)), where=sums > 0)
    return balanced


def none_left(data: Data, sample_weight: Any, class_weight: Any) -> None:
    """Refuse rows that all have weight 0."""
    if data.weight is None or data.weight.any():
        return
    factors = [
        name for name, given in (("sample_weight", sample_weight), ("class_weight", class_weight)) if given is not None
    ]
    raise ValueError(f"{' times '.join(factors)} must leave a row with a weight greater than 0, got 0 for every row")


def held_out(data: Data, classes: Array, fraction: float, random: Any) -> Array:
    """Positions of rows that early stopping does not learn from, stratified by class."""
    labels = data.target if data.target.ndim == 1 else data.target.argmax(axis=1)
    n, counts = len(labels), np.bincount(labels, minlength=len(classes))
    least = int(counts.argmin())
    if counts[least] < 2:
        raise ValueError(
            f"early_stopping needs two rows of each class, one to learn from and one to hold out, got {counts[least]} "
            f"of class {classes.tolist()[least]!r}; set early_stopping=False"
        )
    count = math.ceil(fraction * n)
    if not len(classes) <= count <= n - len(classes):
        raise ValueError(
            f"validation_fraction must hold out {len(classes)} to {n - len(classes)} of these {n} rows, as there are "
            f"{len(classes)} classes, got {fraction:g}, which is {count}; set it to {_between(len(classes), n):g}, or "
            "early_stopping=False"
        )
    learnt, held = train_test_split(np.arange(n), test_size=count, stratify=labels, random_state=random)
    for name, rows in (("hold out", held), ("learn from", learnt)):
        if data.weight is not None and not data.weight[rows].any():
            raise ValueError(
                f"early_stopping needs rows with weights greater than 0 to {name}, got 0 for all {len(rows)} of them; "
                "change validation_fraction, or set early_stopping=False"
            )
    return np.asarray(held)


def _between(classes: int, n: int) -> float:
    """A fraction of n rows that holds out as many rows as there are classes."""
    return (classes - 0.5) / n

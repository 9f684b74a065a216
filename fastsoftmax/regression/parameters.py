"""The parameters of `SoftmaxRegression`: checked, and in the form that solvers take."""

import math
import numbers
from collections.abc import Sized
from typing import Any

import numpy as np

from ..core.options import BOUNDS, Bounds
from .nesterov import Schedule
from .objective import Loss

SOLVERS = ("lbfgs", "newton-cg", "sgd")
STRONGEST = 1e300  # penalty
SWITCHES = ("fit_intercept", "warm_start", "early_stopping")


def check(model: Any) -> None:
    """Raise for a parameter out of its range."""
    _number("C", model.C, Bounds(0, above=True))
    _number("label_smoothing", model.label_smoothing, BOUNDS["label_smoothing"])
    _number("tol", model.tol, Bounds(0))
    _number("max_iter", model.max_iter, Bounds(1), kind=numbers.Integral)
    _number("batch_size", model.batch_size, Bounds(1), kind=numbers.Integral)
    if not _is(model.learning_rate, "auto"):
        _number("learning_rate", model.learning_rate, Bounds(0, above=True), "'auto' or ")
    _number("momentum", model.momentum, Bounds(0, 1, below=True))
    for name in SWITCHES:
        if not isinstance(getattr(model, name), (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {getattr(model, name)!r}")
    if not isinstance(model.verbose, (numbers.Integral, np.bool_)):
        raise ValueError(f"verbose must be an integer, got {model.verbose!r}")
    if model.early_stopping:
        _number("validation_fraction", model.validation_fraction, Bounds(0, 1, above=True, below=True))
    if not isinstance(model.solver, str) or model.solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {model.solver!r}")
    _class_weight(model.class_weight)
    if model.classes is not None and np.ndim(model.classes) != 1:
        raise ValueError(f"classes must be one-dimensional, or None, got shape {np.shape(model.classes)}")


def penalty(c: float, weight: float) -> float:
    """1 / (C weight), for rows of a weight; rows of weight 0 have none."""
    if not weight:
        return 0.0
    strength = 1 / (c * weight) if c * weight else math.inf
    if strength > STRONGEST:
        raise ValueError(
            f"C must be at least {1 / STRONGEST / weight:.3g} for rows whose weights add up to {weight:g}, as the "
            f"penalty 1 / (C * weights) is beyond float64, got {c:g}"
        )
    return strength


def schedule(model: Any) -> Schedule:
    """The steps of a model's descent."""
    rate = None if model.learning_rate == "auto" else float(model.learning_rate)
    return Schedule(int(model.batch_size), rate, float(model.momentum))


def loss(model: Any, classes: Sized, weight: float, dtype: Any) -> Loss:
    """The objective of a model, for rows of a weight."""
    strength = penalty(float(model.C), weight)
    return Loss(len(classes), strength, float(model.label_smoothing), bool(model.fit_intercept), dtype)


def _is(value: Any, name: str) -> bool:
    """Whether a parameter is a word; arrays are compared with nothing."""
    return isinstance(value, str) and value == name


def _class_weight(weights: Any) -> None:
    if weights is None or _is(weights, "balanced"):
        return
    if not isinstance(weights, dict):
        raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {weights!r}")
    for name, value in weights.items():
        if not isinstance(value, numbers.Real) or not _is_float(value) or not 0 <= float(value) < math.inf:
            raise ValueError(f"class_weight must hold finite numbers of at least 0, got {value!r} for class {name!r}")


def _is_float(value: Any) -> bool:
    """Whether a float holds a number; an integer may be too large for it."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _number(name: str, value: Any, bounds: Bounds, instead: str = "", *, kind: Any = numbers.Real) -> None:
    """Refuse what is no number of a kind within bounds; `instead` says what else is none the less right."""
    if (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and bounds.admit(value)
        and (_is_float(value) or kind is numbers.Integral)
    ):
        return
    shown = (
        repr(value) if not isinstance(value, int) or _is_float(value) else f"an integer of {value.bit_length()} bits"
    )
    where = str(bounds).replace(">= ", "of at least ").replace("> ", "greater than ")
    what = "an integer" if kind is numbers.Integral else "a number"
    raise ValueError(f"{name} must be {instead}{what} {where}, got {shown}")

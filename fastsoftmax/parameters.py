"""The parameters of `SoftmaxRegression`: what is out of its range is named."""

import math
import numbers
from typing import Any

SOLVERS = ("lbfgs", "newton-cg", "sgd")


def check(model: Any) -> None:
    """Raise for a parameter out of its range."""
    _number("C", model.C, 0, math.inf, "a number greater than 0", open_low=True)
    _number("label_smoothing", model.label_smoothing, 0, 1, "a number in [0, 1]")
    _number("tol", model.tol, 0, math.inf, "a number of at least 0")
    _number("max_iter", model.max_iter, 1, math.inf, "an integer of at least 1", kind=numbers.Integral)
    _number("batch_size", model.batch_size, 1, math.inf, "an integer of at least 1", kind=numbers.Integral)
    if model.learning_rate != "auto":
        _number("learning_rate", model.learning_rate, 0, math.inf, "'auto' or a number greater than 0", open_low=True)
    _number("momentum", model.momentum, 0, math.nextafter(1, 0), "a number in [0, 1)")
    if model.early_stopping:
        fraction = model.validation_fraction
        _number("validation_fraction", fraction, 0, math.nextafter(1, 0), "a number in (0, 1)", open_low=True)
    if model.solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {model.solver!r}")
    if model.class_weight is not None and model.class_weight != "balanced" and not isinstance(model.class_weight, dict):
        raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {model.class_weight!r}")


def _number(
    name: str, value: Any, low: float, high: float, expected: str, *, open_low: bool = False, kind: Any = numbers.Real
) -> None:
    if (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and (low < value if open_low else low <= value)
        and value <= high
    ):
        return
    raise ValueError(f"{name} must be {expected}, got {value!r}")

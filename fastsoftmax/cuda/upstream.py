"""Upstream gradients that are numbers, and not arrays on a GPU: whether they are, and whether they fit."""

import numbers
from typing import Any

import numpy as np

from ..core.conversion import number
from ..core.weights import SINGLE, held


def upstream_number(value: Any, name: str = "grad_output") -> float | None:
    """An upstream gradient that is a number (1 if it was left out); None for an array."""
    if value is None or type(value) is float:
        return 1.0 if value is None else value
    if isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return number(name, value, "a number or an array")
    return None


def upstream_fits(up: float | None, dtype: str, name: str = "grad_output") -> None:
    """Refuse a finite upstream gradient that the computing dtype has no number for."""
    if up is not None and not -SINGLE <= up <= SINGLE:
        held(name, np.asarray(up), dtype)

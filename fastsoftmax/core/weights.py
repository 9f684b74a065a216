"""Weights of classes and rows, and upstream gradients: as float64, and within what the computing dtype holds."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import rules
from .conversion import numbers

Array = NDArray[Any]
SINGLE = float(np.finfo(np.float32).max)
#: Weights of classes times those of rows, times what ordinary losses are, are far from the ends of the dtype's range.
ORDINARY = {"float32": 2.0**32, "float64": 2.0**256}


def weights(name: str, value: ArrayLike, shape: tuple[int, ...], meaning: str) -> Array:
    """Finite, nonnegative weights in float64."""
    array = numbers(name, value).astype(np.float64, order="C")
    rules.weights(name, array.shape, shape, meaning)
    good = (array >= 0) & (array < math.inf)
    if not good.all():
        where = tuple(map(int, np.argwhere(~good)[0]))
        raise ValueError(f"{name} must hold finite numbers >= 0, got {array[where]} at {where}")
    return array


def scaled(array: Array, dtype: str) -> Array:
    """Weights of which only ratios matter: by a power of 2, which is exact, near 1 where they are far from it."""
    top = array.max(initial=0.0)
    if top == 0 or 1 / ORDINARY[dtype] <= top <= ORDINARY[dtype]:
        return array
    result: Array = np.ldexp(array, -int(np.frexp(top)[1]))
    return result


def held(name: str, array: Array, dtype: str) -> Array:
    """Numbers that are multiplied in the computing dtype as they are; those beyond its range are refused."""
    beyond = np.isfinite(array) & (np.abs(array) > np.finfo(dtype).max)
    if beyond.any():
        where = tuple(map(int, np.argwhere(beyond)[0]))
        raise ValueError(
            f"{name} must hold numbers up to {np.finfo(dtype).max:.2g}, as they are multiplied in {dtype}, "
            f"got {array[where]}{f' at {where}' if where else ''}; divide {name} by its largest number here, and "
            "multiply the results"
        )
    return array


def upstream(
    value: ArrayLike, shape: tuple[int, ...], reduction: str, dtype: str, name: str = "grad_output"
) -> Array | float:
    """An upstream gradient: a number, or one for each row."""
    array = numbers(name, value)
    if array.ndim:
        rules.upstream(name, array.shape, shape, reduction)
    array = held(name, array.astype(np.float64, order="C"), dtype)
    return array if array.ndim else float(array)

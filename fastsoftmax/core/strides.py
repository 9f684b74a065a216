"""Strides: axes merged into levels of rows, how far operands reach, and whether they share memory."""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from .dtypes import SIZES

Strides = tuple[int, ...]


class Operand(NamedTuple):
    """An operand that is described and not held: its classes in the last axis, strides in bytes."""

    shape: tuple[int, ...]
    strides: Strides
    dtype: str
    address: int

    @property
    def extent(self) -> tuple[int, int]:
        """The first byte of the elements and the one after the last, counted from the address."""
        return extent(self.shape, self.strides, SIZES[self.dtype])

    def overlaps(self, other: "Operand") -> bool:
        """Whether two operands share memory, as `overlap` says."""
        (low, high), (other_low, other_high) = self.extent, other.extent
        near = self.address + low < other.address + other_high and other.address + other_low < self.address + high
        return near and overlap(self, other)  # the former takes a microsecond, the latter six

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The operand as NumPy takes it to say where elements lie: none is read."""
        memory = {"data": (self.address, True), "typestr": f"|V{SIZES[self.dtype]}"}
        return {"shape": self.shape, "strides": self.strides, **memory, "version": 3}


class Levels(NamedTuple):
    """Rows on merged levels: their lengths, and each operand's strides in bytes, one a level."""

    lengths: tuple[int, ...]
    strides: tuple[Strides, ...]


def merged(shape: tuple[int, ...], operands: tuple[Strides, ...]) -> Levels:
    """The levels of leading axes (of all but the last, which is that of the classes).

    Examples
    --------
    >>> merged((2, 3, 5), ((60, 20, 4),))
    Levels(lengths=(6,), strides=((20,),))
    >>> merged((2, 3, 5), ((60, 20, 4), (20, 40, 4)))
    Levels(lengths=(2, 3), strides=((60, 20), (20, 40)))
    """
    levels: list[tuple[int, Strides]] = []
    for axis, n in enumerate(shape[:-1]):
        if n == 1:
            continue
        steps = tuple(strides[axis] for strides in operands)
        if levels and all(far == near * n for far, near in zip(levels[-1][1], steps, strict=True)):
            levels[-1] = (levels[-1][0] * n, steps)
        else:
            levels.append((n, steps))
    lengths = tuple(n for n, _ in levels)
    return Levels(lengths, tuple(tuple(steps[i] for _, steps in levels) for i in range(len(operands))))


def nearest_two(levels: Levels) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The lengths (outer, inner) of the two nearest levels, and each operand's strides; 0 for a missing level."""
    lengths = (1, 1, *levels.lengths)[-2:]
    return (lengths[0], lengths[1]), [((0, 0, *s)[-2], (0, 0, *s)[-1]) for s in levels.strides]


def offsets(levels: Levels) -> Iterator[tuple[int, ...]]:
    """The beginnings of pieces of two levels: bytes from each operand's address, in the order of rows."""
    walked = levels.lengths[:-2]
    for index in product(*map(range, walked)):
        yield tuple(sum(i * s for i, s in zip(index, strides, strict=False)) for strides in levels.strides)


def joined(shape: tuple[int, ...], strides: Strides, leading: int) -> tuple[int, int] | None:
    """(length, stride) of all axes from number `leading` on as one; None where strides do not allow it.

    Examples
    --------
    >>> joined((2, 3, 4), (48, 16, 4), 1)
    (12, 4)
    >>> joined((2, 3, 4), (48, 4, 12), 1) is None
    True
    """
    if 0 in shape[leading:]:
        return 0, strides[-1]
    axes = [(n, s) for n, s in zip(shape[leading:], strides[leading:], strict=True) if n > 1]
    if any(far != near * n for (_, far), (n, near) in pairwise(axes)):
        return None
    return math.prod(n for n, _ in axes), axes[-1][1] if axes else strides[-1]


def axes_last(axes: tuple[int, ...], strides: Strides) -> tuple[int, ...]:
    """A permutation that puts some axes last, the longest strides first: their order among themselves is free."""
    rest = (axis for axis in range(len(strides)) if axis not in axes)
    return (*rest, *sorted(axes, key=lambda axis: -abs(strides[axis])))


def contiguous(shape: tuple[int, ...], itemsize: int) -> Strides:
    """The strides in bytes of a C-contiguous array."""
    strides = [itemsize] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    return tuple(strides)


def round_up(number: int, multiple: int) -> int:
    """The least multiple that is not below a number."""
    return -(-number // multiple) * multiple


def extent(shape: tuple[int, ...], strides: Strides, itemsize: int) -> tuple[int, int]:
    """The first byte of the elements of an array and the one after the last, counted from its address."""
    reach = [step * (n - 1) for n, step in zip(shape, strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + itemsize


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays share memory; assumed where deciding it would take long."""
    decide: Any = np.shares_memory  # NumPy's annotations of the bound differ between releases
    try:
        return bool(decide(a, b, max_work=10_000))
    except np.exceptions.TooHardError:
        return True


@lru_cache(maxsize=1024)
def overlapping(shape: tuple[int, ...], strides: Strides, itemsize: int) -> bool:
    """Whether elements of an array lie on one another.

    Examples
    --------
    >>> overlapping((3, 2), (4, 4), 4), overlapping((3, 2), (8, -4), 4), overlapping((2, 2), (12, 8), 4)
    (True, False, False)
    """
    axes = list(zip(shape, strides, strict=True))
    if 0 in shape or _nested(axes[::-1], itemsize):  # C order, without sorting
        return False
    axes = sorted(((n, abs(s)) for n, s in axes if n > 1), key=lambda axis: axis[1])
    if _nested(axes, itemsize):
        return False
    # Axes lie between one another, as those of no view that NumPy makes: only then is each element's place looked at.
    reach = itemsize + sum(step * (n - 1) for n, step in axes)
    if math.prod(shape) * itemsize > reach:
        return True
    places = np.zeros(1, np.int64)
    for n, step in axes:
        places = np.add.outer(places, step * np.arange(n)).ravel()
    return bool((np.diff(np.sort(places)) < itemsize).any())


def _nested(axes: list[tuple[int, int]], itemsize: int) -> bool:
    """Whether each axis, in the order of (length, stride), steps over all that the ones before it reach."""
    reach = itemsize
    for n, step in axes:
        if n > 1:
            if abs(step) < reach:
                return False
            reach += abs(step) * (n - 1)
    return True

"""Operands on a GPU as they are described: sizes, and whether they share memory."""

from typing import Any, NamedTuple

import numpy as np

SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8}


class Operand(NamedTuple):
    """What an operand looks like with its classes in the last axis; strides in bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    address: int


def bounds(operand: Operand) -> tuple[int, int]:
    """The first byte of an operand's elements and the one after the last, counted from its address."""
    reach = [step * (n - 1) for n, step in zip(operand.shape, operand.strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + SIZES[operand.dtype]


class _Described:
    """An operand as NumPy can be told of one: where elements are, and nothing is read."""

    def __init__(self, operand: Operand) -> None:
        self.__array_interface__ = {
            "shape": operand.shape,
            "strides": operand.strides,
            "typestr": f"|V{SIZES[operand.dtype]}",
            "data": (operand.address, True),
            "version": 3,
        }


def overlap(a: Operand, b: Operand) -> bool:
    """Whether two operands share memory; assumed where deciding it would take long."""
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b)
    if a.address + a_high <= b.address + b_low or b.address + b_high <= a.address + a_low:
        return False
    decide: Any = np.shares_memory
    try:
        return bool(decide(np.asarray(_Described(a)), np.asarray(_Described(b)), max_work=10_000))
    except np.exceptions.TooHardError:
        return True


def disturbed(out: Operand, operands: dict[str, tuple[Operand | None, bool]]) -> None:
    """Refuse an output that would be written over what is still to be read; some operands may be the output itself."""
    if 0 in out.shape:
        return
    for name, (operand, in_place) in operands.items():
        if operand is None or (in_place and operand == out):
            continue
        if overlap(out, operand):
            which = f"or be {name} itself, " if in_place else ""
            raise ValueError(f"out must not share memory with {name}, {which}on a GPU, where nothing is copied")

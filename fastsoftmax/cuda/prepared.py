"""Calls on a GPU that are prepared for arrays that look alike, and what such arrays have to do with each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import memo
from ..core.strides import Operand
from .arrays.library import LEGACY, Argument, Library
from .arrays.lookup import library
from .toolkit import compiler


@dataclass(frozen=True, slots=True)  # whose attributes take 15 ns where a named tuple is unpacked in 42
class Prepared:
    """A call for operands that look alike."""

    call: Any
    shape: tuple[int, ...]  # of the loss, or of a number a row
    dtype: str
    factory: Callable[[], Any] | None  # makes that, where the library has a shorter way than `empty`
    reach: tuple[int, ...]  # between which distances from the operands an output may share memory with them
    waits: bool  # whether operands may be ordered on other streams
    exports: bool  # whether results are others than the library's until they are exported


calls = memo.shared(4096)  # calls, some 5 KB each


def find(key: Any, x_at: int, y_at: int, at: int) -> Prepared | None:
    """The prepared call of a key, unless an output (0: none) shares memory with operands at some addresses."""
    try:
        prepared: Prepared | None = calls.get(key)
    except TypeError:  # an argument that no call can have
        return None
    if at and prepared is not None:
        low, high, y_low, y_high = prepared.reach
        if low < at - x_at < high or y_low < at - y_at < y_high:
            return None
    return prepared


def may_wait(kind: Library, arrays: tuple[Argument | None, ...]) -> bool:
    """Whether some operand's contents may be ordered on another stream than a call on arrays of a library goes to."""
    return any(one is not None and not (one.library is kind and kind.current) for one in arrays)


def order(kind: Library, stream: int, device: int, arrays: tuple[Any, ...], owners: tuple[Any, ...]) -> list[Any]:
    """Have the call's stream wait for arrays that are ordered on another one.

    Returns the owners of their memory, to be kept until the call has run.
    """
    borrowed = []
    for array, owner in zip(arrays, owners, strict=True):
        if array is None:
            continue
        one = library(array)
        if one.waits:
            borrowed.append(owner)
        elif one is not kind or not kind.current:
            other = one.stream(array)
            if (other or LEGACY) != (stream or LEGACY):
                compiler.wait(device, stream, other)
                borrowed.append(owner)
    return borrowed


def reach_of(out: Operand | None, *operands: Operand | None) -> tuple[int, ...]:
    """`Prepared.reach`; between 0 and 0 there is nothing."""
    reach: list[int] = []
    for operand in operands:
        if operand is None or out is None or operand == out or 0 in out.shape:
            reach += (0, 0)
        else:
            (low, high), (out_low, out_high) = operand.extent, out.extent
            reach += (low - out_high, high - out_low)
    return tuple(reach)

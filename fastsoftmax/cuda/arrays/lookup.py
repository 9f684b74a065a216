"""Arguments of calls on a GPU: from which library they are, and what was looked at."""

import sys
from typing import Any, NamedTuple

from ...core import memo
from ...core.devices import library_of, on_cuda
from .library import LEGACY, Cupy, Derived, Elsewhere, Exchanged, Interface, Jax, Library, Look, Numba, Torch

__all__ = ["ELSEWHERE", "LEGACY", "Library", "Look", "Seen", "all_seen", "call_key", "keys", "library", "seen"]

_NOTHING = None, 0, None  # what an argument that was left out looks like, its address, and what holds its memory

_TORCH, _DERIVED, _CUPY, _NUMBA, _JAX = Torch(), Derived(), Cupy(), Numba(), Jax()
_INTERFACE, _DLPACK, ELSEWHERE = Interface(), Exchanged(), Elsewhere()
_by_type = memo.shared()


def library(value: Any) -> Library:
    """The library of an argument."""
    kind = type(value)
    found = _by_type.get(kind)
    return _found(value, kind) if found is None else found


def _found(value: Any, kind: type) -> Library:
    """By the type where all its arrays lie on GPUs (torch tells it by the device), else by the array."""
    root, by_type = library_of(kind), _by_class(kind)
    if by_type is not None:
        _by_type[kind] = by_type
        return by_type
    if not on_cuda(value):
        return ELSEWHERE
    if root in ("jax", "jaxlib"):
        return _JAX
    return _INTERFACE if hasattr(value, "__cuda_array_interface__") else _DLPACK


def _by_class(kind: type) -> Library | None:
    """The library of all arrays of a class."""
    torch = sys.modules.get("torch")
    tensor, ndarray = getattr(torch, "Tensor", None), getattr(sys.modules.get("cupy"), "ndarray", None)
    if torch is not None and tensor is not None and issubclass(kind, tensor):
        return _TORCH if kind in (tensor, torch.nn.Parameter) else _DERIVED
    if kind is ndarray:
        return _CUPY
    return _NUMBA if library_of(kind) == "numba" and hasattr(kind, "device_ctypes_pointer") else None


class Seen(NamedTuple):
    """An argument, and what was looked at."""

    value: Any
    library: Library
    peeked: Any
    address: int
    held: Any  # what holds its memory

    @property
    def look(self) -> Look:
        """What the argument looks like."""
        return self.library.look(self.value, self.peeked)


def seen(value: Any, stream: int) -> Seen:
    """Look at an argument of a call that goes to a stream."""
    kind = library(value)
    return Seen(value, kind, *kind.peek(value, stream))


def all_seen(values: tuple[Any, ...], stream: int, *, required: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """Look at arguments of a call that goes to a stream; None remains what it is, but for the `required` ones."""
    return tuple(None if v is None and i not in required else seen(v, stream) for i, v in enumerate(values))


def keys(arrays: tuple[Any, ...], stream: int) -> tuple[tuple[Any, ...], tuple[int, ...], tuple[Any, ...]]:
    """(keys of some arrays, or None, with their types and alignment; their addresses; what holds their memory)."""
    if not arrays:
        return (), (), ()
    looks, places, held = zip(*(_NOTHING if a is None else library(a).peek(a, stream) for a in arrays), strict=True)
    return tuple(zip(map(type, arrays), looks, map(_alignment, places), strict=True)), places, held


def call_key(
    kind: Library, x: Any, y: Any, out: Any, stream: int
) -> tuple[tuple[Any, ...], int, int, int, tuple[Any, ...]]:
    """(key of a call's arrays, the last two of which may be None; their addresses; what holds their memory)."""
    x_look, x_at, x_held = kind.peek(x, stream)
    y_look, y_at, y_held = _NOTHING if y is None else library(y).peek(y, stream)
    look, at, held = _NOTHING if out is None else library(out).peek(out, stream)
    places = _alignment(x_at), _alignment(y_at), _alignment(at), at == x_at, at == y_at
    return (type(y), type(out), places, x_look, y_look, look), x_at, y_at, at, (x_held, y_held, held)


def _alignment(address: int) -> int | None:
    """What kernels are chosen by of an address; None for one that is no memory's."""
    return address & 15 if address else None

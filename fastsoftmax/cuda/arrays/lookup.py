"""Arguments of calls on a GPU: their library, and what it says of them."""

import sys
from typing import Any

from ...core import memo
from ...core.devices import library_of, on_cuda
from .cupy import Cupy
from .exchange import Exchanged, Jax
from .interface import Interface, Numba
from .lent import Lending, Lent
from .library import Argument, Library
from .torch import Derived, Torch

_NOTHING = None, 0, None  # the key of an argument that was left out, its address, and the owner of its memory

_TORCH, _DERIVED, _CUPY, _NUMBA, _JAX, _LENDING = Torch(), Derived(), Cupy(), Numba(), Jax(), Lending()
_INTERFACE, _DLPACK, _MAIN_MEMORY = Interface(), Exchanged(), Library()
by_type = memo.shared()


def library(value: Any) -> Library:
    """The library of an argument."""
    kind = type(value)
    known: Library | None = by_type.get(kind)
    return _look_up(value, kind) if known is None else known


def _look_up(value: Any, kind: type) -> Library:
    """By the type where all its arrays lie on GPUs (torch tells it by the device), else by the array."""
    root, of_class = library_of(kind), _by_class(kind)
    if of_class is not None:
        by_type[kind] = of_class
        return of_class
    if not on_cuda(value):
        return _MAIN_MEMORY
    if root in ("jax", "jaxlib"):
        return _JAX
    return _INTERFACE if hasattr(value, "__cuda_array_interface__") else _DLPACK


def _by_class(kind: type) -> Library | None:
    """The library of all arrays of a class."""
    torch = sys.modules.get("torch")
    tensor, ndarray = getattr(torch, "Tensor", None), getattr(sys.modules.get("cupy"), "ndarray", None)
    if torch is not None and tensor is not None and issubclass(kind, tensor):
        return _TORCH if kind in (tensor, torch.nn.Parameter) else _DERIVED
    exact: dict[Any, Library] = {ndarray: _CUPY, Lent: _LENDING}
    if kind in exact:
        return exact[kind]
    return _NUMBA if library_of(kind) == "numba" and hasattr(kind, "device_ctypes_pointer") else None


def argument(value: Any, stream: int) -> Argument:
    """An argument of a call that goes to a stream."""
    kind = library(value)
    return Argument(value, kind, *kind.key(value, stream))


def arguments(values: tuple[Any, ...], stream: int, *, required: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """Arguments of a call that goes to a stream; None remains what it is, but for the `required` ones."""
    return tuple(None if v is None and i not in required else argument(v, stream) for i, v in enumerate(values))


def keys(arrays: tuple[Any, ...], stream: int) -> tuple[tuple[Any, ...], tuple[int, ...], tuple[Any, ...]]:
    """(keys of some arrays, or None, with their types and alignment; their addresses; the owners of their memory)."""
    if not arrays:
        return (), (), ()
    by_array = [_NOTHING if a is None else library(a).key(a, stream) for a in arrays]
    key, addresses, owners = zip(*by_array, strict=True)
    return tuple(zip(map(type, arrays), key, map(_alignment, addresses), strict=True)), addresses, owners


def call_key(kind: Library, x: Any, y: Any, out: Any) -> tuple[tuple[Any, ...], int, int, int, int, tuple[Any, ...]]:
    """(key of a call's arrays, of which `y` and `out` may be None; its stream; their addresses; their owners)."""
    stream = kind.stream(x)
    x_key, x_at, x_owner = kind.key(x, stream)
    y_key, y_at, y_owner = _NOTHING if y is None else library(y).key(y, stream)
    key, at, owner = _NOTHING if out is None else library(out).key(out, stream)
    places = _alignment(x_at), _alignment(y_at), _alignment(at), at == x_at, at == y_at
    return (type(y), type(out), places, x_key, y_key, key), stream, x_at, y_at, at, (x_owner, y_owner, owner)


def _alignment(address: int) -> int | None:
    """An address modulo 16, by which kernels are chosen; None for one that is no memory's."""
    return address & 15 if address else None

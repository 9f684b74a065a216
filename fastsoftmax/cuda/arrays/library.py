"""A library whose arrays lie on GPUs: what is asked of its arrays, and new ones of their kind.

None is imported: who has one of CuPy's arrays has imported CuPy.  Nothing here waits for a GPU or copies an element.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LEGACY = 1  # the default stream's handle, where 0 would be ambiguous


class Description(NamedTuple):
    """All that checks and plans depend on; strides in bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str  # NumPy's name, or what is wrong with it
    device: int
    readonly: bool = False


NOWHERE = Description((), (), "", -1)


class Library:
    """Arrays of one library: asked for what calls depend on, and made.

    By itself it stands for whatever lies in main memory, which checks refuse.
    """

    name = ""
    mutable = True  # otherwise new arrays are others than the library's until they are exported
    current = True  # whether work is put on the library's current stream, whichever array it is for
    waits = False  # whether calls wait for arrays once these are asked for their keys
    to_device = "a copy on the GPU"  # how a user gets what is named {0} there
    cast = "{0} converted to {1}"
    contiguous = "a contiguous copy of {0}"

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """(what an array's description follows from, hashable; its address; the owner of its memory): in no time.

        What lies on no GPU has a key that is empty and not hashable, so that no call is ever like one with it.
        """
        return [], 0, array

    def call_key(self, x: Any, y: Any, out: Any) -> Any:
        """`lookup.call_key` of arrays that own their memory, where the library has a shorter way; else None."""
        return None

    def describe(self, array: Any, key: Any) -> Description:
        """An array's description, from its key: shape, strides, dtype and device, by their names."""
        if not key:
            return NOWHERE
        shape, strides, dtype, device, *_ = key
        return Description(shape, strides, dtype_name(dtype), device)

    def stream(self, array: Any) -> int:
        """The handle of the stream that work on an array is put on."""
        return 0

    def empty_like(self, array: Any, stream: int, dtype: str | None = None) -> Any:
        """A new array in the shape and, where it can be, memory order of another: in its dtype, or some other one."""
        look = self.describe(array, self.key(array, stream)[0])
        return self.empty(array, look.shape, dtype or look.dtype, stream)

    def address(self, array: Any) -> int:
        """The address of a new array."""
        return int(array.pointer)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """A new C-contiguous array on the device of another."""
        raise NotImplementedError

    def factory(self, like: Any, shape: tuple[int, ...], dtype: str) -> Callable[[], Any] | None:
        """A function that makes such arrays, where there is a shorter way than `empty`."""
        return None

    def exported(self, array: Any) -> Any:
        """A new array as the library's users know it."""
        return array

    def refused(self, array: Any, name: str) -> str | None:
        """The reason why calls cannot take an array, where its description does not say it."""
        return None


class Argument(NamedTuple):
    """An argument of a call, and what its library says of it."""

    value: Any
    library: Library
    key: Any
    address: int
    owner: Any  # of its memory

    @property
    def description(self) -> Description:
        """The argument's description."""
        return self.library.describe(self.value, self.key)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype; of another byte order it says so."""
    return dtype.name if dtype.isnative else f"byte-swapped {dtype.name}"


def module(name: str) -> Any:
    """A library that is imported already, as there are arrays of its."""
    return sys.modules[name]


def device_of(address: int) -> int:
    """The GPU that an address belongs to; the current one for that of an empty array."""
    from ..toolkit import compiler  # noqa: PLC0415  so that this module says what arrays are like without a driver

    return compiler.device_of(address) if address else compiler.current_device()

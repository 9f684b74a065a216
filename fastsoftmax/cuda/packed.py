"""A kernel's parameters in memory, as a driver reads them: packed once, and then changed in a few places."""

import ctypes
import struct
from typing import Any

import numpy as np


class Packed:
    """Parameters in memory: integers as int64, and NumPy's float32 and float64.

    Parameters
    ----------
    arguments
        All of them.
    first
        How many of them are addresses that are replaced together.

    Attributes
    ----------
    places : int
        The address of an array of their addresses.
    replace
        ``replace(memory, 0, *addresses)`` replaces the first ones.

    Examples
    --------
    >>> packed = Packed((256, -100, np.float32(0.5)), 1)
    >>> packed.replace(packed.memory, 0, 512)
    >>> packed.change(2, np.float32(2.0))
    >>> packed.values()
    (512, -100, 2.0)
    """

    __slots__ = ("_addresses", "_formats", "_offsets", "memory", "places", "replace")

    def __init__(self, arguments: tuple[Any, ...], first: int) -> None:
        self._formats = [{np.float32: "f", np.float64: "d"}.get(type(value), "q") for value in arguments]
        layout = "".join(self._formats)
        self._offsets = [struct.calcsize(f"{layout[:i]}0{kind}") for i, kind in enumerate(layout)]
        self.memory = ctypes.create_string_buffer(struct.calcsize(layout))
        struct.pack_into(layout, self.memory, 0, *arguments)
        start = ctypes.addressof(self.memory)
        self._addresses = (ctypes.c_void_p * len(arguments))(*(start + offset for offset in self._offsets))
        self.places = ctypes.addressof(self._addresses)
        self.replace = struct.Struct(f"{first}N").pack_into

    def change(self, number: int, value: Any) -> None:
        """Replace one of the others by a value of its type."""
        struct.pack_into(self._formats[number], self.memory, self._offsets[number], value)

    def values(self) -> tuple[Any, ...]:
        """What they are now."""
        return struct.unpack_from("".join(self._formats), self.memory)

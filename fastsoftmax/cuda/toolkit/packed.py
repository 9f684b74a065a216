"""Parameters of kernels in memory, as the driver reads them: packed once, but for cells, which kernels may share."""

import ctypes
import struct
from functools import partial
from typing import Any, NamedTuple

import numpy as np


class Cell(NamedTuple):
    """A parameter that each launch gives a new value: one of the addresses (or sizes) that kernels share."""

    number: int


class Cells:
    """The values of cells; ``fill(*values)`` fills all of them."""

    def __init__(self, count: int) -> None:
        self._memory = (ctypes.c_uint64 * count)()
        self.fill = partial(struct.Struct(f"{count}N").pack_into, self._memory, 0)

    def place(self, cell: Cell) -> int:
        """The address of a cell."""
        return ctypes.addressof(self._memory) + 8 * cell.number


class Packed:
    """The parameters of a kernel: cells, integers as int64, and NumPy's float32 and float64.

    Their addresses are in an array at the address `places`.
    """

    def __init__(self, arguments: tuple[Any, ...], cells: Cells) -> None:
        self._formats = [{np.float32: "f", np.float64: "d"}.get(type(value), "q") for value in arguments]
        layout = "".join(self._formats)
        self._offsets = [struct.calcsize(f"{layout[:i]}0{kind}") for i, kind in enumerate(layout)]
        self._memory, self._cells = ctypes.create_string_buffer(struct.calcsize(layout)), cells
        start = ctypes.addressof(self._memory)
        self._places = (ctypes.c_void_p * len(arguments))()
        for number, value in enumerate(arguments):
            cell = isinstance(value, Cell)
            self._places[number] = cells.place(value) if cell else start + self._offsets[number]
            if not cell:
                self.change(number, value)
        self.places = ctypes.addressof(self._places)

    def change(self, number: int, value: Any) -> None:
        """Give one that is no cell another value of its type."""
        struct.pack_into(self._formats[number], self._memory, self._offsets[number], value)

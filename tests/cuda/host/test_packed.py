"""The parameters of kernels in memory, read as a driver would: each by its address."""

import ctypes

import numpy as np

from fastsoftmax.cuda.toolkit.packed import Cell, Cells, Packed

INTEGER, SINGLE, DOUBLE = ctypes.c_int64, ctypes.c_float, ctypes.c_double


def read(packed, types):
    """The parameters as a driver copies them."""
    places = (ctypes.c_void_p * len(types)).from_address(packed.places)
    return [kind.from_address(place).value for kind, place in zip(types, places, strict=True)]


def test_parameters_of_each_type_lie_where_their_addresses_say():
    types, cells = [INTEGER, INTEGER, SINGLE, DOUBLE, SINGLE, INTEGER], Cells(1)
    packed = Packed((Cell(0), -(1 << 63), np.float32(0.1), np.float64(0.1), np.float32(-2), 5), cells)
    assert read(packed, types) == [0, -(1 << 63), float(np.float32(0.1)), 0.1, -2.0, 5]
    largest = (1 << 63) - 1
    cells.fill(largest)
    for number, value in ((1, -1), (2, np.float32(np.inf)), (3, np.float64(-0.0)), (5, largest)):
        packed.change(number, value)
    changed = read(packed, types)
    assert changed == [largest, -1, np.inf, 0.0, -2.0, largest]
    assert np.signbit(changed[3])


def test_kernels_share_cells():
    cells = Cells(3)
    first, second = Packed((Cell(2), 7, Cell(0)), cells), Packed((8, Cell(1), Cell(2)), cells)
    for values in ((10, 20, 30), (1 << 62, 0, 5)):
        cells.fill(*values)
        a, b, c = values
        assert read(first, [INTEGER] * 3) == [c, 7, a]
        assert read(second, [INTEGER] * 3) == [8, b, c]

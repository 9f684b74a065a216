"""A kernel's parameters in memory, read back as a driver would: each by its address."""

import ctypes

import numpy as np

from fastsoftmax.cuda.packed import Packed


def read(packed, types):
    """The parameters as a driver copies them."""
    places = (ctypes.c_void_p * len(types)).from_address(packed.places)
    return [kind.from_address(place).value for kind, place in zip(types, places, strict=True)]


def test_parameters_of_each_type_lie_where_their_addresses_say():
    integer, single, double = ctypes.c_int64, ctypes.c_float, ctypes.c_double
    largest = (1 << 63) - 1
    packed = Packed((7, -(1 << 63), np.float32(0.1), np.float64(0.1), np.float32(-2), 5), 1)
    types = [integer, integer, single, double, single, integer]
    assert read(packed, types) == [7, -(1 << 63), float(np.float32(0.1)), 0.1, -2.0, 5]
    packed.replace(packed.memory, 0, largest)
    for number, value in ((1, -1), (2, np.float32(np.inf)), (3, np.float64(-0.0)), (5, largest)):
        packed.change(number, value)
    changed = read(packed, types)
    assert changed == [largest, -1, np.inf, 0.0, -2.0, largest]
    assert np.signbit(changed[3])
    assert packed.values() == tuple(changed)

"""Arrays of our own, and what they are exchanged by.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import numpy as np
import pytest

from fastsoftmax.cuda.arrays import array, dlpack
from fastsoftmax.cuda.arrays.library import Description
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed


def test_an_array_of_our_own_says_where_it_is(driver):
    made = array.Array((2, 3), "float32", 1, 5)
    about = made.__cuda_array_interface__
    assert about == {
        "shape": (2, 3), "strides": None, "typestr": "<f4", "data": (made.pointer, False), "version": 3, "stream": 5
    }  # fmt: skip
    assert made.__dlpack_device__() == (2, 1)
    assert repr(made) == "<fastsoftmax.cuda array of float32, shape (2, 3), on GPU 1>"
    assert driver.allocations == [(1, 24, 5)]


def test_an_array_of_our_own_is_exchanged(driver):
    """Its consumer's stream waits for its own."""
    made = array.Array((2, 3), "bfloat16", 1, 5)
    found = dlpack.read(made.__dlpack__(stream=8))
    assert found == (made.pointer, Description((2, 3), (6, 2), "bfloat16", 1))
    assert ("wait", 1, 8, 5) in driver.calls
    driver.calls.clear()
    made.__dlpack__(stream=5)
    made.__dlpack__(stream=-1)
    assert not driver.calls
    made.__dlpack__()
    assert driver.calls == [("wait", 1, 1, 5)]
    assert not hasattr(made, "__cuda_array_interface__")


def test_capsules_keep_memory_until_they_are_used(driver):
    before = len(dlpack._exported)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    described = Description((2, 3), (12, 4), "float32", 0)
    capsule = dlpack.export(values.ctypes.data, described, values, device_type=1)
    assert len(dlpack._exported) == before + 1
    torch = pytest.importorskip("torch")
    tensor = torch.utils.dlpack.from_dlpack(capsule)
    assert tensor.tolist() == values.tolist()
    del capsule
    assert len(dlpack._exported) == before + 1
    del tensor
    assert len(dlpack._exported) == before


def test_capsules_that_nobody_uses_are_given_back(driver):
    before = len(dlpack._exported)
    capsule = dlpack.export(0, Description((), (), "float64", 0), None)
    assert len(dlpack._exported) == before + 1
    del capsule
    assert len(dlpack._exported) == before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.int32])
def test_capsules_of_numpy_are_read(dtype):
    x = np.zeros((4, 6), dtype)[::2, 1::3]
    described = dlpack.read(x.__dlpack__())
    assert described == (x.ctypes.data, Description(x.shape, x.strides, np.dtype(dtype).name, 0))

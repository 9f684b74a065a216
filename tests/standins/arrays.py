"""Arrays on the stand-in driver's devices, as libraries show theirs: CUDA array interface (version 3) and DLPack."""

import ctypes

import numpy as np
from ml_dtypes import bfloat16

NAME = "NOT A GPU (stand-in driver with a PTX interpreter)"


class InterfaceArray:
    """An array with the CUDA array interface only."""

    def __init__(self, driver, values, address, device, stream):
        self.driver, self.values, self.address, self.device, self.stream = driver, values, address, device, stream
        self.shape, self.dtype = values.shape, values.dtype

    def __repr__(self):
        return f"<{type(self).__name__} of {self.dtype}, shape {self.shape}: {NAME}>"

    @property
    def __cuda_array_interface__(self):
        if self.dtype == bfloat16:
            raise AttributeError("bfloat16 has no code in the interface")
        return {
            "shape": self.shape,
            "strides": None if self.values.flags.c_contiguous else self.values.strides,
            "typestr": self.dtype.str,
            "data": (self.address if self.values.size else 0, not self.values.flags.writeable),
            "version": 3,
            "stream": self.stream,
        }


class ExchangedArray:
    """An array with DLPack only."""

    __init__, __repr__ = InterfaceArray.__init__, InterfaceArray.__repr__

    def __dlpack_device__(self):
        return 2, self.device

    def __dlpack__(self, *, stream=None, **_):
        if stream not in (None, -1) and self.stream is not None and self.stream != stream:
            self.driver.wait(self.device, stream, self.stream)
        return capsule(self)


class DeviceArray(ExchangedArray, InterfaceArray):
    """An array with both."""


class Tensor(ctypes.Structure):
    """DLPack's struct, with the fields of the managed one behind it."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


CODES = {"i": 0, "u": 1, "f": 2, "b": 6, "c": 5}
make_capsule, capsule_pointer = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetPointer
make_capsule.restype, make_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
KEPT = []  # structs of capsules: a test makes few of them


def capsule(array):
    """A DLPack capsule."""
    values = array.values
    sizes = (ctypes.c_int64 * max(values.ndim, 1))(*values.shape)
    steps = (ctypes.c_int64 * max(values.ndim, 1))(*(step // values.itemsize for step in values.strides))
    code = 4 if values.dtype == bfloat16 else CODES[values.dtype.kind]
    device = (ctypes.c_int32 * 2)(2, array.device)
    address = array.address if values.size else 0
    tensor = Tensor(address, device, values.ndim, code, 8 * values.itemsize, 1, sizes, steps, 0, None, None)
    KEPT.append((tensor, sizes, steps))
    return make_capsule(ctypes.addressof(tensor), b"dltensor", None)


def described(array):
    """(address, shape, strides, dtype) of an array on a device."""
    if about := getattr(array, "__cuda_array_interface__", None):
        return about["data"][0], about["shape"], about.get("strides"), np.dtype(about["typestr"])
    held = array.__dlpack__(stream=-1)
    tensor = Tensor.from_address(capsule_pointer(held, b"dltensor"))
    kind = {0: "i", 1: "u", 2: "f"}.get(tensor.code)
    dtype = np.dtype(bfloat16) if tensor.code == 4 else np.dtype(f"{kind}{tensor.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim]) if tensor.strides else None
    return (tensor.data or 0) + tensor.offset, shape, strides, dtype

"""Arrays with the CUDA array interface, and those of Numba, which has a shorter way to the same."""

from typing import Any

import numpy as np

from ...core.strides import contiguous
from .array import Array
from .library import LEGACY, Description, Library, device_of, dtype_name, module


class Interface(Library):
    """Any array with the CUDA array interface; results are arrays of this package's own."""

    current = False

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """The interface makes a dictionary each time: some microseconds."""
        about = array.__cuda_array_interface__
        address, readonly = about["data"]
        masked = about.get("mask") is not None
        strides, dtype = about.get("strides"), about["typestr"]
        return (about["shape"], strides, dtype, device_of(address), readonly, masked), address, array

    def describe(self, array: Any, key: Any) -> Description:
        """The interface leaves out the strides of a C-contiguous array."""
        shape, strides, typestr, device, readonly, masked = key
        dtype = np.dtype(typestr)
        if strides is None:
            strides = contiguous(shape, dtype.itemsize)
        return Description(tuple(shape), tuple(strides), "masked" if masked else dtype_name(dtype), device, readonly)

    def stream(self, array: Any) -> int:
        """The stream that the array's contents are ordered on."""
        return array.__cuda_array_interface__.get("stream") or LEGACY

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Of memory from NVIDIA's own pool."""
        return Array(shape, dtype, device_of(self.key(like, stream)[1]), stream)


class Numba(Interface):
    """Numba's device arrays."""

    name = "numba"
    to_device = "cuda.to_device({0})"

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """By attributes, without the interface's dictionary."""
        address = array.device_ctypes_pointer.value or 0
        return (array.shape, array.strides, array.dtype, device_of(address), False, False), address, array

    def stream(self, array: Any) -> int:
        """The stream that an array was bound to, or the default one."""
        return int(array.stream) or LEGACY

    def address(self, array: Any) -> int:
        """By an attribute."""
        return array.device_ctypes_pointer.value or 0

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Bound to the stream of the call."""
        numba = module("numba").cuda
        with numba.gpus[device_of(self.key(like, stream)[1])]:
            bound = 0 if stream == LEGACY else numba.external_stream(stream)
            return numba.device_array(shape, np.dtype(dtype), stream=bound)

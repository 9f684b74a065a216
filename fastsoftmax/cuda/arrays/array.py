"""Results for arrays of a kind that has no memory of its own to offer: an owned array that others can read."""

from typing import Any

import numpy as np

from ...core.devices import CUDA
from ...core.dtypes import SIZES
from ...core.strides import contiguous
from . import dlpack
from .library import Description


class Array:
    """An array on a GPU, with the CUDA array interface (version 3) and DLPack.

    Attributes
    ----------
    shape, strides : tuple of int
        Strides are in bytes; the array is C-contiguous.
    dtype : str
        NumPy's name of the elements' type.
    device : int
        The number of the GPU.
    stream : int
        The handle of the stream that its contents are ordered on.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, device: int, stream: int) -> None:
        from ..toolkit import compiler  # noqa: PLC0415  so that arrays can be told apart without a driver

        self.shape, self.dtype, self.device, self.stream = tuple(shape), dtype, device, stream
        itemsize = 1 if dtype == "bool" else SIZES[dtype]
        self.strides = contiguous(self.shape, itemsize)
        size = int(np.prod(self.shape, dtype=np.int64)) * itemsize
        self._memory = compiler.allocate(device, size, stream) if size else None
        self.pointer = int(self._memory.handle) if self._memory is not None else 0

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<fastsoftmax.cuda array of {self.dtype}, shape {self.shape}, on GPU {self.device}>"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("the CUDA array interface has no bfloat16; use DLPack")
        return {
            "shape": self.shape,
            "strides": None,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.pointer, False),
            "version": 3,
            "stream": self.stream or 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        from ..toolkit import compiler  # noqa: PLC0415

        wanted = 1 if stream is None else stream
        if wanted not in (-1, self.stream or 1):
            compiler.wait(self.device, wanted, self.stream)
        return dlpack.export(self.pointer, Description(self.shape, self.strides, self.dtype, self.device), self)

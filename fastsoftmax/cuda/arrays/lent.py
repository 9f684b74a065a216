"""Memory on a GPU that is lent for one call: XLA's, by `fastsoftmax.jax`."""

from typing import Any

import numpy as np

from ...core.devices import CUDA
from ...core.dtypes import SIZES
from . import dlpack
from .array import Array
from .library import Description, Library


class Lent:
    """An array in somebody's memory, for work on one stream: as much of NumPy's as `fastsoftmax.jax` asks for."""

    def __init__(self, address: int, about: Description, stream: int) -> None:
        self.address, self.about, self.stream = address, about, stream

    @classmethod
    def of(cls, array: Any, stream: int) -> "Lent":
        """An array with DLPack, whose contents are ordered on a stream already."""
        return cls(*dlpack.read(array.__dlpack__()), stream)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.about.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.about.shape)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.about.device

    def __getitem__(self, index: tuple[Any, ...]) -> "Lent":
        """The part at a place of the first axes: ``[i, ..., j, ...]``."""
        *first, _ = index
        shape, strides, n = self.shape, self.about.strides, len(first)
        begin = sum(i * step for i, step in zip(first, strides, strict=False))
        return Lent(self.address + begin, self.about._replace(shape=shape[n:], strides=strides[n:]), self.stream)

    def __setitem__(self, index: Any, found: Array) -> None:
        """Copy a result of the library's, on the stream: ``[...]``."""
        from ..toolkit import compiler  # noqa: PLC0415  so that arrays can be told apart without a driver

        if (found.shape, found.dtype) != (self.shape, self.about.dtype):
            raise TypeError(
                f"a result of dtype {self.about.dtype} and shape {self.shape} was expected on a GPU, got {found}; "
                "class numbers are int64 there, which JAX has with jax.config.update('jax_enable_x64', True)"
            )
        size = SIZES.get(found.dtype, 1) * int(np.prod(found.shape, dtype=np.int64))
        if size:
            compiler.copy(self.about.device, self.stream, self.address, found.pointer, size)

    def broadcast(self, shape: tuple[int, ...]) -> "Lent":
        """An array that has its axes of length 1 as long as a shape wants them."""
        strides = tuple(0 if n == 1 else step for n, step in zip(self.shape, self.about.strides, strict=True))
        return Lent(self.address, self.about._replace(shape=shape, strides=strides), self.stream)


class Lending(Library):
    """The library of `Lent`: all arrays of a call are ordered on its stream, and new ones are this package's own."""

    name = "jax"
    cast = "{0}.astype({1!r})"

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """By attributes."""
        return array.about, array.address, array

    def describe(self, array: Any, key: Any) -> Description:
        """The key itself."""
        description: Description = key
        return description

    def stream(self, array: Any) -> int:
        """The stream that the array was lent for."""
        return int(array.stream)

    def address(self, array: Any) -> int:
        """Of an array that was lent, or of a new one."""
        return int(array.address if isinstance(array, Lent) else array.pointer)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Of memory from NVIDIA's own pool."""
        return Array(shape, dtype, like.about.device, stream)

"""CuPy: arrays, the current stream of a device, and products."""

from contextlib import AbstractContextManager
from typing import Any

from .library import module
from .products import Products


class Cupy(Products):
    """CuPy, whose products go to C-contiguous arrays, and which goes by the current device."""

    name = "cupy"
    to_device = "cupy.asarray({0})"
    cast = "{0}.astype(cupy.{1})"
    contiguous = "cupy.ascontiguousarray({0})"
    sorts = True

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Strides are in bytes already."""
        memory = array.data
        return (array.shape, array.strides, array.dtype, memory.device_id), memory.ptr, array

    def stream(self, array: Any) -> int:
        """The current stream of the array's device."""
        return int(module("cupy").cuda.get_current_stream(array.data.device_id).ptr)

    def address(self, array: Any) -> int:
        """By two attributes."""
        return int(array.data.ptr)

    def empty_like(self, array: Any, stream: int, dtype: str | None = None) -> Any:
        """By CuPy's memory pool, which goes by the current device."""
        with self.on(array):
            return module("cupy").empty_like(array, dtype)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """By CuPy's memory pool, which goes by the current device."""
        with self.on(like):
            return module("cupy").empty(shape, dtype)

    def on(self, array: Any) -> AbstractContextManager[Any]:
        """With the array's device."""
        device: AbstractContextManager[Any] = module("cupy").cuda.Device(array.data.device_id)
        return device

    def logits(self, x: Any, weight: Any, bias: Any, out: Any) -> None:
        """The bias is added afterwards."""
        module("cupy").dot(x, weight.T, out=out)
        if bias is not None:
            out += bias

    def product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, in float32 on the way for half types."""
        module("cupy").dot(a, b, out=out)

    def copy(self, array: Any, out: Any) -> None:
        """Rounded where that is narrower."""
        module("cupy").copyto(out, array, casting="unsafe")

    def zero(self, out: Any) -> None:
        """In place."""
        out.fill(0)

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """By sorting all of them backwards: NaN comes last in CuPy's order, and of equal ones the first then does."""
        cupy = module("cupy")
        places = cupy.argsort(rows[:, ::-1], axis=1)[:, : -k - 1 : -1]
        places = cupy.subtract(rows.shape[1] - 1, places)
        return cupy.take_along_axis(rows, places, axis=1), places

    def normalise(self, weights: Any, out: Any) -> None:
        """Summed in float64."""
        cupy = module("cupy")
        cupy.divide(weights, weights.sum(dtype="float64"), out=out, casting="same_kind")

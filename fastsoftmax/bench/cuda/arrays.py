"""The array libraries by which a GPU is measured.

PyTorch where it sees a GPU, as most of the contestants take its tensors; else CuPy; else Numba's own arrays.  Nothing
of these is imported before a GPU is asked for.
"""

import functools
import importlib
from typing import Any

import numpy as np

from .. import by_torch
from ..unable import Unable
from .gpu import Array, Gpu


class Torch(Gpu):
    """By PyTorch."""

    tensors = True

    def __init__(self, absent: dict[str, str], device: str = "cuda") -> None:
        self._torch, self._device = importlib.import_module("torch"), device
        if device == "cuda" and not self._torch.cuda.is_available():
            raise Unable(f"torch {self._torch.__version__} sees no GPU: install a build of it for CUDA")
        super().__init__(f"torch {self._torch.__version__}", absent)

    def _copied(self, host: Array) -> Any:
        return by_torch.tensor(host).to(self._device)

    def empty(self, like: Any, rows: int) -> Any:
        """By the caching allocator."""
        return self._torch.empty((rows, *like.shape[1:]), dtype=like.dtype, device=like.device)

    def copy(self, to: Any, source: Any) -> None:
        """On the current stream."""
        to.copy_(source)

    def host(self, array: Any) -> Array:
        """Waits for the current stream."""
        return np.asarray(array.detach().double().cpu())

    def _event(self) -> Any:
        return self._torch.cuda.Event(enable_timing=True)

    def _milliseconds(self, start: Any, end: Any) -> Any:
        return start.elapsed_time(end)

    def synchronize(self) -> None:
        """All streams of the GPU."""
        self._torch.cuda.synchronize()

    def free(self) -> float:
        """Free bytes by the driver; torch has kept none yet, or given them back."""
        return float(self._torch.cuda.mem_get_info()[0])

    def trim(self) -> None:
        """Empty the caching allocator."""
        self._torch.cuda.empty_cache()

    def difference(self, a: Any, b: Any) -> float:
        """On the GPU."""
        return float((a.detach().float() - b.detach().float()).abs().max())


class Cupy(Gpu):
    """By CuPy."""

    def __init__(self, absent: dict[str, str]) -> None:
        self._cupy: Any = importlib.import_module("cupy")
        if not self._cupy.cuda.is_available():
            raise Unable(f"CuPy {self._cupy.__version__} sees no GPU")
        super().__init__(f"CuPy {self._cupy.__version__}", absent)

    def _copied(self, host: Array) -> Any:
        return self._cupy.asarray(host)

    def empty(self, like: Any, rows: int) -> Any:
        """By the memory pool."""
        return self._cupy.empty((rows, *like.shape[1:]), like.dtype)

    def copy(self, to: Any, source: Any) -> None:
        """On the current stream."""
        to[...] = source

    def host(self, array: Any) -> Array:
        """Waits for the current stream."""
        return np.asarray(array.get(), np.float64)

    def _event(self) -> Any:
        return self._cupy.cuda.Event()

    def _milliseconds(self, start: Any, end: Any) -> Any:
        return self._cupy.cuda.get_elapsed_time(start, end)

    def synchronize(self) -> None:
        """All streams of the GPU."""
        self._cupy.cuda.runtime.deviceSynchronize()

    def free(self) -> float:
        """Free bytes by the driver."""
        return float(self._cupy.cuda.runtime.memGetInfo()[0])

    def trim(self) -> None:
        """Empty the memory pool."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def difference(self, a: Any, b: Any) -> float:
        """On the GPU."""
        return float(abs(a.astype(np.float32) - b.astype(np.float32)).max())


class Numba(Gpu):
    """By the arrays of the package that the kernels need anyway."""

    def __init__(self, absent: dict[str, str], cuda: Any) -> None:
        self._cuda = cuda
        super().__init__("Numba's device arrays", absent)

    def _copied(self, host: Array) -> Any:
        return self._cuda.to_device(host)

    def empty(self, like: Any, rows: int) -> Any:
        """By the driver."""
        return self._cuda.device_array((rows, *like.shape[1:]), like.dtype)

    def copy(self, to: Any, source: Any) -> None:
        """On the default stream."""
        to.copy_to_device(source)

    def host(self, array: Any) -> Array:
        """Waits for the default stream."""
        return np.asarray(array.copy_to_host(), np.float64)

    def _event(self) -> Any:
        return self._cuda.event(timing=True)

    def _milliseconds(self, start: Any, end: Any) -> Any:
        return self._cuda.event_elapsed_time(start, end)

    def synchronize(self) -> None:
        """All streams of the GPU."""
        self._cuda.synchronize()

    def free(self) -> float:
        """Free bytes by the driver."""
        return float(self._cuda.current_context().get_memory_info()[0])


@functools.cache
def first_gpu() -> Gpu:
    """The first GPU, by the first library that sees it.

    Raises
    ------
    ImportError
        If the package for kernels, the driver or the GPU is missing; the message says how to install it.
    """
    from ...cuda.toolkit import compiler  # noqa: PLC0415  an extra

    compiler.facts(0)
    absent: dict[str, str] = {}
    for name, make in (("torch", Torch), ("cupy", Cupy)):
        try:
            return make(absent)
        except ModuleNotFoundError:
            absent[name] = f"{name} is not installed: pip install {name if name == 'torch' else 'cupy-cuda13x'}"
        except Unable as reason:
            absent[name] = str(reason)
    return Numba(absent, compiler.cuda)


def missing() -> str:
    """The reason that no GPU can be measured here, and what to install; an empty text where one can."""
    try:
        first_gpu()
    except ImportError as error:
        return str(error)
    return ""

"""A GPU as a benchmark needs it: arrays, copies and events, whatever the array library."""

import shutil
import subprocess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..unable import Unable

Array = NDArray[Any]

FLUSHED = 192 << 20  # bytes that are read, and as many written, between repetitions: more than twice any L2 cache
PACKAGES = ("numba-cuda", "numba-cuda-mlir", "torch", "triton", "cupy", "liger-kernel", "quack-kernels")


class Gpu:
    """The first GPU, by one array library; arrays are that library's."""

    tensors = False  # whether they are torch's

    def __init__(self, library: str, absent: dict[str, str]) -> None:
        self.library, self.absent = library, absent  # why another library is not used
        self._scratch: tuple[Any, Any] | None = None

    def array(self, host: Array) -> Any:
        """A copy of an array of the host's."""
        if host.dtype.name == "bfloat16" and not self.tensors:
            raise Unable("bfloat16 arrays need torch here: pip install torch")
        return self._copied(host)

    def _copied(self, host: Array) -> Any:
        raise NotImplementedError

    def empty(self, like: Any, rows: int) -> Any:
        """A new array with the dtype of another, and its shape but for the number of rows."""
        raise NotImplementedError

    def copy(self, to: Any, source: Any) -> None:
        """Copy between arrays on the GPU."""
        raise NotImplementedError

    def host(self, array: Any) -> Array:
        """Numbers of an array in float64, once they are computed."""
        raise NotImplementedError

    def record(self) -> Any:
        """An event after the work that was given to the GPU so far."""
        event = self._event()
        event.record()
        return event

    def _event(self) -> Any:
        raise NotImplementedError

    def seconds(self, start: Any, end: Any) -> float:
        """The time between two events that have come."""
        return float(self._milliseconds(start, end)) / 1e3

    def _milliseconds(self, start: Any, end: Any) -> Any:
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait for the GPU."""
        raise NotImplementedError

    def free(self) -> float:
        """Bytes of memory that can be had."""
        raise NotImplementedError

    def trim(self) -> None:
        """Give memory back that the library keeps for later."""

    def difference(self, a: Any, b: Any) -> float:
        """The greatest difference between numbers of two arrays of a shape; NaN where one is."""
        return float(np.abs(self.host(a) - self.host(b)).max(initial=0.0))

    def facts(self) -> dict[str, str]:
        """The GPU, its driver and the versions of libraries."""
        from ...cuda.toolkit import compiler  # noqa: PLC0415  an extra

        about = compiler.facts(0)
        return {
            "GPU": about.name,
            "compute capability": ".".join(map(str, about.capability)),
            "multiprocessors": str(about.multiprocessors),
            "driver": driver(),
            "arrays": self.library,
        }

    # What follows from these.

    def repeated(self, rows: Array, count: int) -> Any:
        """Rows of the host's on the GPU, again and again."""
        first = self.array(rows)
        result = self.empty(first, count)
        for start in range(0, count, len(rows)):
            part = min(len(rows), count - start)
            self.copy(result[start : start + part], first[:part])
        return result

    def copied(self, array: Any) -> Any:
        """A copy."""
        copy = self.empty(array, array.shape[0])
        self.copy(copy, array)
        return copy

    def spread(self, array: Any, distinct: int) -> float:
        """The greatest difference between rows and those at the beginning that they should repeat."""
        farthest = 0.0
        for start in range(distinct, array.shape[0], distinct):
            part = min(distinct, array.shape[0] - start)
            farthest = float(np.maximum(farthest, self.difference(array[start : start + part], array[:part])))
        return farthest

    def flush(self) -> None:
        """Have the caches hold nothing of use, in the order of the GPU's work."""
        if self._scratch is None:
            first = self.array(np.zeros(FLUSHED // 4, np.float32))
            self._scratch = first, self.copied(first)
        self.copy(*self._scratch)


def driver() -> str:
    """The driver's version, as its tool says."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown (nvidia-smi is not on PATH)"
    command = [tool, "--id=0", "--query-gpu=driver_version,memory.total,power.limit", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=False)
    if done.returncode:
        return f"unknown (nvidia-smi: exit status {done.returncode})"
    version, memory, power = (part.strip() for part in done.stdout.strip().splitlines()[0].split(","))
    return f"{version} ({memory}, at most {power})"

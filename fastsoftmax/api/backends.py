"""The backend of a call: that of main memory, or that of GPUs, which the first call on arrays there imports."""

from functools import cache
from typing import Any

from ..core.devices import IN_MAIN_MEMORY, asks, on_cuda
from ..core.interrupts import imported
from ..cpu import backend as cpu
from ..cpu.linear import backend as cpu_linear


def backend(*arrays: Any) -> Any:
    """The backend of functions of logits."""
    for array in arrays:
        if array is not None:  # as most are: 0.1 of the 2.5 microseconds of a small call
            kind = type(array)
            if kind not in IN_MAIN_MEMORY and asks.get(kind, on_cuda)(array):
                return _gpu()
    return cpu


def linear_backend(*arrays: Any) -> Any:
    """The backend of functions of features; that of main memory for no arrays."""
    return imported("..cuda.linear.backend", __package__) if any(map(on_cuda, arrays)) else cpu_linear


@cache
def _gpu() -> Any:
    return imported("..cuda.backend", __package__)

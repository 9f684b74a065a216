"""The backend of a call: that of main memory, or that of GPUs, which the first call on arrays there imports."""

from typing import Any

from ..core.devices import on_cuda
from ..core.interrupts import imported
from ..cpu import backend as cpu
from ..cpu.linear import backend as cpu_linear


def backend(*arrays: Any) -> Any:
    """The backend of functions of logits."""
    return imported("..cuda.backend", __package__) if on_cuda(*arrays) else cpu


def linear_backend(*arrays: Any) -> Any:
    """The backend of functions of features; that of main memory for no arrays."""
    return imported("..cuda.linear.backend", __package__) if on_cuda(*arrays) else cpu_linear

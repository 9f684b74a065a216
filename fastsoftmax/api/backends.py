"""The backend of a call: that of main memory, or that of GPUs, which the first call on arrays there imports."""

import importlib
from functools import cache
from typing import Any

from ..core.devices import IN_MAIN_MEMORY, asks, on_cuda
from ..core.interrupts import Deferred
from ..cpu import backend as cpu
from ..cpu.linear import backend as cpu_linear


@cache
def _cuda() -> Any:
    with Deferred():
        return importlib.import_module("..cuda.backend", __package__)


@cache
def _cuda_linear() -> Any:
    with Deferred():
        return importlib.import_module("..cuda.linear.backend", __package__)


def backend(*arrays: Any) -> Any:
    """The backend of functions of logits."""
    for array in arrays:
        kind = type(array)
        if kind not in IN_MAIN_MEMORY and asks.get(kind, on_cuda)(array):
            return _cuda()
    return cpu


def linear_backend(*arrays: Any) -> Any:
    """The backend of functions of features; that of main memory for no arrays."""
    return _cuda_linear() if any(map(on_cuda, arrays)) else cpu_linear

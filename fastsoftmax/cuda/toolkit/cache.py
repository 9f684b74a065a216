"""Compiled kernels of a GPU in the store: a process need not compile what another one has, 2 to 4 seconds each."""

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from typing import Any

from ...core import store
from ...core.interrupts import Deferred
from ...core.options import Numbers
from .compiler import Compiled

#: The rooms and modules of what is compiled: an edit anywhere else recompiles nothing for the user.
COMPILED = "core/law", "core/law_of_divergence", "core/dtypes", "cuda/kernels", "cuda/toolkit/compiler"
PACKAGES = ("numba-cuda", "numba", "llvmlite", "cuda-core", "cuda-bindings")
ASSEMBLERS = ("nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc", "nvidia-nvjitlink-cu12", "nvidia-cuda-nvcc-cu12")
SWITCHES = ("NUMBA_CUDA", "NUMBA_OPT", "NUMBA_DEBUG", "CUDA_HOME", "CUDA_PATH")  # beginnings of environment variables


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def digest() -> str:
    """A name for all that decides on a compiled kernel, besides its recipe: our sources, versions, switches."""
    switches = sorted((k, v) for k, v in os.environ.items() if k.startswith(SWITCHES) and k != "NUMBA_CACHE_DIR")
    versions = [*map(_version, PACKAGES + ASSEMBLERS)]
    return repr((store.digest(*COMPILED), Numbers._fields, sys.version, versions, switches))


def load_or_compile(about: Any, compile: Callable[[], Compiled]) -> Compiled:
    """A compiled kernel from the store, or else compiled and kept there; `about` tells it from others."""
    key = f"{about!r} {digest()}"
    entry = store.load(store.CUDA, key)
    if entry is not None:
        fields, code = entry
        return Compiled(**fields | {"code": code, "capability": tuple(fields["capability"])})
    with Deferred():
        kernel = compile()
        fields = kernel._asdict()
        store.keep(store.CUDA, key, fields, fields.pop("code"))
    return kernel

"""The only place with compile options, the cache policy and the environment switches that steer them."""

import hashlib
import os
from pathlib import Path

import numba
from numba import cfunc, njit, types

#: What a kernel is to the launcher: parameters (an address), number of the chunk, number of the thread's scratch slot.
SIGNATURE = types.void(types.int64, types.int64, types.int64)

#: Numba's division would otherwise branch on every zero divisor and raise.
OPTIONS = {"error_model": "numpy"}

#: For the small functions that kernels are made of.
inline = njit(forceinline=True, **OPTIONS)


def cache_enabled():
    """False when FASTSOFTMAX_CACHE=0 turns the disk cache off."""
    return os.environ.get("FASTSOFTMAX_CACHE", "1") != "0"


def _digest():
    """A number for the text of this package and the version of Numba.

    Numba's cache looks at a kernel's own file and at the numbers it closes over, not at the modules it calls: every
    kernel closes over this one, so that an edited file or an upgraded package never meets a stale kernel.
    """
    state = hashlib.sha256(numba.__version__.encode())
    root = Path(__file__).parent
    for path in sorted([root / "law.py", Path(__file__), *(root / "cpu").glob("*.py")]):
        state.update(path.name.encode() + path.read_bytes())
    return int.from_bytes(state.digest()[:7], "little")


DIGEST = _digest()


def _compiled(decorator, function):
    """`decorator(cache=...)` applied; without the cache where there is no folder to keep it in."""
    if cache_enabled():
        try:
            return decorator(cache=True)(function)
        except RuntimeError:  # Numba: "no locator available": read-only install and no home folder
            pass
    return decorator(cache=False)(function)


def kernel(function):
    """Compile a kernel to a C function; it releases the GIL by never holding it, and every thread may call it."""
    return _compiled(lambda cache: cfunc(SIGNATURE, cache=cache, **OPTIONS), function)


def driver(function, *, parallel):
    """Compile a function that Python calls to run a kernel over its chunks."""
    return _compiled(lambda cache: njit(cache=cache, parallel=parallel, nogil=True, **OPTIONS), function)


def target():
    """(name, features) of the CPU that kernels are compiled for: this machine's, or what NUMBA_CPU_NAME says."""
    import llvmlite.binding as llvm  # noqa: PLC0415
    from numba.core import config  # noqa: PLC0415

    name = config.CPU_NAME or llvm.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        return name, config.CPU_FEATURES
    return name, "" if config.CPU_NAME else llvm.get_host_cpu_features().flatten()

"""The only place with compile options, the cache policy and the environment switches that steer them."""

import hashlib
import os
import pickle
import threading
import warnings
from pathlib import Path

import numba
from numba import cfunc, njit, types

#: What a kernel is to the launcher: parameters (an address), number of the chunk, number of the thread's scratch slot.
SIGNATURE = types.void(types.int64, types.int64, types.int64)

#: Numba's division would otherwise branch on every zero divisor and raise.
OPTIONS = {"error_model": "numpy"}

#: Held by whoever compiles. A fork waits for it: neither it nor Numba's own lock would ever be released in the child.
compiling = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=compiling.acquire, after_in_parent=compiling.release, after_in_child=compiling.release)

#: For the small functions that kernels are made of.  They have no wrappers for Python and C, in which two fifths of the
#: time went that a kernel took to compile: only compiled code may call them, from Python it is a crash.
inline = njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)


def cache_enabled():
    """False when FASTSOFTMAX_CACHE=0 turns the disk cache off."""
    return os.environ.get("FASTSOFTMAX_CACHE", "1") != "0"


#: Modules of cpu/ that hold nothing that is compiled: an edit there recompiles nothing for the user.
HOST = {"__init__", "addresses", "ceilings", "execute", "kernels", "matrices", "own", "passes", "shared"}


def _digest():
    """A number for the text of all that is compiled and the version of Numba.

    Numba's cache looks at a kernel's own file and at the numbers it closes over, not at the modules it calls: every
    kernel closes over this one, so that an edited file or an upgraded package never meets a stale kernel.
    """
    state = hashlib.sha256(numba.__version__.encode())
    root = Path(__file__).parent
    for path in sorted([root / "law.py", root / "spec.py", Path(__file__), *(root / "cpu").glob("*.py")]):
        if path.stem in HOST:
            continue
        state.update(path.name.encode() + path.read_bytes())
    return int.from_bytes(state.digest()[:7], "little")


DIGEST = _digest()


def _named(function, constants):
    """`function` with a name, and so with cache files, of its own for every set of constants.

    Numba numbers the files of all that share a name: of two processes that compile different kernels at the same time
    each may take the number of the other, and a later one would run the wrong code.
    """
    mark = hashlib.sha256(repr((constants, target())).encode()).hexdigest()[:16]
    function.__qualname__ = f"{function.__qualname__}-{mark}"
    return function


def _compiled(decorator, function):
    """`decorator(cache=...)` applied; without the cache where it cannot be written or read."""
    if cache_enabled():
        try:
            return decorator(cache=True)(function)
        except RuntimeError:  # Numba: "no locator available": read-only install and no home folder
            pass
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            warnings.warn(f"fastsoftmax: damaged files in Numba's cache, compiling without it: {error!r}", stacklevel=2)
    return decorator(cache=False)(function)


def kernel(function):
    """Compile a kernel to a C function; it releases the GIL by never holding it, and every thread may call it."""
    constants = [cell.cell_contents for cell in function.__closure__]
    return _compiled(lambda cache: cfunc(SIGNATURE, cache=cache, **OPTIONS), _named(function, constants))


def driver(function, signature, *, parallel=False):
    """Compile a function that Python calls, here and now."""
    options = {"parallel": parallel, "nogil": True, **OPTIONS}
    with compiling:
        return _compiled(lambda cache: njit(signature, cache=cache, **options), _named(function, DIGEST))


def target():
    """(name, features) of the CPU that kernels are compiled for: this machine's, or what NUMBA_CPU_NAME says."""
    import llvmlite.binding as llvm  # noqa: PLC0415
    from numba.core import config  # noqa: PLC0415

    name = config.CPU_NAME or llvm.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        return name, config.CPU_FEATURES
    return name, "" if config.CPU_NAME else llvm.get_host_cpu_features().flatten()

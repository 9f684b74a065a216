"""The one module that knows the CUDA package: numba-cuda compiles; cuda-core, by way of `driver`, loads and launches.

Compiling takes no GPU and no driver.
"""

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ...core.garbage import uncollected
from .driver import INSTALL
from .driver import Facts as Facts
from .driver import Kernel as Kernel
from .driver import Launches as Launches
from .driver import Missing as Missing
from .driver import allocate as allocate
from .driver import clear as clear
from .driver import copy as copy
from .driver import current_device as current_device
from .driver import device_of as device_of
from .driver import facts as facts
from .driver import launch as launch
from .driver import load as load
from .driver import mark as mark
from .driver import passed as passed
from .driver import put as put
from .driver import read as read
from .driver import reserve as reserve
from .driver import wait as wait


@contextmanager
def _older_numpy() -> Iterator[None]:
    """NumPy as numba-cuda 0.30 imports it: with `row_stack`, which NumPy 2.5 has no more, and without a warning."""
    missing = not hasattr(np, "row_stack")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if missing:
            vars(np)["row_stack"] = np.vstack
        try:
            yield
        finally:
            if missing:
                del vars(np)["row_stack"]


try:
    with _older_numpy():
        from numba import cuda as cuda
        from numba.cuda import cgutils, compiler, dispatcher
        from numba.cuda import types as types
        from numba.cuda.cudadrv import driver as cuda_driver
        from numba.cuda.cudadrv import nvvm
        from numba.cuda.extending import intrinsic as intrinsic
except ImportError as error:
    raise Missing(f"arrays on a GPU need numba-cuda, which cannot be imported ({error}): {INSTALL}") from error

if not hasattr(dispatcher, "compile_cuda"):  # Numba's own copy of its old CUDA target, which numba-cuda replaces
    raise Missing(f"arrays on a GPU need numba-cuda; numba.cuda is another package: {INSTALL}")

with _older_numpy():  # by the first compilation otherwise, which would end there
    from numba.cuda.np import arrayobj  # noqa: F401

#: The newest GPUs that NVVM writes PTX for, without clusters and with them; newer ones are assembled from that.  The
#: text for 9.0 is the same but for its head, so that one will do; the other compiler, for 10.0 and more, leaves the
#: arrays of held vectors in local memory (128 bytes a thread, 130 accesses).
NEWEST_TEXT, NEWEST_CLUSTERED = (8, 0), (9, 0)
#: The version of the PTX language that texts are written in, whatever NVVM calls them: 9.5 is refused by assemblers of
#: CUDA 12 and 13.0.  They have nothing newer than clusters, of 7.8, and the machine code is the same.
LANGUAGE = "8.0"
#: Held by whoever compiles: device functions ask a module's attribute for the GPU that they are compiled for.
compiling = threading.RLock()


class Compiled(NamedTuple):
    """A compiled kernel for one kind of GPU."""

    entry: str  # its name
    ptx: str  # what `code` was assembled from
    code: bytes
    threads: int  # the most threads of a block
    shared: int  # bytes of static shared memory of a block
    capability: tuple[int, int]
    cluster: int = 1  # blocks that share their memory; a grid is a multiple of it


device: Callable[[Any], Any] = cuda.jit(device=True, forceinline=True)


class _Target:
    """The GPU that device functions are compiled for, as the compiler asks for it."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.compute_capability = capability


@contextmanager
def _compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Compile device functions without a GPU; other threads' compilations wait for the compiler's own lock."""
    with compiling, compiler.global_compiler_lock, uncollected():
        before = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: _Target(capability)
        try:
            yield
        finally:
            dispatcher.get_current_device = before


def _annotate_cluster(kernel: Any, blocks: int) -> None:
    """Fix the number of blocks that share their memory at compile time, so that an ordinary launch will do."""
    module, number = kernel.module, ir.IntType(32)
    annotations = cgutils.get_or_insert_named_metadata(module, "nvvm.annotations")
    for axis, size in (("x", blocks), ("y", 1), ("z", 1)):
        annotations.add(module.add_metadata([kernel, f"cluster_dim_{axis}", ir.Constant(number, size)]))


def compile(
    function: Any,
    arguments: tuple[Any, ...],
    capability: tuple[int, int],
    threads: int,
    *,
    resident: int = 1,
    cluster: int = 1,
) -> Compiled:
    """Compile a Python function to a kernel, with or without a GPU.

    `arguments` names its parameters' types, such as "int64"; ("int64", fields) is a NamedTuple of such, whose fields a
    launch is given one by one.  The registers are those of blocks of so many `threads`, of which so many are to be
    `resident` on a multiprocessor.  Divisions of float32 have an error of up to 2 ulps and no branch for subnormal
    numbers.
    """
    newest = NEWEST_CLUSTERED if cluster > 1 else NEWEST_TEXT
    entry, ptx = _text(function, arguments, min(capability, newest), threads, resident, cluster)
    return Compiled(entry, ptx, assembled(ptx, capability), threads, _shared_bytes(ptx), capability, cluster)


def assembled(ptx: str, capability: tuple[int, int]) -> bytes:
    """The machine code of a text: not by way of LTO, so that what is assembled is what the tests execute."""
    linker = cuda_driver._Linker(cc=capability, lto=False)
    linker.add_ptx(ptx.encode())
    return bytes(linker.complete().code)


def _type(name: str | tuple[str, Any]) -> Any:
    """The type of a parameter by its name, or of a NamedTuple by the name of its fields' type and its class."""
    if isinstance(name, str):
        return getattr(types, name)
    return types.NamedUniTuple(getattr(types, name[0]), len(name[1]._fields), name[1])


@lru_cache(maxsize=64)
def _text(
    function: Any, arguments: tuple[Any, ...], capability: tuple[int, int], threads: int, resident: int, cluster: int
) -> tuple[str, str]:
    """(the name of a kernel, its PTX)."""
    signature, options = tuple(map(_type, arguments)), {"opt": 3, "prec_div": 0}
    with _compiling_for(capability):
        result = compiler.compile_cuda(function, types.void, signature, nvvm_options=options, cc=capability)
        library = result.library
        kernel = library.get_function(result.fndesc.llvm_func_name)
        library._entry_name = kernel.name
        compiler.kernel_fixup(kernel, False)
        nvvm.set_launch_bounds(kernel, (threads, resident))
        if cluster > 1:
            _annotate_cluster(kernel, cluster)
        text = library.get_asm_str(cc=capability)
    return kernel.name, re.sub(r"^\.version .*", f".version {LANGUAGE}", text, count=1, flags=re.MULTILINE)


def _shared_bytes(ptx: str) -> int:
    """Bytes of the static shared memory that a kernel declares, up to where its dynamic memory begins."""
    # A line each, whatever comments contain; without a size it is the dynamic memory, which is behind the others.
    declared = r"^[^/\n]*\.shared\s+\.align\s+(\d+)\s+\.b8\s+[\w$]+\[(\d*)\]"
    arrays = [(int(align), int(size or 0)) for align, size in re.findall(declared, ptx, re.MULTILINE)]
    end = 0
    for align, size in sorted(arrays, key=lambda array: array[1] == 0):
        end = -(-end // align) * align + size
    return end

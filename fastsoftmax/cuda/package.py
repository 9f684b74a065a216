"""The one module that knows the CUDA package: numba-cuda compiles, cuda-core loads and launches.

Compiling takes no GPU and no driver.  Everything else here does, and says how to install it where it is missing.
"""

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple


class Missing(ImportError):
    """A package or the driver that kernels need is not installed."""


INSTALL = "pip install 'fastsoftmax[cu13]' (or [cu12] for a driver of CUDA 12)"

try:
    from cuda.bindings import driver
    from numba import cuda
    from numba.cuda import cgutils, compiler, dispatcher, types
    from numba.cuda.cudadrv import driver as cuda_driver
    from numba.cuda.cudadrv import nvvm
    from numba.cuda.extending import intrinsic
except ImportError as error:
    raise Missing(f"arrays on a GPU need numba-cuda, which cannot be imported ({error}): {INSTALL}") from error

if not hasattr(dispatcher, "compile_cuda"):  # Numba's own copy of its old CUDA target, which numba-cuda replaces
    raise Missing(f"arrays on a GPU need numba-cuda; numba.cuda is another package: {INSTALL}")

__all__ = ["Compiled", "Facts", "Missing", "compile", "cuda", "device", "facts", "intrinsic", "launch", "load", "types"]

#: What NVVM writes PTX for at the most; newer GPUs are assembled from that.  Its other compiler, for capability 10 and
#: more, leaves the arrays of held vectors in local memory (128 bytes a thread, 130 accesses).
NEWEST_TEXT = (9, 0)
#: Held by whoever compiles: device functions ask a module's attribute for the GPU that they are compiled for.
compiling = threading.RLock()


class Facts(NamedTuple):
    """What the plan wants to know of a GPU."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared: int  # bytes of shared memory that a block can ask for
    clusters: bool  # whether blocks can read each other's shared memory


class Compiled(NamedTuple):
    """A kernel for one kind of GPU."""

    entry: str  # its name
    ptx: str  # what `code` was assembled from
    code: bytes
    threads: int  # the most threads of a block
    shared: int  # bytes of static shared memory of a block
    capability: tuple[int, int]
    cluster: int = 1  # blocks that share their memory; a grid is a multiple of it


device: Callable[[Any], Any] = cuda.jit(device=True, forceinline=True)


class _Stand:
    """What a compilation of device functions asks of a GPU."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.compute_capability = capability


@contextmanager
def _compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Compile device functions without a GPU; other threads' compilations wait for the compiler's own lock."""
    with compiling, compiler.global_compiler_lock:
        before = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: _Stand(capability)
        try:
            yield
        finally:
            dispatcher.get_current_device = before


def _annotate_cluster(kernel: Any, blocks: int) -> None:
    """Fix the number of blocks that share their memory at compile time, so that an ordinary launch will do."""
    from llvmlite import ir  # noqa: PLC0415

    module, number = kernel.module, ir.IntType(32)
    annotations = cgutils.get_or_insert_named_metadata(module, "nvvm.annotations")
    for axis, size in (("x", blocks), ("y", 1), ("z", 1)):
        annotations.add(module.add_metadata([kernel, f"cluster_dim_{axis}", ir.Constant(number, size)]))


def compile(
    function: Any,
    arguments: tuple[str, ...],
    capability: tuple[int, int],
    threads: int,
    *,
    resident: int = 1,
    cluster: int = 1,
) -> Compiled:
    """Compile a kernel, with or without a GPU.

    Parameters
    ----------
    function
        A Python function.
    arguments
        The names of its parameters' types, such as "int64".
    capability
        What is compiled for: (9, 0).
    threads, resident
        The threads of a block, and how many blocks are to share a multiprocessor: bounds for its registers.
    cluster
        Blocks that share their memory.

    Returns
    -------
    Compiled
        The kernel.  Divisions of float32 have an error of up to 2 ulps and no branch for subnormal numbers.
    """
    signature = tuple(getattr(types, name) for name in arguments)
    options = {"opt": 3, "prec_div": 0}
    text = min(capability, NEWEST_TEXT)
    with _compiling_for(text):
        made = compiler.compile_cuda(function, types.void, signature, nvvm_options=options, cc=text)
        library = made.library
        kernel = library.get_function(made.fndesc.llvm_func_name)
        library._entry_name = kernel.name
        compiler.kernel_fixup(kernel, False)
        nvvm.set_launch_bounds(kernel, (threads, resident))
        if cluster > 1:
            _annotate_cluster(kernel, cluster)
        # Not by way of LTO: what is assembled is then the very text that the tests execute.
        ptx = library.get_asm_str(cc=text)
        linker = cuda_driver._Linker(cc=capability, lto=False)
        linker.add_ptx(ptx.encode())
        code = linker.complete().code
    return Compiled(kernel.name, ptx, bytes(code), threads, _static(ptx), capability, cluster)


def _static(ptx: str) -> int:
    """Bytes of the static shared memory that a kernel declares."""
    end = 0
    for align, size in re.findall(r"^[^/]*\.shared\s+\.align\s+(\d+)\s+\.b8\s+\w+\[(\d+)\]", ptx, re.MULTILINE):
        end = -(-end // int(align)) * int(align) + int(size)
    return end


def _asked(answer: tuple[Any, ...]) -> Any:
    """The value of a driver's answer; an error where it has none."""
    status, *values = answer
    if status == driver.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    raise RuntimeError(f"the CUDA driver answered {status.name}; nothing was computed")


def _core() -> Any:
    """cuda-core, with a driver below it."""
    try:
        from cuda import core  # noqa: PLC0415

        _asked(driver.cuInit(0))
    except (ImportError, RuntimeError, OSError) as error:
        raise Missing(f"arrays on a GPU need NVIDIA's driver and cuda-core ({error}): {INSTALL}") from error
    return core


@lru_cache(maxsize=64)
def facts(number: int) -> Facts:
    """What the plan wants to know of GPU `number`."""
    gpu = _core().Device(number)
    about = gpu.properties
    capability = (about.compute_capability_major, about.compute_capability_minor)
    return Facts(
        str(gpu.name),
        capability,
        about.multiprocessor_count,
        about.max_shared_memory_per_block_optin,
        capability >= (9, 0) and bool(about.cluster_launch),
    )


def current_device() -> int:
    """The number of the calling thread's current GPU."""
    _core_ready()
    status, number = driver.cuCtxGetDevice()
    if status == driver.CUresult.CUDA_SUCCESS:
        return int(number)
    core = _core()
    core.Device().set_current()  # of a thread that has none yet: the first
    return int(core.Device().device_id)


def device_of(pointer: int) -> int:
    """The number of the GPU that an address belongs to."""
    _core_ready()
    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(_asked(driver.cuPointerGetAttribute(attribute, pointer)))


def load(compiled: Compiled, number: int, shared: int = 0) -> Any:
    """A compiled kernel on a GPU, ready for blocks with `shared` bytes of dynamic shared memory."""
    core = _core()
    kernel = core.ObjectCode.from_cubin(compiled.code).get_kernel(compiled.entry)
    if shared + compiled.shared > DEFAULT_SHARED:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        gpu = _asked(driver.cuDeviceGet(number))
        _asked(driver.cuKernelSetAttribute(attribute, shared, kernel.handle, gpu))
    return kernel


DEFAULT_SHARED = 48 * 1024  # a block gets more only when its kernel was told so


@lru_cache(maxsize=4096)
def _configuration(grid: int, block: int, shared: int) -> Any:
    return _core().LaunchConfig(grid=grid, block=block, shmem_size=shared)


@lru_cache(maxsize=1024)
def _stream(handle: int, number: int) -> Any:
    """A stream by its handle, which may be used again by another stream: nothing of the old one is remembered here."""
    return _core().Stream.from_handle(handle)


def launch(
    loaded: Any, number: int, stream: int, grid: int, block: int, shared: int, arguments: tuple[Any, ...]
) -> None:
    """Put a kernel on a stream of a GPU; nothing is waited for.

    Integers go as int64, and floats as NumPy's float32 or float64.
    """
    core = _core_ready()
    status, current = driver.cuCtxGetDevice()
    if status == driver.CUresult.CUDA_SUCCESS and int(current) == number:
        core.launch(_stream(stream, number), _configuration(grid, block, shared), loaded, *arguments)
        return
    before = core.Device() if status == driver.CUresult.CUDA_SUCCESS else None
    core.Device(number).set_current()
    try:
        core.launch(_stream(stream, number), _configuration(grid, block, shared), loaded, *arguments)
    finally:
        if before is not None:
            before.set_current()


@lru_cache(maxsize=1)
def _core_ready() -> Any:
    return _core()


@contextmanager
def _current(number: int) -> Iterator[Any]:
    """GPU `number` as the calling thread's current one, for a while."""
    core = _core_ready()
    status, current = driver.cuCtxGetDevice()
    before = core.Device(int(current)) if status == driver.CUresult.CUDA_SUCCESS else None
    gpu = core.Device(number)
    gpu.set_current()
    try:
        yield gpu
    finally:
        if before is not None:
            before.set_current()


def reserve(number: int, size: int) -> int:
    """The address of memory that is never given back: graphs that were captured may hold it."""
    with _current(number):
        return int(_asked(driver.cuMemAlloc(size)))


def allocate(number: int, size: int, stream: int) -> Any:
    """Memory of a GPU in the order of a stream, with its address as `handle`; given back when nobody holds it."""
    with _current(number) as gpu:
        return gpu.allocate(size, stream=_stream(stream, number))


def clear(number: int, stream: int, pointer: int, size: int) -> None:
    """Fill memory with zeros, in the order of a stream."""
    with _current(number):
        _asked(driver.cuMemsetD8Async(pointer, 0, size, stream))


def read(number: int, stream: int, pointer: int, size: int) -> bytes:
    """Bytes of a GPU's memory once a stream has come this far: the only function here that waits."""
    found = bytearray(size)
    with _current(number):
        place = (ctypes.c_char * size).from_buffer(found)
        _asked(driver.cuMemcpyDtoHAsync(ctypes.addressof(place), pointer, size, stream))
        _asked(driver.cuStreamSynchronize(stream))
    return bytes(found)


def wait(number: int, stream: int, other: int) -> None:
    """Have a stream wait for what another one has been given so far; the caller does not wait."""
    with _current(number):
        _stream(stream, number).wait(_stream(other, number))

"""NVIDIA's driver, by way of cuda-core: GPUs, memory, kernels and their launches.

All of it takes a driver, and says how to install it where it is missing.  Other modules know these by `compiler`.
"""

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

from .packed import Cells, Packed


class Missing(ImportError):
    """A package or the driver that kernels need is not installed."""


INSTALL = "pip install 'numba-cuda[cu13]>=0.30,<0.31' (or [cu12] for a driver of CUDA 12)"

try:
    from cuda.bindings import driver
except ImportError as error:
    raise Missing(f"arrays on a GPU need numba-cuda, which cannot be imported ({error}): {INSTALL}") from error

SUCCESS = driver.CUresult.CUDA_SUCCESS
_current_device = driver.cuCtxGetDevice


class Facts(NamedTuple):
    """The facts about a GPU that plans depend on."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared: int  # bytes of shared memory that a block can ask for
    clusters: bool  # whether blocks can read each other's shared memory


def _value_of(answer: tuple[Any, ...]) -> Any:
    """The value of a driver's answer; an error where it has none."""
    status, *values = answer
    if status is SUCCESS:
        return values[0] if values else None
    raise RuntimeError(f"the CUDA driver answered {status.name}; nothing was computed")


@lru_cache(maxsize=1)
def _core() -> Any:
    """cuda-core, with a driver below it."""
    try:
        from cuda import core  # noqa: PLC0415

        _value_of(driver.cuInit(0))
    except (ImportError, RuntimeError, OSError) as error:
        raise Missing(f"arrays on a GPU need NVIDIA's driver and cuda-core ({error}): {INSTALL}") from error
    return core


@lru_cache(maxsize=64)
def facts(number: int) -> Facts:
    """The facts about GPU `number` that plans depend on."""
    gpu = _core().Device(number)
    has = gpu.properties
    capability = (has.compute_capability_major, has.compute_capability_minor)
    clusters = capability >= (9, 0) and bool(has.cluster_launch)
    multiprocessors, shared = has.multiprocessor_count, has.max_shared_memory_per_block_optin
    return Facts(str(gpu.name), capability, multiprocessors, shared, clusters)


def current_device() -> int:
    """The number of the calling thread's current GPU."""
    core = _core()
    status, number = driver.cuCtxGetDevice()
    if status is SUCCESS:
        return int(number)
    core.Device().set_current()  # of a thread that has none yet: the first
    return int(core.Device().device_id)


def device_of(pointer: int) -> int:
    """The number of the GPU that an address belongs to."""
    _core()
    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(_value_of(driver.cuPointerGetAttribute(attribute, pointer)))


def load(compiled: Any, number: int, shared: int = 0) -> Any:
    """A compiled kernel on a GPU, ready for blocks with up to `shared` bytes of dynamic shared memory."""
    core = _core()
    kernel = core.ObjectCode.from_cubin(compiled.code).get_kernel(compiled.entry)
    if shared:  # from 48 KB on, static memory included, a kernel has to be told so; it may be told of less
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        gpu = _value_of(driver.cuDeviceGet(number))
        _value_of(driver.cuKernelSetAttribute(attribute, shared, kernel.handle, gpu))
    return kernel


@lru_cache(maxsize=1024)
def _stream(handle: int, number: int) -> Any:
    """A stream by its handle, which may be used again by another stream: nothing of the old one is remembered here."""
    return _core().Stream.from_handle(handle)


class Kernel(NamedTuple):
    """A kernel, how it is launched, and its parameters: cells, integers, and NumPy's float32 or float64."""

    loaded: Any  # the result of `load`
    grid: int
    block: int
    shared: int
    arguments: tuple[Any, ...] = ()

    def with_arguments(self, *arguments: Any) -> "Kernel":
        """The kernel with its parameters."""
        return self._replace(arguments=arguments)


class Launches:
    """Kernels to be launched one after the other on a stream: all is prepared but what the cells hold that they share.

    Not for two threads at a time.
    """

    def __init__(self, stream: int, kernels: Iterable[Kernel], cells: int) -> None:
        memory, self._packed, go = Cells(cells), [], []
        for kernel in kernels:
            config, packed = driver.CUlaunchConfig(), Packed(kernel.arguments, memory)
            config.gridDimX, config.gridDimY, config.gridDimZ = kernel.grid, 1, 1
            config.blockDimX, config.blockDimY, config.blockDimZ = kernel.block, 1, 1
            config.sharedMemBytes, config.hStream = kernel.shared, driver.CUstream(stream)
            function = driver.CUfunction(int(kernel.loaded.handle))
            go.append(partial(driver.cuLaunchKernelEx, config, function, packed.places, 0))
            self._packed.append(packed)
        self.fill, self.go = memory.fill, tuple(go)

    def change(self, kernel: int, number: int, value: Any) -> None:
        """Give a parameter of a kernel that is no cell another value of its type."""
        self._packed[kernel].change(number, value)


def put(number: int, launches: Launches, values: tuple[int, ...]) -> None:
    """Launch kernels on a stream of a GPU, with values for their cells; nothing is waited for."""
    status, current = _current_device()
    if status is not SUCCESS or int(current) != number:
        with _current(number):
            put(number, launches, values)
        return
    launches.fill(*values)
    for go in launches.go:
        answer = go()
        if answer[0] is not SUCCESS:
            _value_of(answer)


def launch(
    loaded: Any, number: int, stream: int, grid: int, block: int, shared: int, arguments: tuple[Any, ...]
) -> None:
    """Launch a kernel once."""
    put(number, Launches(stream, [Kernel(loaded, grid, block, shared, arguments)], 0), ())


@contextmanager
def _current(number: int) -> Iterator[Any]:
    """GPU `number` as the calling thread's current one, for a while."""
    core = _core()
    status, current = driver.cuCtxGetDevice()
    before = core.Device(int(current)) if status is SUCCESS else None
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
        return int(_value_of(driver.cuMemAlloc(size)))


def allocate(number: int, size: int, stream: int) -> Any:
    """Memory of a GPU in the order of a stream, with its address as `handle`; given back when nobody holds it."""
    with _current(number) as gpu:
        return gpu.allocate(size, stream=_stream(stream, number))


def clear(number: int, stream: int, pointer: int, size: int) -> None:
    """Fill memory with zeros, in the order of a stream."""
    with _current(number):
        _value_of(driver.cuMemsetD8Async(pointer, 0, size, stream))


def copy(number: int, stream: int, to: int, pointer: int, size: int) -> None:
    """Copy memory of a GPU to another place there, in the order of a stream."""
    with _current(number):
        _value_of(driver.cuMemcpyDtoDAsync(to, pointer, size, stream))


def read(number: int, stream: int, pointer: int, size: int) -> bytes:
    """Bytes of a GPU's memory once a stream has come this far: the only function here that waits."""
    values = bytearray(size)
    with _current(number):
        place = (ctypes.c_char * size).from_buffer(values)
        _value_of(driver.cuMemcpyDtoHAsync(ctypes.addressof(place), pointer, size, stream))
        _value_of(driver.cuStreamSynchronize(stream))
    return bytes(values)


def mark(number: int, stream: int, event: Any = None) -> Any:
    """An event behind what a stream was given so far, or the given one; None for a stream that is being captured."""
    status, current = _current_device()
    if status is not SUCCESS or int(current) != number:
        with _current(number):
            return mark(number, stream, event)
    if _value_of(driver.cuStreamIsCapturing(stream)) != driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE:
        return None
    if event is None:
        event = _value_of(driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
    _value_of(driver.cuEventRecord(event, stream))
    return event


def passed(event: Any) -> bool:
    """Whether a stream has come past an event."""
    # A capture on another thread would be ended by the question otherwise.
    relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    before = _value_of(driver.cuThreadExchangeStreamCaptureMode(relaxed))
    try:
        return driver.cuEventQuery(event)[0] is SUCCESS
    finally:
        driver.cuThreadExchangeStreamCaptureMode(before)


def wait(number: int, stream: int, other: int) -> None:
    """Have a stream wait for what another one has been given so far; the caller does not wait."""
    with _current(number):
        _stream(stream, number).wait(_stream(other, number))

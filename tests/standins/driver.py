"""A stand-in for a CUDA driver.  IT IS NO GPU: "device" memory lies in the host, and kernels run in a PTX interpreter.

    driver = Driver().install(monkeypatch)
    x = driver.array(values)            # an array on the "GPU": CUDA array interface and DLPack
    result = fastsoftmax.softmax(x)
    driver.host(result)                 # a NumPy view of the same memory
    driver.launches                     # every launch: kernel, grid, block, shared, cluster, stream, arguments

It replaces what `fastsoftmax.cuda.toolkit.compiler` asks a driver for.  Addresses are not the host's: what
dereferences one outside of a kernel crashes, as it would with a GPU's.  Launches
run at once; that streams are ordered is checked apart.
"""

from typing import NamedTuple

import numpy as np

from tests.interpreter import ptx
from tests.standins.arrays import NAME, DeviceArray, described

KERNEL_SHARED = 48 * 1024  # dynamic shared memory of a kernel that was not told to expect more


HOST = "host"  # whatever is put on any stream comes after what the host has waited for


class DriverError(Exception):
    """A call that a driver would refuse, or that goes wrong on a GPU only sometimes."""


class Facts(NamedTuple):
    """As `compiler.Facts`."""

    name: str
    capability: tuple
    multiprocessors: int
    shared: int
    clusters: bool


class Loaded(NamedTuple):
    """A kernel on a device."""

    compiled: object
    device: int
    shared: int


class Launched(NamedTuple):
    """A launch, and what it did to memory."""

    entry: str
    device: int
    stream: int
    grid: object
    block: object
    shared: int
    cluster: int
    arguments: tuple
    traffic: dict


class Launches:
    """As `compiler.Launches`."""

    def __init__(self, stream, kernels, cells):
        self.stream, self.kernels, self.cells = stream, list(kernels), cells

    def change(self, kernel, number, value):
        found = self.kernels[kernel]
        before = found.arguments[number]
        if type(value) is not type(before):
            raise DriverError(f"parameter {number}, now {before!r}, is changed to {value!r}")
        arguments = (*found.arguments[:number], value, *found.arguments[number + 1 :])
        self.kernels[kernel] = found._replace(arguments=arguments)


def put(number, launches, values):
    """As `compiler.put`; each launch goes to `compiler.launch`."""
    from fastsoftmax.cuda.toolkit import compiler
    from fastsoftmax.cuda.toolkit.packed import Cell

    if len(values) != launches.cells or not all(type(value) is int and value >= 0 for value in values):
        raise DriverError(f"expected {launches.cells} addresses, got {values}")
    for loaded, grid, block, shared, given in launches.kernels:
        arguments = tuple(values[a.number] if isinstance(a, Cell) else a for a in given)
        compiler.launch(loaded, number, launches.stream, grid, block, shared, arguments)


class Memory:
    """The memory that `compiler.allocate` gives, until nobody holds it."""

    def __init__(self, driver, device, size, stream):
        self.driver, self.size = driver, size
        self.handle = driver.reserve(device, size, f"allocation {len(driver.allocations)}")
        driver.allocations.append((device, size, stream))

    def __del__(self):
        self.driver.free(self.handle)


class Order:
    """Which stream has seen what of the others: counts of launches, as in a vector clock."""

    def __init__(self):
        self.done, self.seen = {}, {}
        self.writes, self.reads = {}, {}

    def wait(self, stream, other):
        """A stream has been told to wait for another one, and for what that had waited for."""
        mine, theirs = self.seen.setdefault(stream, {}), self.seen.get(other, {})
        for name, count in {**theirs, other: self.done.get(other, 0)}.items():
            mine[name] = max(mine.get(name, 0), count)

    def step(self, stream, loaded, stored):
        """Work on a stream has read and written buffers."""
        for buffer in {*loaded, *stored}:
            self.expect(stream, buffer, self.writes.get(buffer, {}))
        for buffer in stored:
            self.expect(stream, buffer, self.reads.get(buffer, {}))
        self.done[stream] = self.done.get(stream, 0) + 1
        for buffer in loaded:
            self.reads.setdefault(buffer, {})[stream] = self.done[stream]
        for buffer in stored:
            self.writes[buffer] = {stream: self.done[stream]}

    def expect(self, stream, buffer, before):
        for other, count in before.items():
            seen = max(self.seen.get(name, {}).get(other, 0) for name in (stream, HOST))
            if other != stream and seen < count:
                raise DriverError(
                    f"work on stream {stream} uses {buffer} after stream {other}, and does not wait for it"
                )


class Driver:
    """Devices without any hardware.

    Parameters
    ----------
    capability, multiprocessors, shared, clusters
        The facts about each, as `compiler.facts` gives them.
    devices : int
        How many there are.
    rough : bool
        Approximate instructions are as wrong as they may be.
    """

    def __init__(
        self, capability=(9, 0), multiprocessors=132, shared=227 * 1024, clusters=True, devices=1, *, rough=False
    ):
        self.about = Facts(NAME, capability, multiprocessors, shared, clusters)
        self.memory, self.order = ptx.Memory(), Order()
        self.current, self.count, self.rough = 0, devices, rough
        self.owners, self.bases = {}, {}  # address -> device; id of an array -> (address, the array)
        self.launches, self.allocations, self.calls = [], [], []
        self.events, self.behind, self.capturing = [], set(), set()  # events; streams that are behind, or captured

    def __repr__(self):
        return f"<{NAME}>"

    def install(self, monkeypatch):
        """Put this driver in the place of the real one, of which nothing is known any more."""
        from fastsoftmax.core import memo
        from fastsoftmax.cuda.arrays import borrowed
        from fastsoftmax.cuda.toolkit import compiler

        memo.clear()
        monkeypatch.setattr(borrowed, "_lines", {})
        monkeypatch.setattr(borrowed, "_captured", [])
        monkeypatch.setattr(compiler, "Launches", Launches)
        monkeypatch.setattr(compiler, "put", put)
        for name in ("facts", "load", "launch", "device_of", "reserve", "allocate", "clear", "copy", "read"):
            monkeypatch.setattr(compiler, name, getattr(self, name), raising=False)
        for name in ("wait", "mark", "passed"):
            monkeypatch.setattr(compiler, name, getattr(self, name))
        monkeypatch.setattr(compiler, "current_device", lambda: self.current)
        return self

    # Memory, as a test sees it.

    def array(self, values, *, device=0, stream=None, offset=0, kind=None, writable=True, name=None):
        """A NumPy array as one on a device; views of one array share its memory there too.

        `offset` is in bytes from a multiple of 256; `kind` is one of the classes of `arrays`.
        """
        base = values
        while isinstance(base.base, np.ndarray):
            base = base.base
        if id(base) not in self.bases:
            rows = base.T if base.flags.f_contiguous else base
            address = self.memory.add(rows, name or f"array {len(self.bases)}", offset, writable=writable)
            self.owners[address] = device
            self.bases[id(base)] = address, base
        address = self.bases[id(base)][0] + values.ctypes.data - base.ctypes.data
        return (kind or DeviceArray)(self, values, address, device, stream)

    def empty(self, shape, dtype, **options):
        """An array on a device that nothing was written to: reading it in a kernel is an error."""
        made = self.array(np.zeros(shape, dtype), **options)
        buffer = self.memory.at(made.address)
        buffer.written = np.zeros(len(buffer.data), np.uint8)
        return made

    def forget(self):
        """Give back the memory of arrays, which views of the host keep."""
        for address, _ in self.bases.values():
            self.free(address)
        self.bases.clear()

    def host(self, array):
        """A view of what an array on a device holds, whatever library it is of."""
        address, shape, strides, dtype = described(array)
        if 0 in shape:
            return np.empty(shape, dtype)
        buffer = self.buffer(address)
        return np.ndarray(shape, dtype, buffer.data, address - buffer.address, strides)

    def buffer(self, address):
        """The memory that an address belongs to."""
        buffer = self.memory.at(address)
        if buffer is None or not buffer.address <= address < max(buffer.end, buffer.address + 1):
            raise DriverError(f"{address:#x} is no address of a device")
        return buffer

    # The functions of `compiler`.

    def facts(self, number):
        self.device(number)
        return self.about

    def device(self, number):
        if not 0 <= number < self.count:
            raise DriverError(f"expected one of {self.count} devices, got {number}")
        return number

    def device_of(self, pointer):
        return self.owners[self.buffer(pointer).address]

    def load(self, compiled, number, shared=0):
        if compiled.capability[0] != self.about.capability[0]:
            raise DriverError(f"a kernel for {compiled.capability} on a device of {self.about.capability}")
        if compiled.shared + shared > self.about.shared:
            raise DriverError(f"{compiled.shared} + {shared} bytes of shared memory; a block has {self.about.shared}")
        return Loaded(compiled, self.device(number), shared)

    def launch(self, loaded, number, stream, grid, block, shared, arguments):
        if number != loaded.device:
            raise DriverError(f"a kernel that was loaded on device {loaded.device} is launched on {number}")
        if shared > max(loaded.shared, KERNEL_SHARED - loaded.compiled.shared):
            raise DriverError(f"{shared} bytes of dynamic shared memory; the kernel was loaded for {loaded.shared}")
        compiled = loaded.compiled
        if compiled.cluster > 1 and not self.about.clusters:
            raise DriverError("a cluster on a device without them")
        for value in arguments:
            self.argument(value, number)
        kernel = ptx.program(compiled.ptx, compiled.entry)
        arguments = tuple(arguments)
        done = ptx.launch(kernel, self.memory, grid, block, arguments, shared, compiled.cluster, rough=self.rough)
        traffic = done.traffic
        stored = [name for name, used in traffic.items() if used.stored or used.atomics]
        self.order.step(stream, [name for name, used in traffic.items() if used.loaded], stored)
        self.launches.append(
            Launched(compiled.entry, number, stream, grid, block, shared, compiled.cluster, arguments, traffic)
        )
        self.calls.append(("launch", number, stream, compiled.entry))

    def argument(self, value, number):
        """The launcher takes Python's integers and NumPy's numbers as they are, and a float as a double."""
        if isinstance(value, bool) or not isinstance(value, int | np.float32 | np.float64 | np.integer):
            raise DriverError(f"expected an integer or a NumPy float as an argument, got {value!r}")
        buffer = self.memory.at(value) if isinstance(value, int) else None
        if buffer is not None and buffer.address <= value < buffer.end and self.owners.get(buffer.address) != number:
            raise DriverError(f"{buffer} belongs to device {self.owners.get(buffer.address)}, the launch to {number}")

    def reserve(self, number, size, name=None):
        address = self.memory.add(np.zeros(size, np.uint8), name or f"reserved {len(self.owners)}", initialised=False)
        self.owners[address] = self.device(number)
        self.calls.append(("reserve", number, size))
        return address

    def allocate(self, number, size, stream):
        return Memory(self, number, size, stream)

    def free(self, address):
        self.memory.remove(address)
        del self.owners[address]

    def clear(self, number, stream, pointer, size):
        buffer = self.buffer(pointer)
        self.order.step(stream, [], [buffer.name])
        place = slice(pointer - buffer.address, pointer - buffer.address + size)
        buffer.data[place] = 0
        if buffer.written is not None:
            buffer.written[place] = 255
        self.calls.append(("clear", number, stream, pointer, size))

    def copy(self, number, stream, to, pointer, size):
        into, of = self.buffer(to), self.buffer(pointer)
        for address, buffer in ((to, into), (pointer, of)):
            self.argument(address, number)
            if address + size > buffer.end:
                raise DriverError(f"{size} bytes at {address:#x} reach out of {buffer}")
        self.order.step(stream, [of.name], [into.name])
        begin, place = pointer - of.address, slice(to - into.address, to - into.address + size)
        assert of.written is None or of.written[begin : begin + size].all(), "a copy of what nothing was written to"
        into.data[place] = of.data[begin : begin + size]
        if into.written is not None:
            into.written[place] = 255
        self.calls.append(("copy", number, stream, to, size))

    def read(self, number, stream, pointer, size):
        buffer = self.buffer(pointer)
        if pointer + size > buffer.end:
            raise DriverError(f"{size} bytes at {pointer:#x} reach out of {buffer}")
        self.order.step(stream, [buffer.name], [])
        self.order.wait(HOST, stream)
        self.calls.append(("read", number, stream, pointer, size))
        return bytes(buffer.data[pointer - buffer.address : pointer - buffer.address + size])

    def wait(self, number, stream, other):
        self.order.wait(stream, other)
        self.calls.append(("wait", number, stream, other))

    def mark(self, number, stream, event=None):
        if stream in self.capturing:
            return None
        if event is None:
            event = len(self.events)
            self.events.append(None)
        self.events[event] = stream
        self.calls.append(("mark", number, stream, event))
        return event

    def passed(self, event):
        return self.events[event] not in self.behind

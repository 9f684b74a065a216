"""The memory of the interpreter: buffers with addresses of their own, and what each access is checked for."""

import bisect
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.interpreter.parse import PtxError

U8, I8 = np.uint64, np.int64
#: Where generic addresses of shared and of local memory begin.
WINDOWS = {"shared": 1 << 56, "local": 1 << 57}
FIRST = 0x1000_0000_0000
#: From buffer to buffer: no round number, so that an offset that is too large by 2**32 or the like reaches none.
APART = (1 << 34) + 256 * 104729
WORDS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16", 32: "V32"}


class OutOfBounds(PtxError):
    """An access outside of the memory that the kernel was given."""


class Misaligned(PtxError):
    """An address that is not a multiple of the access's width."""


class Race(PtxError):
    """Two threads access the same memory, one of them writes, and no barrier is in between."""


class Uninitialised(PtxError):
    """Memory is read that nothing was written to."""


@dataclass
class Traffic:
    """What a launch did to one buffer: bytes and accesses of threads, and sectors of 32 bytes of warps."""

    loaded: int = 0
    stored: int = 0
    load_sectors: int = 0
    store_sectors: int = 0
    loads: Counter = field(default_factory=Counter)  # width in bytes -> accesses
    stores: Counter = field(default_factory=Counter)
    atomics: int = 0


class Buffer:
    """Bytes at an address."""

    def __init__(self, name, address, data, writable, written):
        self.name, self.address, self.data, self.writable = name, address, data, writable
        self.end = address + len(data)
        self.written = written  # None, or for each byte 255 where something was written
        self.views = {}

    def words(self, width, table="data"):
        """(the bytes as words of a width, the address of the first)."""
        if (width, table) not in self.views:
            skip = -self.address % width
            count = max(len(self.data) - skip, 0) // width
            words = getattr(self, table)[skip : skip + count * width].view(WORDS[width])
            self.views[width, table] = words, self.address + skip
        return self.views[width, table]

    def __repr__(self):
        return f"{self.name!r} ({len(self.data)} bytes at {self.address:#x})"


class Memory:
    """Global memory: arrays of the host under addresses that are far apart."""

    def __init__(self):
        self.buffers, self.starts = [], []
        self.next = FIRST

    def add(self, array, name=None, offset=0, at=None, writable=True, initialised=True):
        """Give an array an address: a multiple of 256 plus `offset`, or `at`.

        Reading what is not `initialised` before it is written is an error.
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"expected a contiguous array for {name}; pass the one it is a view of")
        data = array.reshape(-1).view(np.uint8)
        address = self.next + offset if at is None else at
        if at is None:
            self.next += -(-(offset + len(data)) // 256) * 256 + APART
        written = None if initialised else np.zeros(len(data), np.uint8)
        buffer = Buffer(name or f"buffer {len(self.buffers)}", address, data, writable, written)
        i = bisect.bisect(self.starts, address)
        if (i and self.buffers[i - 1].end > address) or (i < len(self.starts) and self.starts[i] < buffer.end):
            raise ValueError(f"{buffer} overlaps another buffer")
        self.starts.insert(i, address)
        self.buffers.insert(i, buffer)
        return address

    def remove(self, address):
        """Forget a buffer: what still points to it is then out of bounds."""
        i = self.starts.index(address)
        del self.starts[i], self.buffers[i]

    def at(self, address):
        """The buffer that an address is nearest to, at its left."""
        return self.buffers[max(bisect.bisect(self.starts, address) - 1, 0)] if self.buffers else None


def spread(values, n):
    """A value for each thread."""
    return np.broadcast_to(values, (n,)) if np.ndim(values) == 0 else values


def columns(raw, site):
    """What was loaded: an array for each register."""
    if site.count == 1:
        return raw.view(site.dtype)
    return np.ascontiguousarray(raw.view(site.dtype).reshape(len(raw), site.count).T)


def rows(values, site, n):
    """What is stored: one word for each thread."""
    if site.count == 1:
        return np.ascontiguousarray(spread(values[0], n)).view(WORDS[site.width])
    raw = np.empty((n, site.count), site.dtype)
    for i, value in enumerate(values):
        raw[:, i] = value
    return raw.view(WORDS[site.width])[:, 0]


def count_sectors(address, warps, width):
    """How many sectors of 32 bytes the warps access, each one once a warp."""
    if len(address) == 1:
        return 1
    sector = (address >> U8(5)).view(I8)
    step, same = np.diff(sector), warps[1:] == warps[:-1]
    if (step[same] < 0).any():
        order = np.lexsort((sector, warps))
        step, same = np.diff(sector[order]), np.diff(warps[order]) == 0
    return 1 + int(np.count_nonzero((step != 0) | ~same))


def atomically(name, words, index, values):
    """One thread after the other; what each found."""
    old = np.empty(len(index), words.dtype)
    change = {
        "add": lambda a, b: a + b,
        "min": min,
        "max": max,
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "exch": lambda a, b: b,
        "cas": lambda a, b, c: c if a == b else a,
        "inc": lambda a, b: a.dtype.type(0) if a >= b else a + a.dtype.type(1),
        "dec": lambda a, b: b if a == 0 or a > b else a - a.dtype.type(1),
    }[name]
    for i, at in enumerate(index):
        old[i] = words[at]
        words[at] = change(old[i], *(value[i] for value in values))
    return old

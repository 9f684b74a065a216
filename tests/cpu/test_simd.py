"""Vectors and memory: what loads and stores touch, every step and alignment, reductions, masks and transposes."""

import ctypes
import functools
import itertools
import mmap
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from numba import njit

from fastsoftmax.core.dtypes import BFLOAT16, COMPUTED, FLOAT16, FLOAT32, FLOAT64
from fastsoftmax.cpu import jit
from fastsoftmax.cpu.layouts import order
from fastsoftmax.cpu.simd import memory, words
from fastsoftmax.cpu.simd.lanes import extract, first_lanes, hmax, hsum, lane_is
from fastsoftmax.cpu.simd.memory import get, lanes_of, load, load_n, put, ref, store, store_n
from fastsoftmax.cpu.simd.squares import transpose_in, transpose_out
from fastsoftmax.cpu.simd.vectors import select, splat
from tests.support import HANG, ROOT

DTYPES = dict(enumerate(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))))
WIDTHS = {FLOAT16: 16, BFLOAT16: 16, FLOAT32: 16, FLOAT64: 8}
KINDS = pytest.mark.parametrize("kind", DTYPES, ids=[dtype.name for dtype in DTYPES.values()])
COMPUTING = pytest.mark.parametrize("kind", [FLOAT32, FLOAT64], ids=["float32", "float64"])
#: Bytes from element to element, in units of the element's size; None is a contiguous reference.
STEPS = pytest.mark.parametrize("step", [None, 1, 2, 3.5, -1, -2.5, 0])
OFFSETS = pytest.mark.parametrize("offset", [0, 1, 6, 63])  # from a multiple of 64 bytes
GUARD, FILL, WHOLE = 0xA5, -9.0, -1
compiled = njit(cache=False, **jit.OPTIONS)


class Room:
    """Bytes that are all guards, with `count` elements among them at `offset`, `step` bytes apart."""

    def __init__(self, kind, count, step, offset):
        self.dtype = DTYPES[kind]
        self.step = self.dtype.itemsize if step is None else round(step * self.dtype.itemsize)
        span = (abs(self.step) * count + 191) // 64 * 64
        self.bytes = np.full(2 * span + 256, GUARD, np.uint8)
        self.first = -self.bytes.ctypes.data % 64 + span + offset
        self.address = self.bytes.ctypes.data + self.first
        self.elements = np.ndarray(count, self.dtype, self.bytes, self.first, (self.step,))

    def guards_hold(self, first, last):
        """Nothing but the elements `first` to `last - 1` was written."""
        rest, shape = self.bytes.copy(), (last - first, self.dtype.itemsize)
        np.ndarray(shape, np.uint8, rest, self.first + first * self.step, (self.step, 1))[...] = GUARD
        return bool((rest == GUARD).all())


def numbers(count, dtype=np.float64):
    """Different values that every kind holds exactly."""
    return (np.arange(count) - count // 2 + 0.5).astype(dtype)


@functools.cache
def transfers(kind, contiguous):
    """Loads and stores of `n` lanes, or of whole vectors, with contiguous vectors on the other side."""
    wide = COMPUTED[kind]

    @compiled
    def read(source, step, target, n):
        r, out = ref(source, step, kind, contiguous), ref(target, 0, wide, True)
        store(out, 0, load(r, 0) if n == WHOLE else load_n(r, 0, n, FILL))

    @compiled
    def write(source, target, step, n):
        r, out = ref(source, 0, wide, True), ref(target, step, kind, contiguous)
        if n == WHOLE:
            store(out, 0, load(r, 0))
        else:
            store_n(out, 0, n, load(r, 0))

    return read, write


@KINDS
@STEPS
@OFFSETS
def test_loads(kind, step, offset):
    """Every number of lanes from every step and alignment; dead lanes get the filler and other bytes do not matter."""
    width = WIDTHS[kind]
    found, values = np.empty(width, DTYPES[COMPUTED[kind]]), numbers(width)
    for n in [*range(0 if step is None else 1, width + 3), WHOLE]:  # none only where the access is a masked one
        live = width if n == WHOLE else min(n, width)
        room = Room(kind, width, step, offset)
        room.elements[:live] = values[:live]
        transfers(kind, step is None)[0](room.address, room.step, found.ctypes.data, n)
        np.testing.assert_array_equal(found[:live], values[:live] if step != 0 else values[live - 1])
        assert (found[live:] == FILL).all()


@KINDS
@STEPS
@OFFSETS
def test_stores(kind, step, offset):
    """Every number of lanes to every step and alignment; the bytes between and around the elements stay."""
    width, values = WIDTHS[kind], numbers(WIDTHS[kind], DTYPES[COMPUTED[kind]])
    for n in [*range(width + 1), WHOLE]:
        live = width if n == WHOLE else n
        room = Room(kind, width, step, offset)
        transfers(kind, step is None)[1](values.ctypes.data, room.address, room.step, n)
        expected = values[:live] if step != 0 else values[live - 1]
        np.testing.assert_array_equal(room.elements[:live].astype(np.float64), expected)
        assert room.guards_hold(0, live)


def touch_the_edges():
    """Partial loads and stores that end, or begin, where memory that may not be touched begins."""
    page = mmap.PAGESIZE
    pages = mmap.mmap(-1, 3 * page)
    middle = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + page
    for guard in (middle - page, middle + page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    other = np.zeros(16)
    for kind, steps in itertools.product(DTYPES, (None, 1, 3, -1, -3)):
        size = DTYPES[kind].itemsize
        step = (steps or 1) * size
        read, write = transfers(kind, steps is None)
        for n in range(1, WIDTHS[kind] + 1):
            span = (n - 1) * abs(step)
            for lowest in (middle, middle + page - span - size):
                address = lowest if step > 0 else lowest + span
                read(address, step, other.ctypes.data, n)
                write(other.ctypes.data, address, step, n)


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
def test_nothing_outside_is_touched():
    """In a child process: a read out of bounds would be a crash."""
    child = [sys.executable, "-c", "from tests.cpu import test_simd; test_simd.touch_the_edges(); print('untouched')"]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "untouched\n", "")


@KINDS
@pytest.mark.parametrize("contiguous", [True, False])
def test_elements_and_moves(kind, contiguous):
    """Scalars go to the element that is named; a reference moves by bytes and by elements."""
    wide = COMPUTED[kind]

    @compiled
    def run(address, step, spare, offset):
        r = memory.moved(ref(address, step, kind, contiguous), offset, 2)
        put(r, 1, get(r, 0) + 1)
        put(r, -2, 4)  # an integer is converted
        put(memory.ref_like(r, spare), 1, get(r, 1))
        return get(r, -1), lanes_of(r), lanes_of(ref(address, step, wide, True))

    room, spare = Room(kind, 6, None if contiguous else 3, 1), Room(kind, 2, None, 3)
    room.elements[:] = numbers(6)
    # The reference has number 2 of the room as its number 0: 5 steps back, 5 forward in bytes, and 2 elements.
    found = run(room.address - 5 * room.step, room.step, spare.address, 5 * room.step)
    assert found == (-1.5, WIDTHS[kind], WIDTHS[wide])
    assert room.elements.tolist() == [4, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert spare.elements[1] == 0.5
    assert room.guards_hold(0, 6)
    assert spare.guards_hold(1, 2)


@KINDS
def test_streamed_stores(kind):
    """Past the caches, from the first address that is a whole vector on."""
    width, wide = WIDTHS[kind], COMPUTED[kind]

    @compiled
    def run(source, target):
        out = ref(target, 0, kind, True)
        n = memory.until_aligned(out)
        memory.stream(out, n, load(ref(source, 0, wide, True), 0))
        return n

    values, size = numbers(width, DTYPES[wide]), DTYPES[kind].itemsize
    for before in range(width):
        room = Room(kind, 2 * width, None, (width - before) * size)
        assert run(values.ctypes.data, room.address) == before
        np.testing.assert_array_equal(room.elements[before : before + width].astype(np.float64), values)
        assert room.guards_hold(before, before + width)


@COMPUTING
def test_labels(kind):
    """Ignored labels and dead lanes are -1; a label that equals the ignored one in its low 32 bits only is kept."""
    width, ignored = WIDTHS[kind], 2**40 + 3

    @compiled
    def run(address, n, target):
        like = ref(target, 0, kind, True)
        found = words.labels(like, address, 1, n, ignored)
        for lane in range(lanes_of(like)):
            put(like, lane, extract(found, lane))

    given = np.arange(width + 1)
    given[6] = ignored
    found = np.empty(width, DTYPES[kind])
    for n in range(width + 1):
        run(given.ctypes.data, n, found.ctypes.data)
        expected = np.where((given[1:] == ignored) | (np.arange(width) >= n), -1, given[1:])
        np.testing.assert_array_equal(found, expected)


@COMPUTING
def test_horizontal_reductions(kind):
    @compiled
    def run(address):
        x = load(ref(address, 0, kind, True), 0)
        return hsum(x), hmax(x), hmax(-x)

    rng, width, dtype = np.random.default_rng(4), WIDTHS[kind], DTYPES[kind]
    for _ in range(50):
        x = (rng.normal(size=width) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
        total, largest, negative = run(x.ctypes.data)
        # float32 is added in float64, where nothing is lost of one number's 24 bits.
        assert total == pytest.approx(float(x.astype(np.float64).sum()), rel=0, abs=1e-14 * float(np.abs(x).sum()))
        assert (largest, negative) == (x.max(), -x.min())
    for lane in range(width):
        x = np.full(width, -np.inf, dtype)
        x[lane] = 3
        assert run(x.ctypes.data)[1] == 3
        x[lane] = np.nan
        assert np.isnan(run(x.ctypes.data)[0])


@KINDS
def test_maximum_of_a_block(kind):
    """Of any number of classes from any on, with the maximum or a NaN, which does not count, in every place."""

    @compiled
    def run(address, j, stop):
        return order.block_max(ref(address, 0, kind, True), j, stop)

    count = 8 * WIDTHS[kind] + 5
    for j, stop in [(0, count), (3, count), (1, 4), (2, count - 6)]:
        for place in range(count):
            x = -np.abs(numbers(count)).astype(DTYPES[kind])
            x[place] = 9
            assert run(x.ctypes.data, j, stop) == x[j:stop].max()
            x[place] = np.nan
            assert run(x.ctypes.data, j, stop) == np.nanmax(x[j:stop].astype(np.float64))


@COMPUTING
def test_masks_and_lanes(kind):
    """first_lanes, lane_is, select and extract, with numbers in and out of the vector."""
    width = WIDTHS[kind]

    @compiled
    def run(address, n, target):
        r, out = ref(address, 0, kind, True), ref(target, 0, kind, True)
        x = load(r, 0)
        store(out, 0, first_lanes(x, n))
        store(out, width, select(lane_is(r, n), x, -1.0))
        store(out, 2 * width, select(lane_is(x, n), 7, x))
        store(out, 3 * width, select(x > n, x, splat(x, n)))
        return extract(x, n) if 0 <= n < width else 0.0

    x, lanes = numbers(width, DTYPES[kind]), np.arange(width)
    x[2] = np.nan  # a comparison with NaN is false
    for n in [*range(-2, width + 3), 2**31 - 1, -(2**31)]:
        out = np.empty((4, width), DTYPES[kind])
        np.testing.assert_array_equal(run(x.ctypes.data, n, out.ctypes.data), x[n] if 0 <= n < width else 0)
        np.testing.assert_array_equal(out[0], np.where(lanes < n, x, 0))
        np.testing.assert_array_equal(out[1], np.where(lanes == n, x, -1))
        np.testing.assert_array_equal(out[2], np.where(lanes == n, 7, x))
        np.testing.assert_array_equal(out[3], np.where(x > n, x, DTYPES[kind].type(n)))


@KINDS
def test_transposes(kind):
    """Partial squares anywhere in matrices of any row length: the right elements, and no others are written."""
    width, dtype, wide, kept = WIDTHS[kind], DTYPES[kind], DTYPES[COMPUTED[kind]], COMPUTED[kind]

    @compiled
    def in_(source, step, buffer, slot, line, row, j, n):
        transpose_in(ref(buffer, 0, kept, True), slot, line, ref(source, step, kind, False), row, j, n)

    @compiled
    def out(target, step, buffer, slot, row, j, n):
        transpose_out(ref(buffer, 0, kept, True), slot, ref(target, step, kind, False), row, j, n)

    row, j, slot = 2, 3, 5
    for n, pad in itertools.product(range(1, width + 3), (0, 1, 5)):
        matrix = numbers((width + 3) * (width + 4 + pad)).reshape(width + 3, -1).astype(dtype)
        line = width + pad
        buffer = np.full(slot + width * line + 7, 77, wide)
        in_(matrix.ctypes.data, matrix.strides[0], buffer.ctypes.data, slot, line, row, j, n)
        square = buffer[slot : slot + width * line].reshape(width, line)
        here = np.s_[row : row + width, j : j + min(n, width)]
        np.testing.assert_array_equal(square[:n, :width], matrix[here].T.astype(wide))
        assert (square[:, width:] == 77).all()
        assert (np.delete(buffer, np.s_[slot : slot + width * line]) == 77).all()
        square = np.concatenate([buffer[:slot], square[:, :width].ravel()])
        back, expected = np.full_like(matrix, 55), np.full_like(matrix, 55)
        out(back.ctypes.data, back.strides[0], square.ctypes.data, slot, row, j, n)
        expected[here] = matrix[here]
        np.testing.assert_array_equal(back, expected)

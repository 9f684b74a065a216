"""Half precision: every bit pattern widens exactly, and float32 rounds to nearest, ties to even, as in NumPy."""

import functools

import ml_dtypes
import numpy as np
import pytest
from numba import njit

from fastsoftmax.core.dtypes import BFLOAT16, FLOAT16, FLOAT32
from fastsoftmax.cpu import jit
from fastsoftmax.cpu.simd.memory import get, lanes_of, load, load_n, put, ref, store, store_n

DTYPES = {FLOAT16: np.dtype(np.float16), BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
KINDS = pytest.mark.parametrize("kind", DTYPES, ids=[dtype.name for dtype in DTYPES.values()])
WAYS = pytest.mark.parametrize("way", ["scalar", "vector", "masked", "strided"])
QUIET = {FLOAT16: 0x7E00, BFLOAT16: 0x7FC0}
ALL = np.arange(2**16, dtype=np.uint16)


@functools.cache
def copier(way, x_kind, y_kind):
    """A compiled copy from one kind to another: element by element, in vectors, in tails, or with general steps."""
    contiguous, masked = way != "strided", way == "masked"

    @njit(cache=False, **jit.OPTIONS)
    def vectors(source, x_step, target, y_step, n):
        x, y = ref(source, x_step, x_kind, contiguous), ref(target, y_step, y_kind, contiguous)
        width = lanes_of(x)
        part = width - 3 if masked else width
        for j in range(0, n, part):
            count = min(part, n - j)
            if count == width:
                store(y, j, load(x, j))
            else:
                store_n(y, j, count, load_n(x, j, count, 1.0))

    @njit(cache=False, **jit.OPTIONS)
    def scalars(source, x_step, target, y_step, n):
        x, y = ref(source, x_step, x_kind, contiguous), ref(target, y_step, y_kind, contiguous)
        for j in range(n):
            put(y, j, get(x, j))

    return scalars if way == "scalar" else vectors


def copied(way, x, x_kind, y_kind, dtype):
    """`x` converted to `dtype` by the package; with every second element of wider arrays where the way is strided."""
    step = 2 if way == "strided" else 1
    source, target = np.zeros(step * x.size, x.dtype), np.full(step * x.size, 7, dtype)
    source[::step] = x
    move = copier(way, x_kind, y_kind)
    steps = step * x.itemsize, step * target.itemsize
    move(source.ctypes.data, steps[0], target.ctypes.data, steps[1], x.size)
    if step == 2:
        assert (target[1::2] == np.asarray(7, dtype)).all()
    return target[::step]


def widened(way, patterns, kind):
    return copied(way, patterns, kind, FLOAT32, np.float32)


def narrowed(way, x, kind):
    return copied(way, np.asarray(x, np.float32), FLOAT32, kind, np.uint16)


def expected_wide(patterns, kind):
    if kind == FLOAT16:
        return patterns.view(np.float16).astype(np.float32)
    return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)


def expected_narrow(x, kind):
    """The patterns that float32 rounds to: NumPy's float16, and integer arithmetic for bfloat16."""
    x = np.asarray(x, np.float32)
    if kind == FLOAT16:
        with np.errstate(over="ignore"):
            short = x.astype(np.float16).view(np.uint16)
    else:
        word = x.view(np.uint32).astype(np.uint64)
        down, rest = word >> np.uint64(16), word & np.uint64(0xFFFF)
        up = (rest > 0x8000) | ((rest == 0x8000) & (down % np.uint64(2) == 1))
        short = (down + up).astype(np.uint16)
    sign = (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16) & np.uint16(0x8000)
    return np.where(np.isnan(x), sign | np.uint16(QUIET[kind]), short)


def dense_sample():
    """All exponents and signs with random mantissas, and mantissas whose low bits are those of ties and neighbours."""
    rng = np.random.default_rng(3)
    top = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23)
    drawn = [
        rng.integers(0, 2**23, (512, 500), dtype=np.uint32),
        np.array([[0, 1, 2**23 - 1]], np.uint32).repeat(512, 0),
    ]
    for low_bits in (13, 16):  # what float16 and bfloat16 drop of a normal mantissa
        kept = rng.integers(0, 2 ** (23 - low_bits), (512, 100), dtype=np.uint32) << np.uint32(low_bits)
        tie = 1 << (low_bits - 1)
        drawn += [kept + np.uint32(rest) for rest in (0, 1, tie - 1, tie, tie + 1, 2 * tie - 1)]
    return (top | np.concatenate(drawn, axis=1)).view(np.float32).ravel()


def between(kind):
    """The exact middle of every two neighbouring finite magnitudes, subnormals too, and the floats beside it."""
    patterns = ALL[: {FLOAT16: 0x7C00, BFLOAT16: 0x7F80}[kind]]
    exact = expected_wide(patterns, kind).astype(np.float64)
    middle = ((exact[1:] + exact[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(end)) for end in (0, np.inf)]
    positive = np.concatenate([middle, *beside])
    return np.concatenate([positive, -positive])


@KINDS
@WAYS
def test_every_pattern_widens_exactly(way, kind):
    found, expected = widened(way, ALL, kind), expected_wide(ALL, kind)
    missing = np.isnan(expected)
    assert missing.sum() == {FLOAT16: 2 * 1023, BFLOAT16: 2 * 127}[kind]
    np.testing.assert_array_equal(np.isnan(found), missing)
    np.testing.assert_array_equal(found[~missing].view(np.uint32), expected[~missing].view(np.uint32))
    np.testing.assert_array_equal(np.signbit(found), ALL >= 0x8000)  # zeros and NaNs keep theirs
    independent = ALL.view(DTYPES[kind]).astype(np.float32)
    np.testing.assert_array_equal(found, independent)


@KINDS
@WAYS
def test_every_pattern_returns(way, kind):
    """Narrowing gives back what was widened; a NaN becomes the quiet NaN of its sign."""
    wide = expected_wide(ALL, kind)
    expected = np.where(np.isnan(wide), ALL & 0x8000 | QUIET[kind], ALL)
    np.testing.assert_array_equal(narrowed(way, wide, kind), expected)


@KINDS
@WAYS
def test_narrowing_rounds_to_nearest_even(way, kind):
    x = dense_sample()
    found = narrowed(way, x, kind)
    np.testing.assert_array_equal(found, expected_narrow(x, kind))
    with np.errstate(over="ignore", invalid="ignore"):
        independent = x.astype(DTYPES[kind])
    np.testing.assert_array_equal(found.view(DTYPES[kind]).astype(np.float32), independent.astype(np.float32))


@KINDS
@WAYS
def test_ties_between_all_neighbours(way, kind):
    """The middle of two neighbours goes to the even one, and whatever lies beside it to the nearer one."""
    x = between(kind)
    found = narrowed(way, x, kind)
    np.testing.assert_array_equal(found, expected_narrow(x, kind))
    middles = found[: x.size // 6]
    np.testing.assert_array_equal(middles, ALL[: middles.size] + ALL[: middles.size] % 2)


@KINDS
@WAYS
def test_ends_of_the_range(way, kind):
    """Overflow begins half a spacing past the largest number, underflow to a signed zero at half the smallest one."""
    info = ml_dtypes.finfo(DTYPES[kind])
    largest, tiny = float(info.max), float(info.smallest_subnormal)
    infinity = {FLOAT16: 0x7C00, BFLOAT16: 0x7F80}[kind]
    limit = np.float32(largest * (1 + float(info.eps) / 4 / (1 - float(info.eps) / 2)))  # the tie, which goes to inf
    below = np.nextafter(limit, np.float32(0))
    half = np.float32(tiny / 2)
    more, less = np.nextafter(half, np.float32(1)), np.nextafter(half, np.float32(0))
    x = np.array([largest, below, limit, np.inf, np.finfo(np.float32).max, more, half, less, 0.0], np.float32)
    expected = [infinity - 1, infinity - 1, *[infinity] * 3, 1, 0, 0, 0]
    for sign, bit in ((1, 0), (-1, 0x8000)):
        assert narrowed(way, sign * x, kind).tolist() == [pattern | bit for pattern in expected]


@KINDS
@WAYS
def test_no_nan_becomes_infinite(way, kind):
    """Not even one whose payload stands only in the bits that are dropped."""
    payloads = np.uint32(1) << np.arange(23, dtype=np.uint32)
    words = np.concatenate([payloads | np.uint32(0x7F800000), payloads | np.uint32(0xFF800000)])
    found = narrowed(way, words.view(np.float32), kind)
    assert np.isnan(found.view(DTYPES[kind]).astype(np.float32)).all()
    np.testing.assert_array_equal(found >> 15, words >> np.uint32(31))

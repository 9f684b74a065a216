"""Vectors of a row in a thread's registers: 32-bit words of an array, loaded, read, changed and stored.

The array is never indexed by anything but a constant, once loops are unrolled, so that it consists of registers.
"""

from functools import lru_cache
from math import gcd

from ...core.dtypes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, ITEMSIZE
from ..toolkit.compiler import device, types
from .memory import (
    READ,
    READ_SHARED,
    WRITE,
    WRITE_SHARED,
    as_double,
    as_float,
    as_long,
    as_word,
    from_half,
    load_short,
    pair_bfloat,
    pair_half,
    store_short,
    to_bfloat,
    to_half,
)

u32, u64 = types.uint32, types.uint64
MINUS_INFINITY = {FLOAT16: 0xFC00FC00, BFLOAT16: 0xFF80FF80, FLOAT32: 0xFF800000}
ZERO = u32(0)


def words_of(kind, vector):
    """Number of words of a vector."""
    return max(1, vector * ITEMSIZE[kind] // 4)


@lru_cache(maxsize=64)
def make_load(kind, vector):
    """``load(words, at, address)``: read a vector, by accesses of 16 bytes, or one of all of a shorter vector."""
    count = words_of(kind, vector)
    access = min(4, count)
    fetch = READ[access]

    if vector * ITEMSIZE[kind] == 2:

        @device
        def load(words, at, address):
            words[at] = load_short(address)
    else:

        @device
        def load(words, at, address):
            for k in range(0, count, access):
                fetch(words, at + k, address + 4 * k)

    return load


@lru_cache(maxsize=64)
def make_blank(kind, vector):
    """``blank(words, at)``: fill a vector with -inf."""
    count = words_of(kind, vector)
    high = u32(0xFFF00000) if kind == FLOAT64 else u32(MINUS_INFINITY[kind])
    low = ZERO if kind == FLOAT64 else high

    @device
    def blank(words, at):
        for k in range(count):
            words[at + k] = high if k % 2 else low

    return blank


@lru_cache(maxsize=64)
def make_get(kind):
    """``get(words, at, k)``: element `k` of a vector in registers, in the computing dtype."""
    if kind == FLOAT32:

        @device
        def get(words, at, k):
            return as_float(words[at + k])
    elif kind == FLOAT64:

        @device
        def get(words, at, k):
            return as_double((u64(words[at + 2 * k + 1]) << u64(32)) | u64(words[at + 2 * k]))
    elif kind == BFLOAT16:

        @device
        def get(words, at, k):
            word = words[at + k // 2]
            return as_float(u32(word & u32(0xFFFF0000)) if k % 2 else u32(word << u32(16)))
    else:

        @device
        def get(words, at, k):
            word = words[at + k // 2]
            return from_half(u32(word >> u32(16)) if k % 2 else word)

    return get


@lru_cache(maxsize=64)
def make_put(kind):
    """``put(words, at, k, value)``: replace element `k` of a vector in registers; not for half types."""
    if kind == FLOAT32:

        @device
        def put(words, at, k, value):
            words[at + k] = as_word(value)
    else:

        @device
        def put(words, at, k, value):
            bits = as_long(value)
            words[at + 2 * k] = u32(bits & u64(0xFFFFFFFF))
            words[at + 2 * k + 1] = u32(bits >> u64(32))

    return put


@lru_cache(maxsize=64)
def make_remove(kind, *, zero=False):
    """``remove(words, at, k)``: make element `k` of a vector in registers -inf, or `zero`."""
    if kind == FLOAT32:
        word = ZERO if zero else u32(MINUS_INFINITY[kind])

        @device
        def remove(words, at, k):
            words[at + k] = word
    elif kind == FLOAT64:
        upper = ZERO if zero else u32(0xFFF00000)

        @device
        def remove(words, at, k):
            words[at + 2 * k], words[at + 2 * k + 1] = ZERO, upper
    else:
        pair = 0 if zero else MINUS_INFINITY[kind]
        low, high = u32(pair & 0xFFFF), u32(pair & 0xFFFF0000)

        @device
        def remove(words, at, k):
            both = words[at + k // 2]
            if k % 2:
                words[at + k // 2] = u32(u32(both & u32(0xFFFF)) | high)
            else:
                words[at + k // 2] = u32(u32(both & u32(0xFFFF0000)) | low)

    return remove


@lru_cache(maxsize=64)
def make_store(kind, vector):
    """``store(address, values, words)``: write a vector; `words` is an array of as many words to work with."""
    count = words_of(kind, vector)
    access = min(4, count)
    put, size = WRITE[access], vector * ITEMSIZE[kind]

    if size == 2:
        narrow = to_half if kind == FLOAT16 else to_bfloat

        @device
        def store(address, values, words):
            store_short(address, narrow(values[0]))
    else:
        pack = _make_pack(kind, vector)

        @device
        def store(address, values, words):
            pack(values, words)
            for k in range(0, count, access):
                put(words, k, address + 4 * k)

    return store


def _make_pack(kind, vector):
    """``pack(values, words)``: turn the values of a vector into words."""
    if kind in (FLOAT16, BFLOAT16):
        pair, count = pair_half if kind == FLOAT16 else pair_bfloat, vector // 2

        @device
        def pack(values, words):
            for k in range(count):
                words[k] = pair(values[2 * k], values[2 * k + 1])
    else:
        put = make_put(kind)

        @device
        def pack(values, words):
            for k in range(vector):
                put(words, 0, k, values[k])

    return pack


@lru_cache(maxsize=64)
def make_keep_recall(count):
    """(keep, recall), ``keep(words, at, address)``: copy `count` words to an address in shared memory, and back."""
    access = gcd(4, count)
    put, get = WRITE_SHARED[access], READ_SHARED[access]

    @device
    def keep(words, at, address):
        for k in range(0, count, access):
            put(words, at + k, u32(address + u32(4 * k)))

    @device
    def recall(words, at, address):
        for k in range(0, count, access):
            get(words, at + k, u32(address + u32(4 * k)))

    return keep, recall

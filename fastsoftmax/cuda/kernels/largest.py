"""The k largest classes of a row, and the order of logits: NaN comes first, and of equal ones the first class."""

import math
from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import device, types
from .held import make_fill
from .hidden import make_unpack_again
from .laws import LAWS
from .memory import constant, number_access, store_byte, store_int64
from .parts import make_advance, make_part_of
from .reductions import above, make_scope, make_tally
from .vectors import make_transform
from .words import make_get

i32, u32, i64 = types.int32, types.uint32, types.int64
NOWHERE, SIGN = i32(0x7FFFFFFF), u32(0x80000000)


@device
def precedes(x, i, y, j):
    """Whether logit `x` of class `i` comes before `y` of `j`: NaN before all others, of equal ones the first."""
    return above(x, y) or (i < j and not above(y, x))


@device
def bid_for(x, j, top):
    """A thread's class `j` of its logit `x`, where that is NaN or the row's `top`: the least of all is the row's."""
    return i32(u32(j) | SIGN) if math.isnan(x) else (j if x == top else NOWHERE)


@lru_cache(maxsize=64)
def make_put(kind):
    """(put, put_place, put_truth), ``put(address, row, target, value)``: write a statistic of a row.

    They write what stands for it in a row that is ignored, or whose label is out of range.
    """
    store, size = number_access(kind)[1], ITEMSIZE[kind]
    zero, nan = constant(kind, 0.0), constant(kind, float("nan"))

    @device
    def put(address, row, target, value):
        value = nan if target.bad else value
        store(address + row * size, zero if target.skipped else value)

    @device
    def put_place(address, row, target, value):
        store_int64(address + row * 8, i64(-1) if target.bad or target.skipped else i64(value))

    @device
    def put_truth(address, row, target, value):
        store_byte(address + row, u32(1) if value and not target.bad and not target.skipped else u32(0))

    return put, put_place, put_truth


@lru_cache(maxsize=64)
def _make_next_vector(kind, vector):
    """``next_vector(words, at, j, live, x, i, best, first)``: the first behind logit `x` of class `i`, up to `best`."""
    get, minus_inf = make_get(kind), constant(COMPUTED[kind], float("-inf"))

    @device
    def next_vector(words, at, j, live, x, i, best, first):
        top, place, off, nan = minus_inf, NOWHERE, i32(i - j), math.isnan(x)
        for k in range(vector):
            y, later = get(words, at, k), i32(k) > off
            # Without branches, or loops over many elements would not be unrolled.
            behind = (y < x) | (later & (y == x)) | (nan & (later | (not math.isnan(y))))
            if live & behind & (above(y, top) | (place == NOWHERE)):
                top, place = y, i32(j + i32(k))
        return (top, place) if precedes(top, place, best, first) else (best, first)

    return next_vector


@lru_cache(maxsize=64)
def _make_next(shape):
    """``next_of(part, words, x, i, best, first)``: the same of all that a thread holds."""
    next_vector, next_spare = (_make_next_vector(shape.word_kind, vector) for vector in (shape.vector, 1))
    items, threads, vector, peeled = shape.items, shape.threads, shape.vector, shape.peeled
    count, spare, unpack_again = shape.words, shape.spare, make_unpack_again(shape.word_kind, shape.held)

    @device
    def next_of(part, words, x, i, best, first):
        unpack_again(words)
        if peeled:
            best, first = next_spare(words, spare, part.spare_j, part.spare, x, i, best, first)
        for n in range(items):
            j, live = i32(part.j + i32(n * threads * vector)), i32(n * threads) < part.left
            best, first = next_vector(words, n * count, j, live, x, i, best, first)
        return best, first

    return next_of


def make_select(shape, flags, group, blocks, held):
    """``select(p, o, row, live, place, target, m, sums, words, g, rank)``: write the k largest classes of a row.

    Each is looked for behind the one before, by as many passes over what is held, or read again.
    """
    kind, advance, part_of = COMPUTED[shape.kind], make_advance(shape), make_part_of(shape)
    law, next_of, transform, fill = LAWS[kind], _make_next(shape), make_transform(kind, flags), make_fill(shape, flags)
    shift, normaliser, log1p, rest = law["shift"], law["normaliser"], law["log1p"], law["rest"]
    share, tally = make_scope(kind, group, blocks).share, make_tally(kind, group, blocks, (True, False, False))
    (put, put_place, _), nan, minus_inf = make_put(kind), constant(kind, float("nan")), constant(kind, float("-inf"))

    @device
    def select(p, o, row, live, place, target, m, sums, words, g, rank):
        log_s, x, i, number = log1p(rest(normaliser(m, sums.others), sums.mass)), nan, i32(-1), i64(0)
        while number < p.k:
            best, first, part, more = minus_inf, NOWHERE, part_of(p, place, g), True
            while more:
                if not held:
                    fill(p, o, part, words)
                best, first = next_of(part, words, x, i, best, first)
                part = advance(part)
                more = part.left > i32(0) and not held
            top = share(minus_inf, minus_inf if math.isnan(best) else best, i32(0), rank)[1]
            bid = tally(bid_for(best, first, top), i32(0), minus_inf)[0]
            x, i = nan if bid < i32(0) else top, i32(u32(bid) & u32(NOWHERE))
            if live and g == i32(0):
                at = row * p.k + number
                put(p.top_k, at, target, (transform(o, x) - shift(m)) - log_s)
                put_place(p.indices, at, target, i)
            number += 1

    return select

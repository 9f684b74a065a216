"""The state of a row for its statistics and their gradient: the maximum, sums over all classes, the order of logits.

Order is that of logits as they came: a softcap and a temperature change none, but rounded they would make some equal.
"""

import math
from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED
from ..toolkit.compiler import cuda, device, types
from .adjusted import make_adjust, make_adjust_vector
from .held import make_add, make_clear, make_fill_spare, make_load_all
from .hidden import make_wait_for_loads
from .largest import NOWHERE, bid_for, precedes
from .laws import LAWS
from .memory import constant, opaque
from .parts import make_advance, make_owner_of, make_part_of
from .reductions import above, make_scope, make_tally
from .streamed import make_rescale, make_staging
from .vectors import Sums, make_transform, needed_sums
from .words import make_blank, make_get, make_load, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64
#: What goes by the order of logits: the largest one and its first class, how many are larger than the target's, and the
#: largest but the target's; and the target's.
Order = namedtuple("Order", ("top", "at", "larger", "other", "own"))


@lru_cache(maxsize=64)
def _make_own(shape, flags, held):
    """(load_own, own_of, fill) of the target's logit.

    These are ``load_own(p, place, t, own)``, ``own_of(p, o, place, t, own)``, and ``fill(p, o, part, words, own)``.

    The assembler would load it where it is used, and memory would be waited for once more: so held words wait for it.
    """
    plain, get = shape._replace(adjusted=False), make_get(shape.kind)
    load, blank, load_all = make_load(shape.kind, 1), make_blank(shape.kind, 1), make_load_all(plain)
    wait_for_loads = make_wait_for_loads(plain.held, plain.words, plain.held)

    @device
    def load_own(p, place, t, own):
        if t >= i32(0):
            load(own, 0, place.x + i64(t) * p.x_step)
        else:
            blank(own, 0)

    @device
    def own_of(p, o, place, t, own):
        return get(own, 0, 0)

    @device
    def fill(p, o, part, words, own):
        load_all(part, words)
        if held:
            words[0] = opaque(words[0], u32(own[0] & u32(cuda.blockIdx.y)))
        wait_for_loads(words, words)

    if not shape.adjusted:
        return load_own, own_of, fill
    return load_own, *_make_adjusted_own(shape, flags, fill)


def _make_adjusted_own(shape, flags, fill):
    """(own_of, fill) of adjusted logits, where `fill` is what loads them as they come."""
    adjust_one, adjust, get = (
        make_adjust_vector(shape.kind, 1, flags),
        make_adjust(shape, flags),
        make_get(shape.word_kind),
    )
    count, one = shape._replace(adjusted=False).held, words_of(shape.word_kind, 1)

    @device
    def adjusted_own(p, o, place, t, own):
        z = cuda.local.array(one, types.uint32)
        adjust_one(p, o, place.mask, own, 0, z, 0, t, t >= i32(0))
        return get(z, 0, 0)

    @device
    def fill_adjusted(p, o, part, words, own):
        raw = cuda.local.array(count, types.uint32)
        fill(p, o, part, raw, own)
        own[0] = opaque(own[0], u32(raw[0] & u32(cuda.blockIdx.y)))  # nor is that used before
        adjust(p, o, part, raw, words)

    return adjusted_own, fill_adjusted


@lru_cache(maxsize=64)
def _make_look_vector(kind, vector, placed, ranked, apart, seeks):
    """``look_vector(words, at, j, off, order)``: the same with a vector whose first class is `j`."""
    get, minus_inf = make_get(kind), constant(COMPUTED[kind], float("-inf"))

    @device
    def look_vector(words, at, j, off, order):
        top, first, larger, other, own = minus_inf, NOWHERE, order.larger, order.other, order.own
        for k in range(vector):
            x = get(words, at, k)
            if placed:
                if above(x, top):
                    top, first = x, i32(j + i32(k))
            else:
                top = max(top, x)
            if ranked:
                larger = i32(larger + (i32(1) if x > order.own else i32(0)))
            if apart and off != i32(k):
                other = x if above(x, other) else other
        if seeks and u32(off) < u32(vector):
            for k in range(vector):
                own = get(words, at, k) if off == i32(k) else own
        if not placed:
            return Order(max(top, order.top), first, larger, other, own)
        if precedes(top, first, order.top, order.at):
            return Order(top, first, larger, other, own)
        return Order(order.top, order.at, larger, other, own)

    return look_vector


@lru_cache(maxsize=64)
def _make_look(shape, placed, ranked, apart, seeks):
    """``look(part, words, t, order)``: the order of what was seen before, and all that a thread holds.

    The target's logit is known before, for its rank, or among what is held (`seeks`).
    """
    look_vector, look_spare = (
        _make_look_vector(shape.word_kind, vector, placed, ranked, apart, seeks) for vector in (shape.vector, 1)
    )
    items, step, count, spare, peeled = (
        shape.items,
        shape.threads * shape.vector,
        shape.words,
        shape.spare,
        shape.peeled,
    )

    @device
    def look(part, words, t, order):
        if peeled:
            order = look_spare(words, spare, part.spare_j, i32(t - part.spare_j), order)
        for i in range(items):
            j = i32(part.j + i32(i * step))
            order = look_vector(words, i * count, j, i32(t - j), order)
        return order

    return look


@lru_cache(maxsize=64)
def _make_join(kind, group, blocks, flags, infinite, placed, ranked, apart):
    """``join(o, m, sums, order, owner, rank)``: (the maximum, the sums, the order) of the whole row."""
    share, total, _ = make_scope(kind, group, blocks, needed_sums(flags))
    tally, rescale = make_tally(kind, group, blocks, (placed, ranked, apart)), make_rescale(kind, flags, infinite)
    transform, summed, minus_inf = make_transform(kind, flags), flags.rest, constant(kind, float("-inf"))

    @device
    def join(o, m, sums, order, owner, rank):
        own, top = share(order.own, minus_inf if placed and math.isnan(order.top) else order.top, owner, rank)
        if summed:
            highest = transform(o, top)
            others, dot, mass = total(*rescale(sums, m, highest))
            m, sums = highest, Sums(others, dot, mass)
        first, larger, other = order.at, order.larger, order.other
        if placed or ranked or apart:
            first, larger, other = tally(bid_for(order.top, first, top), larger, other)
        first = i32(0) if first == NOWHERE else i32(u32(first) & u32(NOWHERE))  # the first of nothing but -inf
        return m, sums, Order(top, first, larger, other, own)

    return join


@lru_cache(maxsize=64)
def make_state_of(shape, flags, group, blocks, in_order, infinite, held, staged):
    """``state_of(p, o, place, target, words, g, rank)``: (the maximum, the sums, the order) of a row.

    The order's three parts are looked for as far as `in_order` says.  Threads that do not hold the row (`held`) read a
    few vectors at a time, and keep them in shared memory where the row is `staged`.
    """
    kind, summed, seeks = COMPUTED[shape.kind], flags.rest, flags.hard and flags.grad
    count = words_of(shape.kind, 1)
    part_of, advance, clear = make_part_of(shape), make_advance(shape), make_clear(shape.held)
    look, add = _make_look(shape, *in_order, seeks), make_add(shape, flags, infinite=infinite, exact=not flags.grad)
    rescale, join = make_rescale(kind, flags, infinite), _make_join(kind, group, blocks, flags, infinite, *in_order)
    (load_own, own_of, fill), owner_of = _make_own(shape, flags, held), make_owner_of(shape)
    keep = make_staging(shape, group, shape.words, make_fill_spare(shape, flags), staged)[0]
    shift, transform = LAWS[kind]["shift"], make_transform(kind, flags)
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def state_of(p, o, place, target, words, g, rank):
        targets, own = cuda.local.array(1, types.uint32), cuda.local.array(count, types.uint32)
        # Where the logits are written over, no thread but the owner looks for the target's.
        load_own(p, place, i32(-1) if seeks else target.t, own)
        part, more, m, sums = part_of(p, place, g), True, minus_inf, Sums(zero, zero, zero)
        order = Order(minus_inf, NOWHERE, i32(0), minus_inf, minus_inf)
        while more:
            fill(p, o, part, words, own)
            if seeks:
                clear(words, target.skipped)
            else:
                z = own_of(p, o, place, target.t, own)
                order = Order(order.top, order.at, order.larger, order.other, z)
            keep(part, place.count, words)
            order = look(part, words, target.t, order)
            if summed:
                higher = transform(o, order.top)
                sums = rescale(sums, m, higher)
                sums, m = add(p, o, part, words, targets, i32(-1), shift(higher), sums), higher
            if held:
                more = False
            else:
                part = advance(part)
                more = part.left > i32(0)
        return join(o, m, sums, order, owner_of(place, target.t) if seeks else i32(0), rank)

    return state_of

"""The work on a row for its statistics: it is read once, wherever it lies, and nothing is written but them.

Unlike those of losses, sums go over all classes, the target's too.  Order is that of logits as they came: a softcap and
a temperature change none, but rounded they would make some equal.  Ignored rows are not read.
"""

import math
from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED
from ..toolkit.compiler import cuda, device, types
from .held import make_add, make_load_all
from .hidden import make_wait_for_loads
from .largest import NOWHERE, bid_for, make_put, make_select, precedes
from .laws import LAWS
from .memory import constant, opaque
from .parts import make_advance, make_locate, make_part_of
from .reductions import above, make_scope, make_tally
from .score import Target, make_target_of
from .streamed import make_rescale
from .vectors import Sums, make_transform, needed_sums
from .words import make_blank, make_get, make_load, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64
#: What goes by the order of logits: the largest one and its first class, how many are larger than the target's, and the
#: largest but the target's.
Order = namedtuple("Order", ("top", "at", "larger", "other"))


def _is_summed(columns):
    """Whether exponentials are added up for the statistics that have `columns`."""
    return max(columns.log_prob, columns.entropy, columns.log_sum_exp, columns.max_prob, columns.top_k) >= 0


def _in_order(columns):
    """Whether a row's largest logit is looked up, its target's rank, and the largest but the target."""
    return max(columns.argmax, columns.correct) >= 0, columns.rank >= 0, columns.margin >= 0


@lru_cache(maxsize=64)
def _make_own(shape, held):
    """(load_own, fill) of the target's logit, ``load_own(own, address, there)``, and ``fill(part, words, own)``.

    The assembler would load it where it is used, and memory would be waited for once more: so held words wait for it.
    """
    load, blank, load_all = make_load(shape.kind, 1), make_blank(shape.kind, 1), make_load_all(shape)
    wait_for_loads = make_wait_for_loads(shape.held, shape.words, shape.held)

    @device
    def load_own(own, address, there):
        if there:
            load(own, 0, address)
        else:
            blank(own, 0)

    @device
    def fill(part, words, own):
        load_all(part, words)
        if held:
            words[0] = opaque(words[0], u32(own[0] & u32(cuda.blockIdx.y)))
        wait_for_loads(words, words)

    return load_own, fill


@lru_cache(maxsize=64)
def _make_look_vector(kind, vector, placed, ranked, apart):
    """``look_vector(words, at, j, off, x_t, order)``: the same with a vector whose first class is `j`."""
    get, minus_inf = make_get(kind), constant(COMPUTED[kind], float("-inf"))

    @device
    def look_vector(words, at, j, off, x_t, order):
        top, first, larger, other = minus_inf, NOWHERE, order.larger, order.other
        for k in range(vector):
            x = get(words, at, k)
            if placed:
                if above(x, top):
                    top, first = x, i32(j + i32(k))
            else:
                top = max(top, x)
            if ranked:
                larger = i32(larger + (i32(1) if x > x_t else i32(0)))
            if apart and off != i32(k):
                other = x if above(x, other) else other
        if not placed:
            return Order(max(top, order.top), first, larger, other)
        if precedes(top, first, order.top, order.at):
            return Order(top, first, larger, other)
        return Order(order.top, order.at, larger, other)

    return look_vector


@lru_cache(maxsize=64)
def _make_look(shape, placed, ranked, apart):
    """``look(part, words, t, x_t, order)``: the order of what was seen before, and all that a thread holds."""
    look_vector, look_spare = (
        _make_look_vector(shape.kind, vector, placed, ranked, apart) for vector in (shape.vector, 1)
    )
    items, step, count, spare, peeled = (
        shape.items,
        shape.threads * shape.vector,
        shape.words,
        shape.spare,
        shape.peeled,
    )

    @device
    def look(part, words, t, x_t, order):
        if peeled:
            order = look_spare(words, spare, part.spare_j, i32(t - part.spare_j), x_t, order)
        for i in range(items):
            j = i32(part.j + i32(i * step))
            order = look_vector(words, i * count, j, i32(t - j), x_t, order)
        return order

    return look


def _make_finish(kind, columns, flags):
    """``finish(p, o, row, target, x_t, m, sums, order)``: write the statistics of a row."""
    law, transform, (put, put_place, put_truth) = LAWS[kind], make_transform(kind, flags), make_put(kind)
    shift, normaliser, log1p, rest, entropy = (
        law[name] for name in ("shift", "normaliser", "log1p", "rest", "entropy")
    )
    one, minus_inf = constant(kind, 1.0), constant(kind, float("-inf"))
    log_prob, spread, log_sum_exp, argmax, max_prob, correct, rank, margin, _ = (c >= 0 for c in columns)

    @device
    def finish(p, o, row, target, x_t, m, sums, order):
        z, others = transform(o, x_t), rest(normaliser(m, sums.others), sums.mass)
        s, log_s = one + others, log1p(others)  # an only maximum's 1 is added to the sum of all others at once
        if log_prob:
            put(p.log_prob, row, target, (z - shift(m)) - log_s)
        if spread:
            put(p.entropy, row, target, entropy(log_s, sums.dot, s))
        if log_sum_exp:
            put(p.log_sum_exp, row, target, m + log1p(rest(sums.others, sums.mass)))
        if max_prob:
            put(p.max_prob, row, target, one / s)
        if argmax:
            put_place(p.argmax, row, target, order.at)
        if correct:
            put_truth(p.correct, row, target, order.at == target.t)
        if rank:
            put_place(p.rank, row, target, order.larger)
        if margin:
            other = minus_inf if p.classes == i64(1) else transform(o, order.other)
            put(p.margin, row, target, z - other)

    return finish


@lru_cache(maxsize=64)
def _make_join(kind, group, blocks, flags, infinite, placed, ranked, apart):
    """``join(o, m, sums, order, rank)``: (the maximum, the sums, the order) of the whole row."""
    share, total, _ = make_scope(kind, group, blocks, needed_sums(flags))
    tally, rescale = make_tally(kind, group, blocks, (placed, ranked, apart)), make_rescale(kind, flags, infinite)
    transform, summed, minus_inf = make_transform(kind, flags), flags.rest, constant(kind, float("-inf"))

    @device
    def join(o, m, sums, order, rank):
        _, top = share(minus_inf, minus_inf if placed and math.isnan(order.top) else order.top, i32(0), rank)
        if summed:
            highest = transform(o, top)
            others, dot, mass = total(*rescale(sums, m, highest))
            m, sums = highest, Sums(others, dot, mass)
        first, larger, other = tally(bid_for(order.top, order.at, top), order.larger, order.other)
        first = i32(0) if first == NOWHERE else i32(u32(first) & u32(NOWHERE))  # the first of nothing but -inf
        return m, sums, Order(top, first, larger, other)

    return join


def make_statistics(shape, columns, flags, label, group, blocks, *, held):
    """The statistics of a row that have `columns`; labels have `label` bytes.

    Where its threads do not hold a row (`held`), each reads a few vectors at a time.
    """
    kind, summed, hard, order_of = COMPUTED[shape.kind], _is_summed(columns), flags.hard, _in_order(columns)
    flags, infinite = flags._replace(entropy=columns.entropy >= 0, rest=summed), columns.log_sum_exp >= 0
    locate, part_of, advance = make_locate(shape), make_part_of(shape), make_advance(shape)
    look, add = _make_look(shape, *order_of), make_add(shape, flags, infinite=infinite, exact=True)
    rescale, join = make_rescale(kind, flags, infinite), _make_join(kind, group, blocks, flags, infinite, *order_of)
    (load_own, fill), get, target_of = _make_own(shape, held), make_get(shape.kind), make_target_of(label)
    finish, shift, count = _make_finish(kind, columns, flags), LAWS[kind]["shift"], shape.held
    own_count, transform = words_of(shape.kind, 1), make_transform(kind, flags)
    select, top_k = make_select(shape, flags, group, blocks, held), columns.top_k >= 0
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        own = cuda.local.array(own_count, types.uint32)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        place = locate(p, row, not target.skipped)
        load_own(own, place.x + i64(target.t) * p.x_step, target.t >= i32(0))
        part, more, m, sums = part_of(p, place, g), True, minus_inf, Sums(zero, zero, zero)
        order = Order(minus_inf, NOWHERE, i32(0), minus_inf)
        while more:
            fill(part, words, own)
            order = look(part, words, target.t, get(own, 0, 0), order)
            if summed:
                higher = transform(o, order.top)
                sums = rescale(sums, m, higher)
                sums, m = add(p, o, part, words, targets, i32(-1), shift(higher), sums), higher
            if held:
                more = False
            else:
                part = advance(part)
                more = part.left > i32(0)
        m, sums, order = join(o, m, sums, order, rank)
        if live and g == i32(0):
            finish(p, o, row, target, get(own, 0, 0), m, sums, order)
        if top_k:
            select(p, o, row, live, place, target, m, sums, words, g, rank)
        return zero

    return work

"""The work on a row of a vector-Jacobian product: one sum over it, then one elementwise pass.

softmax:      ``y_j (g_j - sum_i y_i g_i)``
log_softmax:  ``g_j - exp(y_j) sum_i g_i``

Upstream gradients may have the kind that outputs are computed in; both are held in registers where the plan says so.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .hidden import make_wait_for_loads
from .laws import EXPONENTIALS
from .memory import constant, real
from .parts import make_advance, make_locate, make_part_of
from .reductions import make_scope
from .streamed import make_staging
from .words import make_get, make_load, make_store, words_of

i32 = types.int32


@lru_cache(maxsize=64)
def _make_vector_passes(kind, y_kind, vector, logarithmic):
    """(fill, add, emit) for one vector of both operands, whose words are those of `y` and, behind them, of `g`."""
    computed, load, get = COMPUTED[kind], make_load(kind, vector), make_get(kind)
    load_g, get_g = make_load(y_kind, vector), make_get(y_kind)
    exp, store, dtype = EXPONENTIALS[computed, ITEMSIZE[kind] == 2], make_store(kind, vector), real(computed)
    zero, count = constant(computed, 0.0), words_of(kind, vector)

    @device
    def fill_vector(words, at, y, g):
        load(words, at, y)
        load_g(words, at + count, g)

    @device
    def add_vector(words, at):
        total = zero
        for k in range(vector):
            g = get_g(words, at + count, k)
            total = total + (g if logarithmic else get(words, at, k) * g)
        return total

    @device
    def emit_vector(words, at, out, total):
        values, scratch = cuda.local.array(vector, dtype), cuda.local.array(count, types.uint32)
        for k in range(vector):
            y, g = get(words, at, k), get_g(words, at + count, k)
            values[k] = g - exp(y) * total if logarithmic else y * (g - total)
        store(out, values, scratch)

    return fill_vector, add_vector, emit_vector


@lru_cache(maxsize=64)
def _make_passes(shape, logarithmic):
    """(fill, fill_spare, add, emit) for all that a thread holds at a time; and how many words that takes."""
    load_vector, add_vector, emit_vector = _make_vector_passes(shape.kind, shape.y_kind, shape.vector, logarithmic)
    load_one, add_one, emit_one = _make_vector_passes(shape.kind, shape.y_kind, 1, logarithmic)
    count, items, threads, peeled = shape.words + shape.y_words, shape.items, shape.threads, shape.peeled
    spare = items * count
    held = spare + (words_of(shape.kind, 1) + words_of(shape.y_kind, 1) if peeled else 0)
    wait_for_loads = make_wait_for_loads(held, shape.words, held)

    @device
    def fill_spare(p, o, part, words):
        if peeled and part.spare:
            load_one(words, spare, part.spare_x, part.spare_y)

    @device
    def fill(p, o, part, words):
        fill_spare(p, o, part, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                load_vector(words, i * count, part.x + i * part.x_way, part.y + i * part.y_way)
        wait_for_loads(words, words)

    @device
    def add(part, words, total):
        for i in range(items):
            if i32(i * threads) < part.left:
                total = total + add_vector(words, i * count)
        if peeled and part.spare:
            total = total + add_one(words, spare)
        return total

    @device
    def emit(part, words, total):
        for i in range(items):
            if i32(i * threads) < part.left:
                emit_vector(words, i * count, part.out + i * part.out_way, total)
        if peeled and part.spare:
            emit_one(words, spare, part.spare_out, total)

    return fill, fill_spare, add, emit, held


def make_held(shape, logarithmic, group, blocks):
    """The work on a row that its threads hold; see `held_rows`."""
    kind = COMPUTED[shape.kind]
    locate, part_of, zero = make_locate(shape), make_part_of(shape), constant(kind, 0.0)
    fill, _, add, emit, count = _make_passes(shape, logarithmic)
    # A first exchange that says nothing: each of the two uses the other's barrier to leave its memory alone.
    share, total_of, _ = make_scope(kind, group, blocks)
    separate = group * blocks > 32

    @device
    def work(p, o, row, live, g, rank):
        words = cuda.local.array(count, types.uint32)
        part = part_of(p, locate(p, row, live), g)
        fill(p, o, part, words)
        if separate:
            share(zero, zero, i32(0), rank)
        total = total_of(add(part, words, zero), zero, zero)[0]
        emit(part, words, total)
        return total

    return work


def make_streamed(shape, logarithmic, group, blocks, staged):
    """The work on a row that is read twice, or kept in shared memory."""
    kind = COMPUTED[shape.kind]
    locate, part_of, advance, zero = make_locate(shape), make_part_of(shape), make_advance(shape), constant(kind, 0.0)
    fill, fill_spare, add, emit, count = _make_passes(shape, logarithmic)
    keep, recall = make_staging(shape, group, shape.words + shape.y_words, fill_spare if staged else fill, staged)
    share, total_of, _ = make_scope(kind, group, blocks)
    separate = group * blocks > 32

    @device
    def work(p, o, row, live, g, rank):
        words = cuda.local.array(count, types.uint32)
        place = locate(p, row, live)
        first = part_of(p, place, g)
        part, total, more = first, zero, True
        while more:
            fill(p, o, part, words)
            keep(part, place.count, words)
            total, part = add(part, words, total), advance(part)
            more = part.left > i32(0)
        if separate:
            share(zero, zero, i32(0), rank)
        total, part, more = total_of(total, zero, zero)[0], first, True
        while more:
            recall(p, o, part, place.count, words)
            emit(part, words, total)
            part = advance(part)
            more = part.left > i32(0)
        return total

    return work

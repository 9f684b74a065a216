"""What becomes of a row of a vector-Jacobian product: one sum over it, then one elementwise pass.

softmax:      ``y_j (g_j - sum_i y_i g_i)``
log_softmax:  ``g_j - exp(y_j) sum_i g_i``

Upstream gradients may have the kind that outputs are computed in; both are held in registers where the plan says so.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .hidden import waiting
from .laws import EXPONENTIALS
from .memory import constant, real
from .parts import advancer, locator, parter
from .reductions import scope
from .streamed import kept
from .words import getter, loader, storer, words_of

i32 = types.int32


@lru_cache(maxsize=64)
def _vector(kind, y_kind, vector, logarithmic):
    """(fill, add, emit) for one vector of both operands, whose words are those of `y` and, behind them, of `g`."""
    computed, load, get = COMPUTED[kind], loader(kind, vector), getter(kind)
    load_g, get_g = loader(y_kind, vector), getter(y_kind)
    exp, store, dtype = EXPONENTIALS[computed, ITEMSIZE[kind] == 2], storer(kind, vector), real(computed)
    zero, count = constant(computed, 0.0), words_of(kind, vector)

    @device
    def fill(words, at, y, g):
        load(words, at, y)
        load_g(words, at + count, g)

    @device
    def add(words, at):
        total = zero
        for k in range(vector):
            g = get_g(words, at + count, k)
            total = total + (g if logarithmic else get(words, at, k) * g)
        return total

    @device
    def emit(words, at, out, total):
        values, room = cuda.local.array(vector, dtype), cuda.local.array(count, types.uint32)
        for k in range(vector):
            y, g = get(words, at, k), get_g(words, at + count, k)
            values[k] = g - exp(y) * total if logarithmic else y * (g - total)
        store(out, values, room)

    return fill, add, emit


def _words(shape, vector):
    """The words of a vector of both operands."""
    return words_of(shape.kind, vector) + words_of(shape.y_kind, vector)


@lru_cache(maxsize=64)
def _passes(shape, logarithmic):
    """(fill, fill_spare, add, emit) for all that a thread holds at a time; how many words that takes."""
    fill, add, emit = _vector(shape.kind, shape.y_kind, shape.vector, logarithmic)
    fill_spare, add_spare, emit_spare = _vector(shape.kind, shape.y_kind, 1, logarithmic)
    count = _words(shape, shape.vector)
    items, threads, peeled, spare = shape.items, shape.threads, shape.peeled, shape.items * count
    held = spare + (_words(shape, 1) if peeled else 0)
    wait = waiting(held, words_of(shape.kind, shape.vector), held)

    @device
    def fill_ends(part, words):
        if peeled and part.spare:
            fill_spare(words, spare, part.spare_x, part.spare_y)

    @device
    def fill_all(part, words):
        fill_ends(part, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                fill(words, i * count, part.x + i * part.x_way, part.y + i * part.y_way)
        wait(words, words)

    @device
    def add_all(part, words, total):
        for i in range(items):
            if i32(i * threads) < part.left:
                total = total + add(words, i * count)
        if peeled and part.spare:
            total = total + add_spare(words, spare)
        return total

    @device
    def emit_all(part, words, total):
        for i in range(items):
            if i32(i * threads) < part.left:
                emit(words, i * count, part.out + i * part.out_way, total)
        if peeled and part.spare:
            emit_spare(words, spare, part.spare_out, total)

    return fill_all, fill_ends, add_all, emit_all, held


def held(shape, logarithmic, group, blocks):
    """The work on a row that its threads hold; see `held_kernels`."""
    kind = COMPUTED[shape.kind]
    locate, part_of, zero = locator(shape), parter(shape), constant(kind, 0.0)
    fill, _, add, emit, count = _passes(shape, logarithmic)
    # A first exchange that says nothing: each of the two uses the other's barrier to leave its memory alone.
    share, total_of, _ = scope(kind, group, blocks, False)
    separate = group * blocks > 32

    @device
    def work(p, o, row, live, g, rank):
        words = cuda.local.array(count, types.uint32)
        part = part_of(p, locate(p, row, live), g)
        fill(part, words)
        if separate:
            share(zero, zero, i32(0), rank)
        total = total_of(add(part, words, zero), zero, zero)[0]
        emit(part, words, total)
        return total

    return work


def streamed(shape, logarithmic, group, blocks, staged):
    """The work on a row that is read twice, or kept in shared memory."""
    kind = COMPUTED[shape.kind]
    locate, part_of, advance, zero = locator(shape), parter(shape), advancer(shape), constant(kind, 0.0)
    fill, fill_ends, add, emit, count = _passes(shape, logarithmic)
    width = _words(shape, shape.vector)
    keep, recall = kept(shape, group, width, fill_ends if staged else fill, staged)
    share, total_of, _ = scope(kind, group, blocks, False)
    separate = group * blocks > 32

    @device
    def work(p, o, row, live, g, rank):
        words = cuda.local.array(count, types.uint32)
        place = locate(p, row, live)
        first = part_of(p, place, g)
        part, total, more = first, zero, True
        while more:
            fill(part, words)
            keep(part, place.count, words)
            total, part = add(part, words, total), advance(part)
            more = part.left > i32(0)
        if separate:
            share(zero, zero, i32(0), rank)
        total, part, more = total_of(total, zero, zero)[0], first, True
        while more:
            recall(part, place.count, words)
            emit(part, words, total)
            part = advance(part)
            more = part.left > i32(0)
        return total

    return work

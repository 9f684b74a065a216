"""The work on a row for a log-sum-exp whose terms have factors, of any sign: it is read once, wherever it lies.

A row's state is the largest logit that has a factor other than 0, and ``sum_j b_j exp(z_j - m)``.  A factor of 0 leaves
its logit out, whatever that is, as in SciPy.  Logits of +inf are infinite terms: two of either sign make NaN.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE, PROB
from ..toolkit.compiler import cuda, device, types
from .hidden import make_unpack_again
from .laws import EXPONENTIALS, LAWS
from .memory import constant, real
from .pairs import make_fill
from .parts import make_advance, make_locate, make_part_of
from .reductions import make_scope
from .words import make_get, make_store, words_of

i32 = types.int32


@lru_cache(maxsize=64)
def _make_reduce_vector(kind, y_kind, vector, given):
    """``top_vector(words, at, top)``, the largest logit, and ``add_vector(words, at, base, total)``, the sum.

    Words of a vector are followed by those of its factors, if they are `given`.
    """
    computed, get, get_factor, count = COMPUTED[kind], make_get(kind), make_get(y_kind), words_of(kind, vector)
    exp, zero, one = EXPONENTIALS[computed, False], constant(computed, 0.0), constant(computed, 1.0)
    inf, minus_inf = constant(computed, float("inf")), constant(computed, float("-inf"))

    @device
    def read(words, at, k):
        z, b = get(words, at, k), one
        if given:
            b = get_factor(words, at + count, k)
            z = minus_inf if b == zero else z
        return z, b

    @device
    def top_vector(words, at, top):
        for k in range(vector):
            top = max(top, read(words, at, k)[0])
        return top

    @device
    def add_vector(words, at, base, total):
        for k in range(vector):
            z, b = read(words, at, k)
            total = total + b * (inf if z == inf else exp(z - base))
        return total

    return top_vector, add_vector


@lru_cache(maxsize=64)
def _make_passes(shape, flags, given):
    """(fill, top, add) of all that a thread holds, and how many words that takes."""
    fill, _, held = make_fill(shape, flags, PROB if given else None)
    (top_vector, add_vector), (top_one, add_one) = (
        _make_reduce_vector(shape.kind, shape.y_kind, vector, given) for vector in (shape.vector, 1)
    )
    items, threads, peeled = shape.items, shape.threads, shape.peeled
    count, unpack_again = shape.words + (shape.y_words if given else 0), make_unpack_again(shape.kind, held)
    spare = items * count

    @device
    def top(part, words, m):
        for i in range(items):
            if i32(i * threads) < part.left:
                m = top_vector(words, i * count, m)
        if peeled and part.spare:
            m = top_one(words, spare, m)
        return m

    @device
    def add(part, words, base, total):
        unpack_again(words)
        for i in range(items):
            if i32(i * threads) < part.left:
                total = add_vector(words, i * count, base, total)
        if peeled and part.spare:
            total = add_one(words, spare, base, total)
        return total

    return fill, top, add, held


@lru_cache(maxsize=64)
def _make_finish(kind, stored, signed):
    """``finish(p, row, leads, m, total)``: the logarithm of a row's sum; if `signed` of its size, its sign written."""
    log, zero, one = LAWS[kind]["log"], constant(kind, 0.0), constant(kind, 1.0)
    put, size, dtype, count = make_store(stored, 1), ITEMSIZE[stored], real(kind), words_of(stored, 1)

    @device
    def finish(p, row, leads, m, total):
        if signed and leads:
            values, scratch = cuda.local.array(1, dtype), cuda.local.array(count, types.uint32)
            values[0] = one if total > zero else (-one if total < zero else total)
            put(p.out + row * size, values, scratch)
        return m + log(abs(total) if signed else total)

    return finish


def make_weighted(shape, variant, flags, group, blocks, *, held):
    """The log-sum-exp of a row, by whether factors are given, and whether the sign is written (to `out`) as well."""
    (given, signed), kind = variant, COMPUTED[shape.kind]
    locate, shape = make_locate(shape), shape._replace(adjusted=False)  # masked words stay in their dtype
    part_of, advance, (share, total_of, _) = make_part_of(shape), make_advance(shape), make_scope(kind, group, blocks)
    fill, top, add, count = _make_passes(shape, flags, given)
    finish, shift, exp = _make_finish(kind, shape.kind, signed), LAWS[kind]["shift"], LAWS[kind]["exp"]
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def rescale(total, m, higher):
        # What is infinite remains so: 0 times infinity is NaN.
        return total * exp(m - shift(higher)) if total * zero == zero else total

    @device
    def work(p, o, row, live, g, rank):
        words, place = cuda.local.array(count, types.uint32), locate(p, row, live)
        part, m, total, more = part_of(p, place, g), minus_inf, zero, True
        while more:
            fill(p, o, part, words)
            higher = top(part, words, m)
            total = add(part, words, shift(higher), rescale(total, m, higher))
            m, part = higher, advance(part)
            more = part.left > i32(0) and not held
        highest = share(zero, m, i32(0), rank)[1]
        total = total_of(rescale(total, m, highest), zero, zero)[0]
        return finish(p, row, live and g == i32(0), highest, total)

    return work

"""The work on a row of a divergence: two normalisers, a sum of terms that are not negative, and the student's gradient.

Both rows are held in registers, or kept in shared memory, or read anew by each of up to three passes.  With logits of a
teacher and the forward direction the gradient is written as the terms are added, and there are two.
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED, FORWARD, LOGITS, PROB
from ...core.law_of_divergence import Norms
from ..toolkit.compiler import cuda, device, types
from .hidden import make_unpack_again
from .laws import EXPONENTIALS, LAWS
from .memory import constant, real
from .pairs import make_fill
from .parts import make_advance, make_locate, make_part_of
from .reductions import make_scope, make_tally
from .score import make_factor_at, make_grad_factor_of
from .streamed import make_staging
from .vectors import make_transform
from .words import make_get, make_store, words_of

i32 = types.int32
UNIT = 2  # classes whose terms are computed side by side
#: A number of the student's row, and the same of the teacher's.
Pair = namedtuple("Pair", ("student", "teacher"))
#: What the terms of a row are computed with: its Norms, the sum of the second terms, and the factor of the gradient.
Row = namedtuple("Row", ("norms", "second", "up"))


@lru_cache(maxsize=64)
def _make_rotate(count, step):
    """``rotate(values)``: `step` of `count` values go from the front to the end, so that others have the first places.

    Loops over much arithmetic are too long to be unrolled, and registers have no places but constant ones.
    """
    if step == count:
        return device(lambda values: None)

    @device
    def rotate(values):
        for _ in range(step):
            first = values[0]
            for k in range(count - 1):
                values[k] = values[k + 1]
            values[count - 1] = first

    return rotate


@lru_cache(maxsize=64)
def _make_read(kind, y_kind, flags, teacher):
    """``read(o, words, y_words, at, y_at, k)``: the Pair of a class; logits transformed, other numbers as they are."""
    get, get_y = make_get(kind), make_get(y_kind)
    transform, taught = make_transform(COMPUTED[kind], flags), teacher == LOGITS

    @device
    def read(o, words, y_words, at, y_at, k):
        y = get_y(y_words, y_at, k)
        return Pair(transform(o, get(words, at, k)), transform(o, y) if taught else y)

    return read


@lru_cache(maxsize=64)
def _make_reduce_vector(kind, y_kind, vector, flags, teacher):
    """``top_vector(o, words, at, top)``, the largest logits, and ``add_vector(o, words, at, base, sums)``.

    Words of a vector of the student's are followed by those of the teacher's.
    """
    exp, taught, count = EXPONENTIALS[COMPUTED[kind], False], teacher == LOGITS, words_of(kind, vector)
    read = _make_read(kind, y_kind, flags, teacher)

    @device
    def top_vector(o, words, at, top):
        x, y = top.student, top.teacher
        for k in range(vector):
            z = read(o, words, words, at, at + count, k)
            x = max(x, z.student)
            if taught:
                y = max(y, z.teacher)
        return Pair(x, y)

    @device
    def add_vector(o, words, at, base, sums):
        x, y = sums.student, sums.teacher
        for k in range(vector):
            z = read(o, words, words, at, at + count, k)
            x = x + exp(z.student - base.student)
            if taught:
                y = y + exp(z.teacher - base.teacher)
        return Pair(x, y)

    return top_vector, add_vector


@lru_cache(maxsize=64)
def _make_terms_class(kind, y_kind, flags, variant, write):
    """``terms_class(o, x, y, k, row)``: (the Pair of terms of a class, the gradient if they `write`)."""
    (teacher, direction), computed = variant, COMPUTED[kind]
    law, exp, read = LAWS[computed], EXPONENTIALS[computed, False], _make_read(kind, y_kind, flags, teacher)
    pair, terms, slope, zero = law["pair"], law["divergence_terms"], law["divergence_slope"], constant(computed, 0.0)
    taught, known = teacher == LOGITS, teacher == PROB

    @device
    def terms_class(o, x, y, k, row):
        z, norms, g = read(o, x, y, 0, 0, k), row.norms, zero
        d, e = z.student - norms.shift, z.teacher
        if taught:
            e = e - norms.teacher_shift
        p, q, t = pair(teacher, exp(d), d, e if known else exp(e), e, norms)
        if write:
            g = slope(teacher, direction, o.beta, p, q, t, row.second) * row.up
        value, second = terms(direction, o.beta, p, q, t)
        return value, second, g

    return terms_class


@lru_cache(maxsize=64)
def _make_terms_vector(kind, y_kind, vector, flags, variant, write):
    """``terms_vector(o, words, at, out, row, sums)``: add the terms of a vector to `sums`, and `write` its gradient."""
    terms_class, dtype = _make_terms_class(kind, y_kind, flags, variant, write), real(COMPUTED[kind])
    count, wide, unit = words_of(kind, vector), words_of(y_kind, vector), min(UNIT, vector)
    rotate, rotate_y = _make_rotate(count, words_of(kind, unit)), _make_rotate(wide, words_of(y_kind, unit))
    rotate_values, store = _make_rotate(vector, unit), make_store(kind, vector)

    @device
    def terms_vector(o, words, at, out, row, sums):
        values, scratch = cuda.local.array(vector, dtype), cuda.local.array(count, types.uint32)
        x, y = cuda.local.array(count, types.uint32), cuda.local.array(wide, types.uint32)
        for k in range(count):
            x[k] = words[at + k]
        for k in range(wide):
            y[k] = words[at + count + k]
        value, second = sums
        for _ in range(vector // unit):
            for k in range(unit):
                one, other, values[k] = terms_class(o, x, y, k, row)
                value, second = value + one, second + other
            rotate(x)
            rotate_y(y)
            rotate_values(values)
        if write:
            store(out, values, scratch)
        return Pair(value, second)

    return terms_vector


@lru_cache(maxsize=64)
def _make_passes(shape, flags, variant, write):
    """(top, add, terms) over all that a thread holds: the functions of vectors with ``part`` in the place of ``at``."""
    kinds, teacher, held = (shape.kind, shape.y_kind), variant[0], make_fill(shape, flags, variant[0])[2]
    (top_vector, add_vector), (top_one, add_one) = (
        _make_reduce_vector(*kinds, vector, flags, teacher) for vector in (shape.vector, 1)
    )
    terms_vector, terms_one = (_make_terms_vector(*kinds, n, flags, variant, write) for n in (shape.vector, 1))
    items, threads, peeled, count = shape.items, shape.threads, shape.peeled, shape.words + shape.y_words
    spare, unpack_again, rotate = items * count, make_unpack_again(shape.kind, held), _make_rotate(items * count, count)

    @device
    def top(o, part, words, found):
        for i in range(items):
            if i32(i * threads) < part.left:
                found = top_vector(o, words, i * count, found)
        if peeled and part.spare:
            found = top_one(o, words, spare, found)
        return found

    @device
    def add(o, part, words, base, sums):
        unpack_again(words)
        for i in range(items):
            if i32(i * threads) < part.left:
                sums = add_vector(o, words, i * count, base, sums)
        if peeled and part.spare:
            sums = add_one(o, words, spare, base, sums)
        return sums

    @device
    def terms(o, part, words, row, sums):
        unpack_again(words)
        for i in range(items):
            if i32(i * threads) < part.left:
                sums = terms_vector(o, words, 0, part.out + i * part.out_way, row, sums)
            rotate(words)
        if peeled and part.spare:
            sums = terms_one(o, words, spare, part.spare_out, row, sums)
        return sums

    return top, add, terms


@lru_cache(maxsize=64)
def _make_norms(kind, taught):
    """``rescale(sums, m, top)``, sums relative to larger maxima, and ``norms_of(top, sums)``, of whole rows."""
    law, exp, one = LAWS[kind], EXPONENTIALS[kind, False], constant(kind, 1.0)
    shift, normaliser, log = law["shift"], law["normaliser"], law["log"]

    @device
    def rescale(sums, m, top):
        x, y = sums
        x = x * exp(m.student - shift(top.student))
        if taught:
            y = y * exp(m.teacher - shift(top.teacher))
        return Pair(x, y)

    @device
    def norms_of(top, sums):
        x = normaliser(top.student, sums.student)
        y = normaliser(top.teacher, sums.teacher) if taught else x
        return Norms(shift(top.student), log(x), one / x, shift(top.teacher), log(y), one / y)

    return rescale, norms_of


def _make_reduce(shape, flags, variant, group, held, staged):
    """(reduce, recall), ``reduce(p, o, part, size, words)``: the largest logits of a part of both rows, and sums.

    ``recall(p, o, part, size, words)`` brings back what threads did not hold, of rows of `size` vectors.
    """
    kind, advance, (fill, fill_spare, _) = (
        COMPUTED[shape.kind],
        make_advance(shape),
        make_fill(shape, flags, variant[0]),
    )
    keep, recall = make_staging(shape, group, shape.words + shape.y_words, fill_spare if staged else fill, staged)
    (top, add, _), rescale = _make_passes(shape, flags, variant, False), _make_norms(kind, variant[0] == LOGITS)[0]
    shift, zero, minus_inf = LAWS[kind]["shift"], constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def reduce(p, o, part, size, words):
        m, sums, more = Pair(minus_inf, minus_inf), Pair(zero, zero), True
        while more:
            fill(p, o, part, words)
            keep(part, size, words)
            higher = top(o, part, words, m)
            base = Pair(shift(higher.student), shift(higher.teacher))
            sums = add(o, part, words, base, rescale(sums, m, higher))
            m, part = higher, advance(part)
            more = part.left > i32(0) and not held
        return m, sums

    return reduce, recall


def make_divergence(shape, flags, variant, group, blocks, *, held, staged):
    """The divergence of a row of a teacher and direction (`variant`), and the gradient if ``flags.grad``."""
    kind, taught, grad, factors = COMPUTED[shape.kind], variant[0] == LOGITS, flags.grad, flags.factors
    at_once, separate = grad and taught and variant[1] == FORWARD, group * blocks > 32
    locate, shape = make_locate(shape), shape._replace(adjusted=False)  # masked words stay in their dtype
    part_of, advance, count = make_part_of(shape), make_advance(shape), make_fill(shape, flags, variant[0])[2]
    flags = flags._replace(adjusted=False)
    reduce, recall = _make_reduce(shape, flags, variant, group, held, staged)
    add, emit = (_make_passes(shape, flags, variant, write)[2] for write in (at_once, True))
    share, total, _ = make_scope(kind, group, blocks, (taught or grad, False))
    tally, (rescale, norms_of) = make_tally(kind, group, blocks, (False, False, True)), _make_norms(kind, taught)
    factor_at, grad_factor_of = make_factor_at(kind), make_grad_factor_of(kind, flags)
    zero, one = constant(kind, 0.0), constant(kind, 1.0)

    # What exchanges something between threads is called here alone, as the linker would find it twice otherwise.
    @device
    def work(p, o, row, live, g, rank):
        words, place = cuda.local.array(count, types.uint32), locate(p, row, live)
        first = part_of(p, place, g)
        m, sums = reduce(p, o, first, place.count, words)
        x = share(zero, m.student, i32(0), rank)[1]
        y = tally(i32(0), i32(0), m.teacher)[2] if taught else x
        sums = rescale(sums, m, Pair(x, y))
        x_sum, y_sum, _ = total(sums.student, sums.teacher, zero)
        norms, up = norms_of(Pair(x, y), Pair(x_sum, y_sum)), grad_factor_of(p, o, row) if grad else one
        if separate:  # says nothing: the sums' memory is left alone until its barrier
            share(zero, zero, i32(0), rank)
        part, sums, more = first, Pair(zero, zero), True
        while more:
            if not held:
                recall(p, o, part, place.count, words)
            sums, part = add(o, part, words, Row(norms, one, up), sums), advance(part)
            more = part.left > i32(0) and not held
        value, second, _ = total(sums.student, sums.teacher, zero)
        part, more = first, grad and not at_once
        while more:
            if not held:
                recall(p, o, part, place.count, words)
            emit(o, part, words, Row(norms, second, up), sums)
            part = advance(part)
            more = part.left > i32(0) and not held
        return value * factor_at(factors and p.loss_factor != 0, p.loss_factor, row)

    return work

"""The work on a row of a divergence from a teacher that lists k classes: they, and the others as one more class.

A block reads the row twice, in windows of as many classes as it has slots for in shared memory.  A slot is 1 where its
class is listed, else 0; each thread looks at the slots of its own classes, and empties them.  Threads have parts of the
list besides.  Nobody has compared indices with anything: what is out of range has no slot, and two that are the same
have one, so that a list is sound if k slots are found.
"""

from collections import namedtuple

from ...core.dtypes import BUCKET, COMPUTED, FLOAT64, IGNORE, ITEMSIZE, LOG_PROB, RENORMALIZE
from ...core.law_of_divergence import Norms
from ..toolkit.compiler import cuda, device, types
from .laws import EXPONENTIALS, LAWS
from .memory import constant, load_int32, load_int64, real
from .parts import row_address
from .reductions import make_scope
from .score import make_factor_at, make_grad_factor_of
from .vectors import make_transform
from .words import make_get, make_load, make_store, words_of

i32, i64, f64 = types.int32, types.int64, types.float64
UNROLLED = 4  # logits that a thread reads before it uses the first
#: A row: addresses of its logits, gradient, indices and log-probabilities, ways between classes, and their numbers.
Row = namedtuple("Row", ("x", "step", "out", "out_step", "places", "lies", "classes", "k"))


def _make_locate(label, size):
    """``locate(p, row)``: where a row lies; its list has elements of `label` and `size` bytes."""

    @device
    def locate(p, row):
        x = row_address(p.x, p.x_outer, p.x_inner, row, p.inner)
        out = row_address(p.out, p.out_outer, p.out_inner, row, p.inner)
        first = row * p.listed
        places, lies = p.indices + first * label, p.log_prob + first * size
        return Row(x, p.x_step, out, p.out_step, places, lies, i32(p.classes), i32(p.listed))

    return locate


def _make_mark(threads, window, label):
    """``mark(r, slots, begin, g)``: fill in the slots of a window that begins with some class; returns its classes."""
    read = load_int64 if label == 8 else load_int32

    @device
    def mark(r, slots, begin, g):
        j, limit = g, min(i32(window), i32(r.classes - begin))
        while j < r.k:
            off = i64(read(r.places + i64(j) * label)) - i64(begin)
            if i64(0) <= off < i64(limit):
                cuda.atomic.max(slots, i32(off), i32(1))
            j = i32(j + i32(threads))
        cuda.syncthreads()
        return limit

    return mark


def _make_fill(kind, threads):
    """``fill(r, words, begin, j, limit)``: load a thread's next logits of a window, from its class `j` on."""
    load, count = make_load(kind, 1), words_of(kind, 1)

    @device
    def fill(r, words, begin, j, limit):
        for k in range(UNROLLED):
            at = i32(j + i32(k * threads))
            if at < limit:
                load(words, k * count, r.x + i64(i32(begin + at)) * r.step)

    return fill


def _make_reduce(kind, flags, threads, window, label):
    """``reduce(r, o, slots, g)``: (m, s) of a thread's classes but the listed, and how many slots it found filled in.

    All slots are emptied before.
    """
    computed, count, room, way = COMPUTED[kind], words_of(kind, 1), UNROLLED * words_of(kind, 1), UNROLLED * threads
    get, mark, fill = make_get(kind), _make_mark(threads, window, label), _make_fill(kind, threads)
    transform, exp, shift = make_transform(computed, flags), EXPONENTIALS[computed, False], LAWS[computed]["shift"]
    minus_inf, zero, dtype = constant(computed, float("-inf")), constant(computed, 0.0), real(computed)
    items = window // threads

    @device
    def reduce(r, o, slots, g):
        words, values = cuda.local.array(room, types.uint32), cuda.local.array(UNROLLED, dtype)
        m, s, found, begin = minus_inf, zero, i32(0), i32(0)
        for i in range(items):
            slots[i32(g + i32(i * threads))] = i32(0)
        cuda.syncthreads()
        while begin < r.classes:
            limit, j = mark(r, slots, begin, g), g
            while j < limit:
                fill(r, words, begin, j, limit)
                top = m
                for k in range(UNROLLED):
                    at, z = i32(j + i32(k * threads)), minus_inf
                    if at < limit:
                        if slots[at] != i32(0):
                            found, slots[at] = i32(found + i32(1)), i32(0)
                        else:
                            z = transform(o, get(words, k * count, 0))
                    values[k], top = z, max(top, z)
                base = shift(top)
                s = s * exp(m - base)
                for k in range(UNROLLED):
                    s = s + exp(values[k] - base)
                m, j = top, i32(j + i32(way))
            cuda.syncthreads()
            begin = i32(begin + i32(window))
        return m, s, found

    return reduce


def _make_emit(kind, flags, threads, window, label):
    """``emit(r, o, slots, g, base, shared, sound)``: write the gradients of all classes but those of a sound list."""
    computed, count, room, way = COMPUTED[kind], words_of(kind, 1), UNROLLED * words_of(kind, 1), UNROLLED * threads
    get, mark, fill = make_get(kind), _make_mark(threads, window, label), _make_fill(kind, threads)
    store, transform = make_store(kind, 1), make_transform(computed, flags)
    exp, dtype = EXPONENTIALS[computed, False], real(computed)

    @device
    def emit(r, o, slots, g, base, shared, sound):
        words = cuda.local.array(room, types.uint32)
        values, scratch, begin = cuda.local.array(1, dtype), cuda.local.array(count, types.uint32), i32(0)
        while begin < r.classes:
            limit, j = mark(r, slots, begin, g), g
            while j < limit:
                fill(r, words, begin, j, limit)
                for k in range(UNROLLED):
                    at = i32(j + i32(k * threads))
                    if at < limit:
                        other, slots[at] = slots[at] == i32(0), i32(0)
                        if other or not sound:
                            values[0] = exp(transform(o, get(words, k * count, 0)) - base) * shared
                            store(r.out + i64(i32(begin + at)) * r.out_step, values, scratch)
                j = i32(j + i32(way))
            cuda.syncthreads()
            begin = i32(begin + i32(window))

    return emit


def _make_number(kind):
    """``number(address)``: a number of a storage kind, in its computing dtype."""
    load, get, count = make_load(kind, 1), make_get(kind), words_of(kind, 1)

    @device
    def number(address):
        words = cuda.local.array(count, types.uint32)
        load(words, 0, address)
        return get(words, 0, 0)

    return number


def _make_class(kind, y_kind, flags, label):
    """``place(r, j)`` of a listed class, -1 if it is none; ``logit(r, o, j)``, then NaN; ``log_q(r, j)``."""
    read, size = load_int64 if label == 8 else load_int32, ITEMSIZE[y_kind]
    number, number_y, nan = _make_number(kind), _make_number(y_kind), constant(COMPUTED[kind], float("nan"))
    transform = make_transform(COMPUTED[kind], flags)

    @device
    def place(r, j):
        at = i64(read(r.places + i64(j) * label))
        return at if i64(0) <= at < i64(r.classes) else i64(-1)

    @device
    def logit(r, o, j):
        at = place(r, j)
        return nan if at < i64(0) else transform(o, number(r.x + at * r.step))

    @device
    def log_q(r, j):
        return number_y(r.lies + i64(j) * size)

    return place, logit, log_q


def _make_sums(kind, threads, logit, log_q):
    """A thread's part of the list: ``tops(r, o, g)`` of both, ``mass(r, g, base)``, ``exponentials(r, o, g, base)``."""
    exp, exact = EXPONENTIALS[kind, False], EXPONENTIALS[FLOAT64, False]
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def tops(r, o, g):
        x, y, j = minus_inf, minus_inf, g
        while j < r.k:
            x, y, j = max(x, logit(r, o, j)), max(y, log_q(r, j)), i32(j + i32(threads))
        return x, y

    @device
    def mass(r, g, base):
        total, j = f64(0.0), g
        while j < r.k:
            total, j = total + exact(f64(log_q(r, j)) - base), i32(j + i32(threads))
        return total

    @device
    def exponentials(r, o, g, base):
        total, j = zero, g
        while j < r.k:
            total, j = total + exp(logit(r, o, j) - base), i32(j + i32(threads))
        return total

    return tops, mass, exponentials


def _make_terms(kind, flags, variant, label, threads, functions):
    """``add(r, o, g, norms, less, a, b)``, terms of a list, and a and b once; ``write(...)``, gradients."""
    (direction, tail, _), (place, logit, log_q), computed = variant, functions, COMPUTED[kind]
    law, exp, convert, count = LAWS[computed], EXPONENTIALS[computed, False], real(computed), words_of(kind, 1)
    pair, terms, slope, store = law["pair"], law["divergence_terms"], law["divergence_slope"], make_store(kind, 1)
    normalised, zero = tail == RENORMALIZE, constant(computed, 0.0)

    @device
    def pair_at(r, o, j, norms, less):
        d, y = logit(r, o, j) - norms.shift, log_q(r, j)
        if normalised:
            y = convert(f64(y) - less)
        return pair(LOG_PROB, exp(d), d, exp(y), y, norms)

    @device
    def add(r, o, g, norms, less, value, second):
        j = g
        if g != i32(0):
            value, second = zero, zero
        while j < r.k:
            p, q, t = pair_at(r, o, j, norms, less)
            a, b = terms(direction, o.beta, p, q, t)
            value, second, j = value + a, second + b, i32(j + i32(threads))
        return value, second

    @device
    def write(r, o, g, norms, less, second, up):
        values, scratch, j = cuda.local.array(1, convert), cuda.local.array(count, types.uint32), g
        while j < r.k:
            at, (p, q, t) = place(r, j), pair_at(r, o, j, norms, less)
            values[0] = slope(LOG_PROB, direction, o.beta, p, q, t, second) * up
            if at >= i64(0):
                store(r.out + at * r.out_step, values, scratch)
            j = i32(j + i32(threads))

    return add, write


def _make_rest(kind, tail):
    """``rest_of(mass, whole)``: the others' q, its logarithm, and what is added to a divergence.

    All by the sum of the listed, which may be the `whole`.
    """
    log, zero, minus_inf, convert = LAWS[FLOAT64]["log"], constant(kind, 0.0), constant(kind, float("-inf")), real(kind)

    @device
    def rest_of(mass, whole):
        if tail != BUCKET or whole:
            return zero, minus_inf, convert(mass - f64(1.0)) if tail == IGNORE else zero
        rest = f64(1.0) - mass
        rest = f64(0.0) if rest < f64(0.0) else rest
        return convert(rest), convert(log(rest)), zero

    return rest_of


def make_listed(shape, flags, variant, label, threads):
    """The divergence of a row, a teacher's pair in the places of labels and weights of classes; the gradient, too."""
    (direction, tail, y_kind), kind, window = variant, COMPUTED[shape.kind], shape.items * threads
    law, exp, convert, log_exact = LAWS[kind], EXPONENTIALS[kind, False], real(kind), LAWS[FLOAT64]["log"]
    shift, normaliser, log, pair = law["shift"], law["normaliser"], law["log"], law["pair"]
    terms, slope, grad, factors = law["divergence_terms"], law["divergence_slope"], flags.grad, flags.factors
    locate, functions = _make_locate(label, ITEMSIZE[y_kind]), _make_class(shape.kind, y_kind, flags, label)
    reduce, emit = (make(shape.kind, flags, threads, window, label) for make in (_make_reduce, _make_emit))
    add, write = _make_terms(shape.kind, flags, variant, label, threads, functions)
    (tops, mass_of, exponentials), rest_of = _make_sums(kind, threads, *functions[1:]), _make_rest(kind, tail)
    share, total, _ = make_scope(kind, threads, 1, (True, False))
    total_exact, factor_at = make_scope(FLOAT64, threads, 1, (True, False)).total, make_factor_at(kind)
    grad_factor_of, normalised = make_grad_factor_of(kind, flags), tail == RENORMALIZE
    zero, one, nan = (constant(kind, v) for v in (0.0, 1.0, float("nan")))

    # What exchanges something between threads is called here alone; between two sums there is a barrier of others.
    @device
    def work(p, o, row, live, g, rank):
        slots, r = cuda.shared.array(window, types.int32), locate(p, row)
        m, s, found = reduce(r, o, slots, g)
        top, highest = tops(r, o, g)
        rest_m = share(zero, m, i32(0), rank)[1]
        rest_s, marks, _ = total(s * exp(m - shift(rest_m)), convert(found), zero)
        rest_s, sound = (rest_s, True) if marks == convert(r.k) else (nan, False)
        highest = share(zero, highest, i32(0), rank)[1]
        base = f64(shift(highest)) if normalised else f64(0.0)
        mass = total_exact(mass_of(r, g, base), f64(0.0), f64(0.0))[0]
        top = max(share(zero, top, i32(0), rank)[1], rest_m)
        shifted, less = shift(top), base + log_exact(mass)
        e = rest_s * exp(rest_m - shifted)
        s = normaliser(top, total(exponentials(r, o, g, shifted), zero, zero)[0] + e)
        norms, (q, y, excess) = Norms(shifted, log(s), one / s, zero, zero, zero), rest_of(mass, r.k == r.classes)
        own, q, t = pair(LOG_PROB, e, (rest_m - shifted) + log(rest_s), q, y, norms)
        value, second = terms(direction, o.beta, own, q, t)
        value, second = add(r, o, g, norms, less, value, second)
        cuda.syncthreads()
        value, second, _ = total(value, second, zero)
        if grad:
            up = grad_factor_of(p, o, row)
            shared = slope(LOG_PROB, direction, o.beta, own, q, t, second) * up
            emit(r, o, slots, g, shift(rest_m), shared if rest_s == zero else shared / rest_s, sound)
            if sound:
                write(r, o, g, norms, less, second, up)
        return (value + excess) * factor_at(factors and p.loss_factor != 0, p.loss_factor, row)

    return work

"""The passes of a thread over one vector of a row: transform, add to sums, write.

Elements are words in registers (`words`): `items` vectors and, where rows are peeled, one spare element behind them.
What is not there is -inf, which adds nothing to any sum of exponentials; so is the target's logit once it was taken
out, as sums go without it.  Where -inf would not do (a softcap makes it finite, weights make it count) there are masks.
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .laws import EXPONENTIALS, LAWS
from .memory import constant, number_access, real
from .words import make_get, make_load, make_put, make_store, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64

#: The numbers of a row that its gradient takes: the shift of its exponentials, and A / s, B and the target's gradient.
Score = namedtuple("Score", ("base", "a", "b", "at_target"))
#: Sums over the classes but the target: of exponentials, of weights times distances from the shift, of weights.  Of
#: statistics they go over all classes: of exponentials, of those times distances, of those below the maximum, which
#: are the second where there are weights.
Sums = namedtuple("Sums", ("others", "dot", "mass"))


def is_masked(flags):
    """Whether -inf does not make an element disappear."""
    return flags.cap or flags.smooth or flags.soft


def needed_sums(flags):
    """Whether the second and the third of a row's `Sums` are needed."""
    weighing = flags.smooth or flags.soft
    return weighing or flags.entropy, weighing or flags.rest


def may_keep(shape, flags):
    """Whether exponentials can take the place of the logits in the registers: they fit, and nobody wants those."""
    wanted = flags.cap or (flags.adjusted and is_masked(flags))  # -inf says which classes are left out
    return shape.word_kind == COMPUTED[shape.kind] and not wanted


@lru_cache(maxsize=64)
def make_transform(kind, flags):
    """``transform(o, x)``: the logits that the loss sees, softcap, then temperature; adjusted ones are that already."""
    capped, one = LAWS[kind]["capped"], constant(kind, 1.0)
    cap, temper = (flag and not flags.adjusted for flag in (flags.cap, flags.temper))

    @device
    def transform(o, x):
        if cap:
            x = capped(x, o.cap, one / o.cap)
        if temper:
            x = x * o.inverse_temperature
        return x

    return transform


@lru_cache(maxsize=256)
def make_read(kind, flags):
    """``read(o, words, at, k, there)``: a transformed logit; -inf where there is none."""
    get, transform = make_get(kind), make_transform(COMPUTED[kind], flags)
    masked, minus_inf = is_masked(flags), constant(COMPUTED[kind], float("-inf"))

    @device
    def read(o, words, at, k, there):
        z = transform(o, get(words, at, k))
        if masked:
            z = z if there else minus_inf
        return z

    return read


@lru_cache(maxsize=256)
def make_weigh(y_kind, kind, vector, flags):
    """``weigh(p, o, words, at, targets, begin, j, live, masses)``: fill `masses` with w_j of a vector.

    Its first class is `j`; its soft targets, if there are such, are the words of `targets` from `begin` on.  Smoothing
    leaves out those of its adjusted logits, the words from `at` on, that are -inf.
    """
    one, zero = constant(kind, 1.0), constant(kind, 0.0)
    size = ITEMSIZE[kind]
    get, read = make_get(y_kind), number_access(kind)[0]
    soft, weighted, convert, adjusted = flags.soft, flags.weighted, real(kind), flags.adjusted
    get_z, minus_inf = make_get(kind), constant(kind, float("-inf"))

    @device
    def weigh(p, o, words, at, targets, begin, j, live, masses):
        for k in range(vector):
            w = one if live else zero
            if weighted and live:
                w = read(p.class_weight + i64(i32(j + i32(k))) * size)
            share = o.share
            if adjusted:
                there = get_z(words, at, k) != minus_inf
                if soft:
                    share = share if there else zero
                else:
                    w = w if there else zero
            if soft:
                q = convert(get(targets, begin, k)) if live else zero
                w = w * cuda.fma(q, o.keep, share)
            masses[k] = w

    return weigh


@lru_cache(maxsize=256)
def make_add_vector(kind, y_kind, vector, flags, kept, infinite, exact):
    """``add_vector(p, o, words, at, targets, begin, j, off, live, base, sums)``: add a vector to `sums`.

    Its words begin at `at`, those of its soft targets at `begin`.  With `infinite`, +inf - +inf is 0, for results that
    an infinite maximum does not make NaN.  `exact` is for those of half types that are stored in a wider one.
    """
    computed = COMPUTED[kind]
    exp, term = EXPONENTIALS[computed, ITEMSIZE[kind] == 2 and not exact], LAWS[computed]["term"]
    read = make_read(kind, flags)
    put, dtype = make_put(computed), real(computed)
    weigh, zero = make_weigh(y_kind, computed, vector, flags), constant(computed, 0.0)
    weighing, spread, below = flags.smooth or flags.soft, flags.entropy, flags.rest

    @device
    def add_vector(p, o, words, at, targets, begin, j, off, live, base, sums):
        masses = cuda.local.array(vector, dtype)
        if weighing:
            weigh(p, o, words, at, targets, begin, j, live, masses)
        others, dot, mass = zero, zero, zero
        for k in range(vector):
            there = live and off != i32(k)
            z = read(o, words, at, k, there)
            d = z - base
            if infinite:
                d = zero if z == base else d
            e = exp(d)
            others = others + e
            if kept:
                put(words, at, k, e)
            if weighing:
                w = masses[k] if there else zero
                dot, mass = dot + ((e if d < zero else zero) if below else term(w, d)), mass + w
            elif below:
                mass = mass + (e if d < zero else zero)
            if spread:
                dot = dot + term(e, d)
        return Sums(sums.others + others, sums.dot + dot, sums.mass + mass)

    return add_vector


@lru_cache(maxsize=64)
def make_times_slope(kind, vector):
    """``times_slope(o, x, values)``: multiply values but 0 by the softcap's slope at the logits of address `x`.

    Those of classes that are left out, and of ignored rows, are not looked at.
    """
    computed, load, get, count = COMPUTED[kind], make_load(kind, vector), make_get(kind), words_of(kind, vector)
    slope, one, zero = LAWS[computed]["cap_slope"], constant(computed, 1.0), constant(computed, 0.0)

    @device
    def times_slope(o, x, values):
        raw = cuda.local.array(count, types.uint32)
        load(raw, 0, x)
        for k in range(vector):
            g = values[k]
            values[k] = g if g == zero else g * slope(get(raw, 0, k), one / o.cap)

    return times_slope


@lru_cache(maxsize=256)
def make_emit_vector(kind, y_kind, vector, flags, kept):
    """``emit_vector(p, o, words, at, targets, begin, x, out, j, off, score)``: write the gradient of a vector.

    That is ``A p_j - B w_j``, of statistics ``A p_j - B p_j d_j``, times the slope of a softcap, which for adjusted
    logits takes those at the address `x`; 0 for classes that are left out.
    """
    computed, adjusted = COMPUTED[kind], flags.adjusted
    held = computed if adjusted else kind
    exp, read, get = EXPONENTIALS[computed, ITEMSIZE[kind] == 2], make_read(held, flags), make_get(held)
    times_slope, recap, impossible = make_times_slope(kind, vector), flags.cap and adjusted, adjusted and flags.soft
    zero, minus_inf = constant(computed, 0.0), constant(computed, float("-inf"))
    slope, one = LAWS[computed]["cap_slope"], constant(computed, 1.0)
    dtype, count, store = real(computed), words_of(kind, vector), make_store(kind, vector)
    weigh, weighing = make_weigh(y_kind, computed, vector, flags), flags.smooth or flags.soft
    cap, spread, term = flags.cap and not adjusted, flags.upstream and flags.entropy, LAWS[computed]["term"]
    hard = flags.hard

    @device
    def emit_vector(p, o, words, at, targets, begin, x, out, j, off, score):
        values, masses = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
        scratch = cuda.local.array(count, types.uint32)
        if weighing:
            weigh(p, o, words, at, targets, begin, j, True, masses)
        for k in range(vector):
            d = score.base if kept else read(o, words, at, k, True) - score.base
            e = get(words, at, k) if kept else exp(d)
            g = e * score.a
            if spread:
                g = g - term(e, d) * score.b
            if weighing:
                w = masses[k]
                if impossible:
                    w = w if d != minus_inf else zero
                g = g - w * score.b
            if cap:
                g = g * slope(get(words, at, k), one / o.cap)
            values[k] = g
        if hard and u32(off) < u32(vector):
            for k in range(vector):
                values[k] = score.at_target if off == i32(k) else values[k]
        if recap:
            times_slope(o, x, values)
        store(out, values, scratch)

    return emit_vector


@lru_cache(maxsize=64)
def make_emit_log_vector(kind, held, vector):
    """``emit_log_vector(words, at, out, base, log_s)``: write a vector of ``(x - base) - log_s``, of words `held`."""
    computed, get = COMPUTED[kind], make_get(held)
    dtype, count, store = real(computed), words_of(kind, vector), make_store(kind, vector)

    @device
    def emit_log_vector(words, at, out, base, log_s):
        values, scratch = cuda.local.array(vector, dtype), cuda.local.array(count, types.uint32)
        for k in range(vector):
            values[k] = (get(words, at, k) - base) - log_s
        store(out, values, scratch)

    return emit_log_vector

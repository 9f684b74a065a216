"""The work on a row for the gradient of a loss and the diagonal of its Hessian: the losses' sums, and two results.

Both are found by the number of a class, as each may lie otherwise than the logits, and have another dtype.
"""

from collections import namedtuple
from functools import lru_cache, partial

from ...core.dtypes import COMPUTED, FLOAT32, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .held import make_clear, make_emit, make_fill, make_fill_spare, make_fill_targets
from .laws import EXPONENTIALS, LAWS
from .memory import constant, real
from .parts import make_advance, make_locate, make_owner_of, make_part_of, row_address
from .score import Target, make_factor_at, make_target_of
from .streamed import make_staging
from .streamed_rows import make_join, make_sweep
from .vectors import make_read, make_weigh
from .words import make_store, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64
#: Where both results of a row begin, and the numbers that they are made of, every factor included: the shift of
#: exponentials; A, B and the target's gradient; 1 / s; the factor of the Hessian and its bound; 1 - p of the maximum;
#: the focal loss's bend and 1 / (s u); and the target's Hessian.
_NUMBERS = "base", "a", "b", "at_target", "inverse", "k", "least", "top", "bend", "others", "hessian"
Scores = namedtuple("Scores", ("to", "second", *_NUMBERS))  # type: ignore[misc]


@device
def _raised(h, least):
    return least if h < least else h


@lru_cache(maxsize=64)
def _make_scores(kind, flags):
    """``scores(p, o, row, out, target, z, m, sums)``: the Scores of a row whose target's transformed logit is `z`.

    Its gradient begins at the address `out`.
    """
    law, one, zero, nan = LAWS[kind], constant(kind, 1.0), constant(kind, 0.0), constant(kind, float("nan"))
    shift, rest, exp, soft_score, index_score, curvature_score = (
        law[name] for name in ("shift", "rest", "exp", "soft_score", "index_score", "curvature_score")
    )
    smooth, soft, weighted, factors, residual = flags.smooth, flags.soft, flags.weighted, flags.factors, flags.residual
    factor_at = make_factor_at(kind)

    @device
    def scores(p, o, row, out, target, z, m, sums):
        mass, below = sums.mass, sums.dot if smooth or soft else sums.mass
        up = o.inverse_temperature * factor_at(factors, p.grad_factor, row)
        k, d, weight = o.curvature * o.inverse_temperature, zero, one
        if soft:
            others = rest(sums.others, below)
            _, s, a = soft_score(flags, o, one, m, others + one, zero, mass)
            b, at_target = one, zero
        else:
            d, weight = z - shift(m), factor_at(weighted and target.t >= i32(0), p.class_weight, i64(target.t))
            e = exp(d)
            others = rest(sums.others + e, below + (e if d < zero else zero))
            if smooth:
                mass = mass + weight
            _, s, a, b, at_target = index_score(flags, o, weight, m, sums.others, zero, mass, d)
        top, product, bend, inverse = curvature_score(flags, o, weight, m, others, d)
        up = zero if target.skipped else (nan if target.bad else up)
        a, b, at_target, bend = a * up, b * up, at_target * up, bend * up * o.inverse_temperature
        if target.skipped:
            a, b, at_target, bend = zero, zero, zero, zero
        own = abs(at_target) * k if residual else a * product * k + bend
        own = zero if target.skipped else own
        second = row_address(p.hessian, p.hessian_outer, p.hessian_inner, row, p.inner)
        numbers = a, b, at_target, one / s, k, o.least, top, bend, inverse, _raised(own, o.least)
        return Scores(out, second, shift(m), *numbers)

    return scores


@lru_cache(maxsize=64)
def _make_both_vector(kind, y_kind, vector, flags, kept, *, single):
    """``both_vector(p, o, words, at, targets, begin, x, out, j, off, s)``: write both results of a vector.

    They are stored as logits are, or in `single` precision whatever those are.
    """
    computed, stored = COMPUTED[kind], FLOAT32 if single else kind
    exp, read = EXPONENTIALS[computed, ITEMSIZE[stored] == 2], make_read(kind, flags)
    dtype, count, store = real(computed), words_of(stored, vector), make_store(stored, vector)
    weigh, weighing = make_weigh(y_kind, computed, vector, flags), flags.smooth or flags.soft
    hard, residual, focal, complement = flags.hard, flags.residual, flags.focal, LAWS[computed]["complement"]

    @device
    def both_vector(p, o, words, at, targets, begin, x, out, j, off, s):
        grads, hessians = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
        masses, scratch = cuda.local.array(vector, dtype), cuda.local.array(count, types.uint32)
        if weighing:
            weigh(p, o, words, at, targets, begin, j, True, masses)
        for k in range(vector):
            e = exp(read(o, words, at, k, True) - s.base)
            q = e * s.inverse
            g = q * s.a
            h = g * s.k * complement(q, s.top)
            if weighing:
                g = g - masses[k] * s.b
            if focal:
                share = e * s.others
                h = share * share * s.bend + h
            if residual:
                h = abs(g) * s.k
            own = hard and off == i32(k)
            grads[k] = s.at_target if own else g
            hessians[k] = s.hessian if own else _raised(h, s.least)
        store(s.to + i64(j) * p.out_step, grads, scratch)
        store(s.second + i64(j) * p.hessian_step, hessians, scratch)

    return both_vector


_MAKE = {single: partial(_make_both_vector, single=single) for single in (False, True)}


def make_hessian(shape, flags, label, group, blocks, *, single, held, staged):
    """The gradient of a row's loss and the diagonal of its Hessian; labels have `label` bytes."""
    kind, hard = COMPUTED[shape.kind], flags.hard
    locate, part_of, advance = make_locate(shape), make_part_of(shape), make_advance(shape)
    sweep, join = make_sweep(shape, flags, group, staged, exact=single), make_join(shape, flags, group, blocks)
    fill = make_fill_spare(shape, flags) if staged else make_fill(shape, flags)
    keeping = shape, group, shape.words, fill, staged
    recall, clear, fill_targets = make_staging(*keeping)[1], make_clear(shape.held), make_fill_targets(shape, flags)
    emit, scores = make_emit(shape, flags, make=_MAKE[single]), _make_scores(kind, flags)
    target_of, owner_of = make_target_of(label), make_owner_of(shape)
    count, targets_count, zero = shape.held, shape.targets(flags), constant(kind, 0.0)

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(targets_count, types.uint32)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        place = locate(p, row, live)
        part, more = part_of(p, place, g), True
        state = sweep(p, o, part, place.count, words, targets, target)
        z, m, sums = join(state, owner_of(place, target.t), rank)
        gradient = scores(p, o, row, place.out, target, z, m, sums)
        while more:
            if not held:
                recall(p, o, part, place.count, words)
                fill_targets(part, words, targets)
                if hard:
                    clear(words, target.skipped)
            emit(p, o, part, words, targets, target.t, gradient)
            part = advance(part)
            more = part.left > i32(0) and not held
        return zero

    return work

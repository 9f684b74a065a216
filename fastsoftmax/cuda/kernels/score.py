"""A row of a loss as a whole, apart from its classes: its label, its weights, its score; and the sum of losses."""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .laws import LAWS
from .memory import constant, load_float64, load_int32, load_int64, number_access, raise_to, real, store_float64
from .reductions import FULL, WARP, lane
from .vectors import Score

i32, u32, i64 = types.int32, types.uint32, types.int64

#: A row's target: its class (-1: none), whether the row is ignored, and whether its label is out of range (bad).
Target = namedtuple("Target", ("t", "skipped", "bad"))


@lru_cache(maxsize=2)
def make_target_of(size):
    """``target_of(p, row, live)``: the target of a row by its label of `size` bytes.

    Labels are compared as int64 before anything is done with them.
    """
    read = load_int64 if size == 8 else load_int32

    @device
    def target_of(p, row, live):
        label = i64(read(p.target + row * size))
        skipped = label == p.ignore_index or not live
        inside = i64(0) <= label < p.classes
        return Target(i32(label) if inside and not skipped else i32(-1), skipped, not inside and not skipped)

    return target_of


@device
def report(p, row, bad):
    """Write the number of a row whose label is out of range, of several the last, where somebody wants to know."""
    if bad and p.bad != 0:
        raise_to(p.bad, row + 1)


@lru_cache(maxsize=64)
def make_grad_factor_of(kind, flags):
    """``grad_factor_of(p, o, row)``: the factor of a row's gradient."""
    read, convert, size = number_access(kind)[0], real(kind), ITEMSIZE[kind]
    factors, nan, zero = flags.factors, constant(kind, float("nan")), constant(kind, 0.0)

    @device
    def grad_factor_of(p, o, row):
        value = o.scale * o.inverse_temperature
        if factors and p.grad_factor != 0:
            value = value * read(p.grad_factor + row * size)
        if p.denominator != 0:
            divisor = convert(load_float64(p.denominator))
            value = value / (nan if divisor == zero else divisor)
        return value

    return grad_factor_of


@lru_cache(maxsize=4)
def make_factor_at(kind):
    """``factor_at(there, address, i)``: number `i` of an array of the computing dtype if it is there, else 1."""
    read, size, one = number_access(kind)[0], ITEMSIZE[kind], constant(kind, 1.0)

    @device
    def factor_at(there, address, i):
        return read(address + i * size) if there else one

    return factor_at


@lru_cache(maxsize=64)
def make_score(kind, flags):
    """``score(p, o, row, target, x, z, m, sums)``: (loss, Score) of a row of the logit `x`, transformed `z`."""
    law, one, zero, nan = LAWS[kind], constant(kind, 1.0), constant(kind, 0.0), constant(kind, float("nan"))
    index_score, soft_score, term, shift = law["index_score"], law["soft_score"], law["term"], law["shift"]
    cap_slope, factor_at, grad_factor_of = law["cap_slope"], make_factor_at(kind), make_grad_factor_of(kind, flags)
    smooth, soft, weighted, factors, adjusted = flags.smooth, flags.soft, flags.weighted, flags.factors, flags.adjusted
    cap, minus_inf = flags.cap and not adjusted, constant(kind, float("-inf"))

    @device
    def score(p, o, row, target, x, z, m, sums):
        base, dot, mass = shift(m), sums.dot, sums.mass
        up = grad_factor_of(p, o, row)
        if soft:
            loss, s, a = soft_score(flags, o, one, m, sums.others, dot, mass)
            loss = loss * factor_at(factors and p.loss_factor != 0, p.loss_factor, row)
            return loss, Score(base, a / s * up, up, zero)
        d, weight = z - base, factor_at(weighted and target.t >= i32(0), p.class_weight, i64(target.t))
        if smooth:
            own = weight
            if adjusted:
                own = zero if d == minus_inf else weight
            dot, mass = dot + term(own, d), mass + own
        loss, s, a, b, at_target = index_score(flags, o, weight, m, sums.others, dot, mass, d)
        if adjusted:  # a class that is left out; NaN stays, of a row without classes
            at_target = at_target * zero if d == minus_inf else at_target
        if cap:
            at_target = at_target * cap_slope(x, one / o.cap)
        up = zero if target.skipped else (nan if target.bad else up)
        a, b, at_target = a / s * up, b * up, at_target * up
        if target.skipped:
            a, b, at_target = zero, zero, zero
        loss = zero if target.skipped else loss * factor_at(factors and p.loss_factor != 0, p.loss_factor, row)
        return nan if target.bad else loss, Score(base, a, b, at_target)

    return score


#: A compensated sum of numbers of the computing dtype: the sum, and the part that roundings lost.
Exact = namedtuple("Exact", ("sum", "lost"))


@device
def add_exact(a, b):
    """The sum of two compensated sums."""
    total = a.sum + b.sum
    part = total - a.sum
    lost = (a.sum - (total - part)) + (b.sum - part)
    return Exact(total, lost + (a.lost + b.lost))


@lru_cache(maxsize=64)
def make_deliver(kind, threads, group):
    """``deliver(p, total)``: write the sum of the `total` of a block's threads as its partial sum of losses."""
    dtype, warps, alone = real(kind), threads // WARP, group == threads
    zero = constant(kind, 0.0)

    @device
    def gathered(total):
        sums, rests = cuda.shared.array(WARP, dtype), cuda.shared.array(WARP, dtype)
        for step in (16, 8, 4, 2, 1):
            other = Exact(cuda.shfl_xor_sync(FULL, total.sum, step), cuda.shfl_xor_sync(FULL, total.lost, step))
            total = add_exact(total, other)
        warp = u32(u32(cuda.threadIdx.x) >> u32(5))
        if lane() == u32(0):
            sums[warp], rests[warp] = total.sum, total.lost
        cuda.syncthreads()
        total = Exact(zero, zero)
        for k in range(warps):
            total = add_exact(total, Exact(sums[k], rests[k]))
        return total

    @device
    def deliver(p, total):
        if p.partial != 0:
            if not alone:
                total = gathered(total)
            if u32(cuda.threadIdx.x) == u32(0):
                # Once a block: the only arithmetic of float32 kernels in float64.
                lost = total.lost if total.lost == total.lost else zero  # of an infinite sum nothing is
                value = types.float64(total.sum) + types.float64(lost)
                store_float64(p.partial + i64(u32(cuda.blockIdx.x)) * 8, value)

    return deliver

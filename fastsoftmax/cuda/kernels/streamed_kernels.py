"""What becomes of a row that threads do not hold in registers: two sweeps over it, one of them for what is written.

The functions are those of `held_kernels`; `staged` says that the row is kept in shared memory between the sweeps.
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from ...core.options import Flags
from ..toolkit.compiler import cuda, device, types
from .held import clearing, differing, emitting, finding, reading_targets, summing, taking, targets_held, words_held
from .laws import LAWS
from .memory import constant
from .parts import advancer, finder, locator, parter
from .reductions import scope
from .score import Target, report, scorer, targeter
from .streamed import rescaler, staging
from .vectors import Score, Sums

i32, u32 = types.int32, types.uint32
INF = float("inf")
#: What a sweep found: the target's logit transformed and as it is, the maximum, and the sums.
State = namedtuple("State", ("z", "x", "m", "sums"))


@lru_cache(maxsize=64)
def _sweeper(shape, flags, group, staged, *, level):
    """``sweep(p, o, part, count, words, targets, target)``: the State of a part of a row of `count` vectors."""
    kind = COMPUTED[shape.kind]
    keep, top, add = staging(shape, group, staged).keep, finding(shape, flags), summing(shape, flags, level=level)
    fill, clear, take = staging(shape, group, False).recall, clearing(words_held(shape)), taking(shape, flags)
    advance, rescaled, shift = advancer(shape), rescaler(kind, flags, level=level), LAWS[kind]["shift"]
    zero, nothing, hard = constant(kind, 0.0), constant(kind, -INF), flags.hard
    fill_targets = reading_targets(shape, flags)

    @device
    def sweep(p, o, part, count, words, targets, target):
        z, x, m, sums, more = nothing, nothing, nothing, Sums(zero, zero, zero), True
        while more:
            fill(part, count, words)
            fill_targets(part, words, targets)
            if hard:
                clear(words, target.skipped)
            keep(part, count, words)
            if hard:
                z, x = take(o, part, words, target.t, z, x)
            higher = top(o, part, words, target.t, max(m, z))
            sums = add(p, o, part, words, targets, target.t, shift(higher), rescaled(sums, m, higher))
            m, part = higher, advance(part)
            more = part.left > i32(0)
        return State(z, x, m, sums)

    return sweep


@lru_cache(maxsize=64)
def _joiner(shape, flags, group, blocks, *, level):
    """``join(state, owner, rank)``: (the target's logit, the maximum, the sums) of the whole row."""
    kind = COMPUTED[shape.kind]
    rescaled = rescaler(kind, flags, level=level)
    share, total, _ = scope(kind, group, blocks, flags.smooth or flags.soft)

    @device
    def join(state, owner, rank):
        z, m = share(state.z, state.m, owner, rank)
        sums = rescaled(state.sums, state.m, m)
        others, dot, mass = total(sums.others, sums.dot, sums.mass)
        return z, m, Sums(others, dot, mass)

    return join


def loss(shape, flags, group, blocks, staged, label):
    """The loss of a row, and the gradient if ``flags.grad``; labels have `label` bytes."""
    kind = COMPUTED[shape.kind]
    locate, part_of, owner_of, count = locator(shape), parter(shape), finder(shape), words_held(shape)
    sweep = _sweeper(shape, flags, group, staged, level=False)
    join = _joiner(shape, flags, group, blocks, level=False)
    clear, recall, advance = clearing(count), staging(shape, group, staged).recall, advancer(shape)
    emit, score, target_of = emitting(shape, flags), scorer(kind, flags), targeter(label)
    fill_targets, targets_count = reading_targets(shape, flags), targets_held(shape, flags)
    hard, grad = flags.hard, flags.grad

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(targets_count, types.uint32)
        place = locate(p, row, live)
        part = part_of(p, place, g)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        state = sweep(p, o, part, place.count, words, targets, target)
        z, m, sums = join(state, owner_of(place, target.t), rank)
        value, result = score(p, o, row, target, state.x, z, m, sums)
        report(p, row, target.bad)
        more = grad
        while more:
            recall(part, place.count, words)
            fill_targets(part, words, targets)
            if hard:
                clear(words, target.skipped)
            emit(p, o, part, words, targets, target.t, result)
            part = advance(part)
            more = part.left > i32(0)
        return value

    return work


def softmax(shape, variant, group, blocks, staged):
    """softmax, log_softmax or logsumexp of a row."""
    kind, flags, level = COMPUTED[shape.kind], Flags(), variant == LOGSUMEXP
    locate, part_of, count = locator(shape), parter(shape), words_held(shape)
    sweep = _sweeper(shape, flags, group, staged, level=level)
    join = _joiner(shape, flags, group, blocks, level=level)
    recall, advance, emit, differ = (
        staging(shape, group, staged).recall,
        advancer(shape),
        emitting(shape, flags),
        differing(shape),
    )
    law, zero, one = LAWS[kind], constant(kind, 0.0), constant(kind, 1.0)
    shift, normaliser, log, log_sum_exp = law["shift"], law["normaliser"], law["log"], law["log_sum_exp"]

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        place, nobody = locate(p, row, live), Target(i32(-1), False, False)
        part = part_of(p, place, g)
        _, m, sums = join(sweep(p, o, part, place.count, words, targets, nobody), i32(0), rank)
        s = normaliser(m, sums.others)
        log_s, more = log(s), variant != LOGSUMEXP
        while more:
            recall(part, place.count, words)
            if variant == SOFTMAX:
                emit(p, o, part, words, targets, i32(-1), Score(shift(m), one / s, zero, zero))
            elif variant == LOG_SOFTMAX:
                differ(part, words, shift(m), log_s)
            part = advance(part)
            more = part.left > i32(0)
        return log_sum_exp(m, sums.others) if variant == LOGSUMEXP else s

    return work

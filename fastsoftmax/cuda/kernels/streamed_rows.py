"""The work on a row that threads do not hold in registers: a sweep over it for its state, and one that writes.

The factories are those of `held_rows`; `staged` says that the row is kept in shared memory between the sweeps.
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from ..toolkit.compiler import cuda, device, types
from .held import (
    make_add,
    make_clear,
    make_emit,
    make_emit_log,
    make_fill,
    make_fill_spare,
    make_fill_targets,
    make_take,
    make_top,
)
from .laws import LAWS
from .memory import constant
from .parts import make_advance, make_locate, make_owner_of, make_part_of
from .reductions import make_scope
from .score import Target, make_score, make_target_of, report
from .streamed import make_rescale, make_staging
from .vectors import Score, Sums, needed_sums

i32, u32 = types.int32, types.uint32
#: A part of a row: the target's logit transformed and as it is, the maximum, and the sums.
State = namedtuple("State", ("z", "x", "m", "sums"))


def _make_staging(shape, flags, group, staged):
    """(keep, recall) of the logits; their spare elements are always read again."""
    fill = make_fill_spare(shape, flags) if staged else make_fill(shape, flags)
    return make_staging(shape, group, shape.words, fill, staged)


@lru_cache(maxsize=64)
def make_sweep(shape, flags, group, staged, *, infinite=False, exact=False):
    """``sweep(p, o, part, count, words, targets, target)``: the State of a part of a row of `count` vectors."""
    kind, hard = COMPUTED[shape.kind], flags.hard
    fill, fill_targets, clear = make_fill(shape, flags), make_fill_targets(shape, flags), make_clear(shape.held)
    keep, take, top = _make_staging(shape, flags, group, staged)[0], make_take(shape, flags), make_top(shape, flags)
    add, rescale = make_add(shape, flags, infinite=infinite, exact=exact), make_rescale(kind, flags, infinite)
    advance, shift = make_advance(shape), LAWS[kind]["shift"]
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def sweep(p, o, part, count, words, targets, target):
        z, x, m, sums, more = minus_inf, minus_inf, minus_inf, Sums(zero, zero, zero), True
        while more:
            fill(p, o, part, words)
            fill_targets(part, words, targets)
            if hard:
                clear(words, target.skipped)
            keep(part, count, words)
            if hard:
                z, x = take(o, part, words, target.t, z, x)
            higher = top(o, part, words, target.t, max(m, z))
            sums = add(p, o, part, words, targets, target.t, shift(higher), rescale(sums, m, higher))
            m, part = higher, advance(part)
            more = part.left > i32(0)
        return State(z, x, m, sums)

    return sweep


@lru_cache(maxsize=64)
def make_join(shape, flags, group, blocks, *, infinite=False):
    """``join(state, owner, rank)``: (the target's logit, the maximum, the sums) of the whole row."""
    kind = COMPUTED[shape.kind]
    rescale = make_rescale(kind, flags, infinite)
    share, total, _ = make_scope(kind, group, blocks, needed_sums(flags))

    @device
    def join(state, owner, rank):
        z, m = share(state.z, state.m, owner, rank)
        sums = rescale(state.sums, state.m, m)
        others, dot, mass = total(sums.others, sums.dot, sums.mass)
        return z, m, Sums(others, dot, mass)

    return join


def make_loss(shape, flags, label, group, blocks, staged):
    """The loss of a row, and the gradient if ``flags.grad``; labels have `label` bytes."""
    kind, hard, grad = COMPUTED[shape.kind], flags.hard, flags.grad
    locate, part_of, owner_of = make_locate(shape), make_part_of(shape), make_owner_of(shape)
    sweep, join = make_sweep(shape, flags, group, staged), make_join(shape, flags, group, blocks)
    recall, fill_targets = _make_staging(shape, flags, group, staged)[1], make_fill_targets(shape, flags)
    clear, emit, advance = make_clear(shape.held), make_emit(shape, flags), make_advance(shape)
    target_of, score = make_target_of(label), make_score(kind, flags)
    count, targets_count = shape.held, shape.targets(flags)

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(targets_count, types.uint32)
        place = locate(p, row, live)
        part = part_of(p, place, g)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        state = sweep(p, o, part, place.count, words, targets, target)
        z, m, sums = join(state, owner_of(place, target.t), rank)
        loss, gradient = score(p, o, row, target, state.x, z, m, sums)
        report(p, row, target.bad)
        more = grad
        while more:
            recall(p, o, part, place.count, words)
            fill_targets(part, words, targets)
            if hard:
                clear(words, target.skipped)
            emit(p, o, part, words, targets, target.t, gradient)
            part = advance(part)
            more = part.left > i32(0)
        return loss

    return work


def make_softmax(shape, variant, flags, group, blocks, staged):
    """softmax, log_softmax or logsumexp of a row."""
    kind, flags, infinite = COMPUTED[shape.kind], flags._replace(rest=variant == LOG_SOFTMAX), variant == LOGSUMEXP
    locate, part_of, count = make_locate(shape), make_part_of(shape), shape.held
    sweep = make_sweep(shape, flags, group, staged, infinite=infinite)
    join = make_join(shape, flags, group, blocks, infinite=infinite)
    recall, advance = _make_staging(shape, flags, group, staged)[1], make_advance(shape)
    emit, emit_log = make_emit(shape, flags), make_emit_log(shape)
    law, zero, one = LAWS[kind], constant(kind, 0.0), constant(kind, 1.0)
    shift, normaliser, log_sum_exp = law["shift"], law["normaliser"], law["log_sum_exp"]
    log1p, rest = law["log1p"], law["rest"]

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        place, no_target = locate(p, row, live), Target(i32(-1), False, False)
        part = part_of(p, place, g)
        _, m, sums = join(sweep(p, o, part, place.count, words, targets, no_target), i32(0), rank)
        s = normaliser(m, sums.others)
        log_s, more = log1p(rest(s, sums.mass)), variant != LOGSUMEXP
        while more:
            recall(p, o, part, place.count, words)
            if variant == SOFTMAX:
                emit(p, o, part, words, targets, i32(-1), Score(shift(m), one / s, zero, zero))
            elif variant == LOG_SOFTMAX:
                emit_log(part, words, shift(m), log_s)
            part = advance(part)
            more = part.left > i32(0)
        return log_sum_exp(m, sums.others) if variant == LOGSUMEXP else s

    return work

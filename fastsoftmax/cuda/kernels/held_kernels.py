"""What becomes of a row that its threads hold: it is read once and written once.

Each function gives the work on a row, closed over compile-time constants: ``work(p, o, row, live, g, rank)`` is
called by all threads of the row, of which the calling one has the number `g`, in block `rank` of its cluster; its
result is the row's number, if it has one.
"""

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from ...core.options import Flags
from ..toolkit.compiler import cuda, device, types
from .held import (
    clearing,
    differing,
    emitting,
    finding,
    reading,
    reading_targets,
    summing,
    taking,
    targets_held,
    words_held,
)
from .laws import LAWS
from .memory import constant
from .parts import finder, locator, parter
from .reductions import scope
from .score import Target, report, scorer, targeter
from .vectors import Score, Sums

i32 = types.int32
INF = float("inf")


def loss(shape, flags, group, blocks, label):
    """The loss of a row, and the gradient if ``flags.grad``; labels have `label` bytes."""
    kind, grad = COMPUTED[shape.kind], flags.grad
    locate, part_of, owner_of, count = locator(shape), parter(shape), finder(shape), words_held(shape)
    fill, clear, take, top = reading(shape), clearing(count), taking(shape, flags), finding(shape, flags)
    add, emit, score = summing(shape, flags, kept=grad), emitting(shape, flags, kept=grad), scorer(kind, flags)
    share, total, _ = scope(kind, group, blocks, flags.smooth or flags.soft)
    zero, nothing, shift = constant(kind, 0.0), constant(kind, -INF), LAWS[kind]["shift"]
    hard, target_of = flags.hard, targeter(label)
    fill_targets, targets_count = reading_targets(shape, flags), targets_held(shape, flags)

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(targets_count, types.uint32)
        place = locate(p, row, live)
        part = part_of(p, place, g)
        fill(part, words)
        fill_targets(part, words, targets)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        z, x = nothing, nothing
        if hard:
            clear(words, target.skipped)
            z, x = take(o, part, words, target.t, z, x)
        m = top(o, part, words, target.t, z)
        z, m = share(z, m, owner_of(place, target.t), rank)
        sums = add(p, o, part, words, targets, target.t, shift(m), Sums(zero, zero, zero))
        others, dot, mass = total(sums.others, sums.dot, sums.mass)
        value, result = score(p, o, row, target, x, z, m, Sums(others, dot, mass))
        report(p, row, target.bad)
        if grad:
            emit(p, o, part, words, targets, target.t, result)
        return value

    return work


def softmax(shape, variant, group, blocks):
    """softmax, log_softmax or logsumexp of a row."""
    kind, flags, kept = COMPUTED[shape.kind], Flags(), variant == SOFTMAX
    locate, part_of, count = locator(shape), parter(shape), words_held(shape)
    fill, top, differ, law = reading(shape), finding(shape, flags), differing(shape), LAWS[kind]
    add, emit = summing(shape, flags, kept=kept, level=variant == LOGSUMEXP), emitting(shape, flags, kept=kept)
    share, total, _ = scope(kind, group, blocks, False)
    zero, one, nothing = constant(kind, 0.0), constant(kind, 1.0), constant(kind, -INF)
    shift, normaliser, log, log_sum_exp = law["shift"], law["normaliser"], law["log"], law["log_sum_exp"]

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        part = part_of(p, locate(p, row, live), g)
        fill(part, words)
        m = share(zero, top(o, part, words, i32(-1), nothing), i32(0), rank)[1]
        sums = add(p, o, part, words, targets, i32(-1), shift(m), Sums(zero, zero, zero))
        s = total(sums.others, zero, zero)[0]
        if variant == SOFTMAX:
            emit(p, o, part, words, targets, i32(-1), Score(shift(m), one / normaliser(m, s), zero, zero))
        elif variant == LOG_SOFTMAX:
            differ(part, words, shift(m), log(normaliser(m, s)))
        return log_sum_exp(m, s) if variant == LOGSUMEXP else s

    return work

"""The work on a row that its threads hold in registers: it is read once and written once.

Each factory gives a function of compile-time constants: all threads of a row call ``work(p, o, row, live, g, rank)``,
of which the calling one has the number `g`, in block `rank` of its cluster; it returns the row's number, if it has one.
"""

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from ..toolkit.compiler import cuda, device, types
from .held import make_add, make_clear, make_emit, make_emit_log, make_fill, make_fill_targets, make_take, make_top
from .laws import LAWS
from .memory import constant
from .parts import make_locate, make_owner_of, make_part_of
from .reductions import make_scope
from .score import Target, make_score, make_target_of, report
from .vectors import Score, Sums, needed_sums

i32 = types.int32


def make_loss(shape, flags, label, group, blocks):
    """The loss of a row, and the gradient if ``flags.grad``; labels have `label` bytes."""
    kind, hard, grad = COMPUTED[shape.kind], flags.hard, flags.grad
    locate, part_of, owner_of = make_locate(shape), make_part_of(shape), make_owner_of(shape)
    fill, fill_targets, clear = make_fill(shape, flags), make_fill_targets(shape, flags), make_clear(shape.held)
    take, top = make_take(shape, flags), make_top(shape, flags)
    add, emit = make_add(shape, flags, kept=grad), make_emit(shape, flags, kept=grad)
    target_of, score, shift = make_target_of(label), make_score(kind, flags), LAWS[kind]["shift"]
    share, total, _ = make_scope(kind, group, blocks, needed_sums(flags))
    count, targets_count = shape.held, shape.targets(flags)
    zero, minus_inf = constant(kind, 0.0), constant(kind, float("-inf"))

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(targets_count, types.uint32)
        place = locate(p, row, live)
        part = part_of(p, place, g)
        fill(p, o, part, words)
        fill_targets(part, words, targets)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        z, x = minus_inf, minus_inf
        if hard:
            clear(words, target.skipped)
            z, x = take(o, part, words, target.t, z, x)
        m = top(o, part, words, target.t, z)
        z, m = share(z, m, owner_of(place, target.t), rank)
        sums = add(p, o, part, words, targets, target.t, shift(m), Sums(zero, zero, zero))
        others, dot, mass = total(sums.others, sums.dot, sums.mass)
        loss, gradient = score(p, o, row, target, x, z, m, Sums(others, dot, mass))
        report(p, row, target.bad)
        if grad:
            emit(p, o, part, words, targets, target.t, gradient)
        return loss

    return work


def make_softmax(shape, variant, flags, group, blocks):
    """softmax, log_softmax or logsumexp of a row."""
    kind, flags, kept = COMPUTED[shape.kind], flags._replace(rest=variant == LOG_SOFTMAX), variant == SOFTMAX
    locate, part_of, count = make_locate(shape), make_part_of(shape), shape.held
    fill, top = make_fill(shape, flags), make_top(shape, flags)
    add, emit = make_add(shape, flags, kept=kept, infinite=variant == LOGSUMEXP), make_emit(shape, flags, kept=kept)
    emit_log, law = make_emit_log(shape), LAWS[kind]
    share, total, _ = make_scope(kind, group, blocks, needed_sums(flags))
    zero, one, minus_inf = constant(kind, 0.0), constant(kind, 1.0), constant(kind, float("-inf"))
    shift, normaliser, log_sum_exp = law["shift"], law["normaliser"], law["log_sum_exp"]
    log1p, rest = law["log1p"], law["rest"]

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        part = part_of(p, locate(p, row, live), g)
        fill(p, o, part, words)
        m = share(zero, top(o, part, words, i32(-1), minus_inf), i32(0), rank)[1]
        sums = add(p, o, part, words, targets, i32(-1), shift(m), Sums(zero, zero, zero))
        s, _, below = total(sums.others, zero, sums.mass)
        if variant == SOFTMAX:
            emit(p, o, part, words, targets, i32(-1), Score(shift(m), one / normaliser(m, s), zero, zero))
        elif variant == LOG_SOFTMAX:
            emit_log(part, words, shift(m), log1p(rest(normaliser(m, s), below)))
        return log_sum_exp(m, s) if variant == LOGSUMEXP else s

    return work

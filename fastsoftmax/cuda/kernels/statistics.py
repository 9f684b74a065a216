"""The work on a row for its statistics: it is read once, wherever it lies, and nothing is written but them.

Unlike those of losses, sums go over all classes, the target's too.  Ignored rows are not read.
"""

from ...core.dtypes import COMPUTED
from ..toolkit.compiler import cuda, device, types
from .largest import make_put, make_select
from .laws import LAWS
from .memory import constant
from .parts import make_locate
from .score import Target, make_target_of
from .states import make_state_of
from .vectors import make_transform

i32, i64 = types.int32, types.int64


def _is_summed(columns):
    """Whether exponentials are added up for the statistics that have `columns`."""
    return max(columns.log_prob, columns.entropy, columns.log_sum_exp, columns.max_prob, columns.top_k) >= 0


def _in_order(columns):
    """Whether a row's largest logit is looked up, its target's rank, and the largest but the target."""
    return max(columns.argmax, columns.correct) >= 0, columns.rank >= 0, columns.margin >= 0


def _make_finish(kind, columns, flags):
    """``finish(p, o, row, target, m, sums, order)``: write the statistics of a row."""
    law, transform, (put, put_place, put_truth) = LAWS[kind], make_transform(kind, flags), make_put(kind)
    shift, normaliser, log1p, rest, entropy = (
        law[name] for name in ("shift", "normaliser", "log1p", "rest", "entropy")
    )
    one, minus_inf = constant(kind, 1.0), constant(kind, float("-inf"))
    log_prob, spread, log_sum_exp, argmax, max_prob, correct, rank, margin, _ = (c >= 0 for c in columns)

    @device
    def finish(p, o, row, target, m, sums, order):
        z, others = transform(o, order.own), rest(normaliser(m, sums.others), sums.mass)
        s, log_s = one + others, log1p(others)  # an only maximum's 1 is added to the sum of all others at once
        if log_prob:
            put(p.log_prob, row, target, (z - shift(m)) - log_s)
        if spread:
            put(p.entropy, row, target, entropy(log_s, sums.dot, s))
        if log_sum_exp:
            put(p.log_sum_exp, row, target, m + log1p(rest(sums.others, sums.mass)))
        if max_prob:
            put(p.max_prob, row, target, one / s)
        if argmax:
            put_place(p.argmax, row, target, order.at)
        if correct:
            put_truth(p.correct, row, target, order.at == target.t)
        if rank:
            put_place(p.rank, row, target, order.larger)
        if margin:
            other = minus_inf if p.classes == i64(1) else transform(o, order.other)
            put(p.margin, row, target, z - other)

    return finish


def make_statistics(shape, columns, flags, label, group, blocks, *, held):
    """The statistics of a row that have `columns`; labels have `label` bytes."""
    kind, hard, locate, target_of = COMPUTED[shape.kind], flags.hard, make_locate(shape), make_target_of(label)
    flags = flags._replace(entropy=columns.entropy >= 0, rest=_is_summed(columns))
    infinite = columns.log_sum_exp >= 0
    state_of = make_state_of(shape, flags, group, blocks, _in_order(columns), infinite, held, False)
    finish, count, zero = _make_finish(kind, columns, flags), shape.held, constant(kind, 0.0)
    select, top_k = make_select(shape, flags, group, blocks, held), columns.top_k >= 0

    @device
    def work(p, o, row, live, g, rank):
        words = cuda.local.array(count, types.uint32)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        place = locate(p, row, not target.skipped)
        m, sums, order = state_of(p, o, place, target, words, g, rank)
        if live and g == i32(0):
            finish(p, o, row, target, m, sums, order)
        if top_k:
            select(p, o, row, live, place, target, m, sums, words, g, rank)
        return zero

    return work

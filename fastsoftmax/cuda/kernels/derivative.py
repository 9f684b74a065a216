"""The work on a row for the gradient of statistics, which are functions of the state of the row."""

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .held import make_clear, make_emit, make_fill, make_fill_spare
from .laws import LAWS
from .memory import constant, number_access
from .parts import make_advance, make_locate, make_part_of
from .score import Target, make_target_of
from .states import make_state_of
from .streamed import make_staging
from .vectors import Score, make_transform

i32, i64 = types.int32, types.int64


def _make_upstream(kind):
    """``upstream(address, row, number)``: the upstream gradient of a row at an address, or else a number for all."""
    read, size = number_access(kind)[0], ITEMSIZE[kind]

    @device
    def upstream(address, row, number):
        return read(address + row * size) if address != 0 else number

    return upstream


def _make_score(kind, flags):
    """``score(p, o, row, target, x, m, sums)``: the Score of a row whose target's logit is `x`."""
    law, upstream, transform = LAWS[kind], _make_upstream(kind), make_transform(kind, flags)
    shift, rest, upstream_score, cap_slope = (law[name] for name in ("shift", "rest", "upstream_score", "cap_slope"))
    zero, one, nan = (constant(kind, value) for value in (0.0, 1.0, float("nan")))
    cap, adjusted, minus_inf = flags.cap and not flags.adjusted, flags.adjusted, constant(kind, float("-inf"))

    @device
    def score(p, o, row, target, x, m, sums):
        a, b = upstream(p.log_prob, row, o.log_prob), upstream(p.entropy, row, o.entropy)
        c, d = upstream(p.log_sum_exp, row, o.log_sum_exp), transform(o, x) - shift(m)
        s, a, b, at_target = upstream_score(m, rest(sums.others, sums.mass), sums.dot, d, a, b, c)
        up = zero if target.skipped else (nan if target.bad else o.inverse_temperature)
        if adjusted:  # a class that is left out; NaN stays
            at_target = at_target * zero if d == minus_inf else at_target
        if cap:
            at_target = at_target * cap_slope(x, one / o.cap)
        a, b, at_target = a / s * up, b / s * up, at_target * up
        if target.skipped:
            a, b, at_target = zero, zero, zero
        return Score(shift(m), a, b, at_target)

    return score


def make_derivative(shape, flags, label, group, blocks, *, held, staged):
    """The gradient of a row's statistics; labels have `label` bytes."""
    kind, hard = COMPUTED[shape.kind], flags.hard
    locate, part_of, advance = make_locate(shape), make_part_of(shape), make_advance(shape)
    state_of = make_state_of(shape, flags, group, blocks, (False, False, False), False, held, staged)
    fill = make_fill_spare(shape, flags) if staged else make_fill(shape, flags)
    keeping = shape, group, shape.words, fill, staged
    recall, clear, emit = make_staging(*keeping)[1], make_clear(shape.held), make_emit(shape, flags)
    score, target_of = _make_score(kind, flags), make_target_of(label)
    count, zero = shape.held, constant(kind, 0.0)

    @device
    def work(p, o, row, live, g, rank):
        words, targets = cuda.local.array(count, types.uint32), cuda.local.array(1, types.uint32)
        target = target_of(p, row, live) if hard else Target(i32(-1), not live, False)
        place = locate(p, row, live)
        m, sums, order = state_of(p, o, place, target, words, g, rank)
        gradient = score(p, o, row, target, order.own, m, sums)
        part, more = part_of(p, place, g), True
        while more:
            if not held:
                recall(p, o, part, place.count, words)
                if hard:
                    clear(words, target.skipped)
            emit(p, o, part, words, targets, target.t, gradient)
            part = advance(part)
            more = part.left > i32(0) and not held
        return zero

    return work

"""The kernels that work through chunks of rows with their classes in SIMD lanes (the passes are in `rows`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its classes are contiguous.
"""

from ...core.dtypes import COMPUTED, FLOAT64, LOG_SOFTMAX, MASK_OF, SOFTMAX
from .. import jit
from .. import parameters as P
from ..simd.elementary import exp_constants
from ..simd.lanes import extract
from ..simd.laws import scalar, vector
from ..simd.memory import address, get, put, ref, ref_like
from ..simd.vectors import select, splat
from ..simd.words import fence, integer_at, put_float
from .adjusted import adjusters, logit_of
from .common import bounds, class_of, read_options, read_ref, row_ref, scratch_of
from .constants import BLOCK
from .rows import INF, Row, emit_difference, emit_row, fill, infinite, reduce_row

_index_score, _soft_score = vector["index_score"], vector["soft_score"]
_log_sum_exp, _log_of_sum, _upstream_score = (vector[x] for x in ("log_sum_exp", "log_of_sum", "upstream_score"))
_cap_slope = vector["cap_slope"]
_normaliser, _shift = scalar["normaliser"], scalar["shift"]


@jit.inline
def scratch(params, slot):
    """(address of the blocks' maxima, address of the exponentials) of a thread; the latter begins a cache line."""
    blocks = (integer_at(params, P.CLASSES) + BLOCK - 1) // BLOCK
    base = scratch_of(params, slot)
    return base, base + (blocks * 8 + 63) // 64 * 64


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each row of a chunk; the chunk's losses are summed in row order."""
    kind, direct, gathered = COMPUTED[x_kind], way.direct, way.gathered
    mask_kind, mask_near = MASK_OF[kind] if flags.mask else None, way.mask
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = scratch(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, kind, True)
        stride, exp, total = integer_at(params, P.X_STRIDES + 1), exp_constants(result), 0.0
        for i in range(first, last):
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
            e = out if direct else ref(kept, 0, kind, True)
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            y = row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous)
            read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
            w, blocks = ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True), ref(bases, 0, FLOAT64, True)
            offset, mask = adjusters(params, i, e, mask_kind, mask_near)
            t = class_of(params, i) if flags.hard else -1
            row = Row(x, read, y, w, e, blocks, out, k, t, stride, exp, offset, mask)
            loss = 0.0
            if flags.hard and row.t < 0:
                if flags.grad:
                    fill(row.out, row.k, 0.0)
            else:
                loss = _counted(flags, way, o, params, row, i)
            total += loss
            if integer_at(params, P.RESULT) != 0:
                put(result, i, loss)
        put_float(integer_at(params, P.PARTIAL), chunk, total)
        if way.streamed:
            fence()

    return jit.kernel(kernel)


@jit.inline
def _counted(flags, way, o, params, row, i):
    """The loss of row `i`, which is not ignored; its gradient is emitted."""
    first = ref_like(row.w, integer_at(params, P.LOSS_FACTOR))
    second = ref_like(row.w, integer_at(params, P.GRAD_FACTOR))
    if flags.upstream:
        third = ref_like(row.w, integer_at(params, P.THIRD))
        _row_upstream(flags, way, o, row, float(get(first, i)), float(get(second, i)), float(get(third, i)))
        return 0.0
    up = o.scale * float(get(second, i)) if flags.factors and flags.grad else o.scale
    loss = _row_loss(flags, way, o, row, up)
    return loss * float(get(first, i)) if flags.factors else loss


@jit.inline
def _row_loss(flags, way, o, row, up):
    """Reduce, score and emit one row; `up` multiplies its gradient.

    The score is computed in float64 vectors all of whose lanes are the same: three calls of the C library's scalar
    functions take longer than that.
    """
    state = reduce_row(flags, way, o, row)
    one = splat(row.bases, 1.0)
    m, others, dot, mass = one * state.m, one * state.others, one * state.dot, one * state.mass
    if flags.soft:
        loss, s, a = _soft_score(flags, o, one, m, others, dot, mass)
        b, at_target = one, one
    else:
        d = one * (logit_of(flags, o, row, row.t) - _shift(state.m))
        weight = one * float(get(row.w, row.t)) if flags.weighted else one
        loss, s, a, share, at_target = _index_score(flags, o, weight, m, others, dot, mass, d)
        b = one * share
        at_target = _target_slope(flags, o, row, d, at_target)
    if flags.grad:
        up = up * o.inverse_temperature
        a, b, at_target = a / s * up, b * up, at_target * up
        emit_row(flags, way, o, row, state.m, extract(a, 0), extract(b, 0), extract(at_target, 0))
    return extract(loss, 0)


@jit.inline
def _target_slope(flags, o, row, d, g):
    """The gradient `g` of the target's logit, times the softcap's slope; 0 where the target is left out."""
    if flags.adjusted:
        g = select(d == -INF, g * 0.0, g)  # NaN stays, of a row without classes
    if flags.cap:
        raw = get(row.source, max(row.t, 0))
        capped = g * float(extract(_cap_slope(splat(row.x, raw), 1.0 / o.cap), 0))
        g = select(g == 0.0, g, capped) if flags.adjusted else capped
    return g


@jit.inline
def _row_upstream(flags, way, o, row, a, b, c):
    """Reduce a row, and emit the gradient of its statistics by their upstream gradients."""
    state = reduce_row(flags, way, o, row)
    one, d = splat(row.bases, 1.0), 0.0
    if flags.hard:
        d = logit_of(flags, o, row, row.t) - _shift(state.m)
    m, others, dot = one * state.m, one * state.others, one * state.dot
    s, a, b, at_target = _upstream_score(m, others, dot, one * d, one * a, one * b, one * c)
    at_target = _target_slope(flags, o, row, one * d, at_target)
    up = o.inverse_temperature / s
    at_target = extract(at_target * o.inverse_temperature, 0)
    emit_row(flags, way, o, row, state.m, extract(a * up, 0), extract(b * up, 0), at_target)


def softmax(flags, way, variant, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each row of a chunk."""
    kind, direct, gathered = COMPUTED[x_kind], way.direct, way.gathered
    mask_kind, mask_near = MASK_OF[kind] if flags.mask else None, way.mask
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)
    flags = flags._replace(rest=variant == LOG_SOFTMAX)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = scratch(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        exp = exp_constants(result)
        for i in range(first, last):
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
            e, blocks = out if direct else ref(kept, 0, kind, True), ref(bases, 0, FLOAT64, True)
            read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
            offset, mask = adjusters(params, i, e, mask_kind, mask_near)
            row = Row(x, read, x, x, e, blocks, out, k, -1, integer_at(params, P.X_STRIDES + 1), exp, offset, mask)
            state = reduce_row(flags, way, o, row)
            if variant == SOFTMAX:
                s = _normaliser(state.m, state.others)
                emit_row(flags, way, o, row, state.m, 1.0 / s, 0.0, 0.0)
            elif variant == LOG_SOFTMAX:
                log_s = _log_of_sum(splat(blocks, state.m), splat(blocks, state.others))
                emit_difference(flags, row, _shift(state.m), extract(log_s, 0))
            else:
                put(result, i, _finished(flags, row, state))
        if way.streamed:
            fence()

    return jit.kernel(kernel)


@jit.inline
def _finished(flags, row, state):
    """logsumexp of a reduced row."""
    if state.m == INF:
        return infinite(row.x, row.k) if flags.adjusted else infinite(row.source, row.k)
    return extract(_log_sum_exp(splat(row.bases, state.m), splat(row.bases, state.others)), 0)

"""The kernels that work through chunks of rows with their classes in SIMD lanes (the passes are in `rows`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its classes are contiguous.
"""

from ...core.dtypes import COMPUTED, FLOAT64, LOG_SOFTMAX, LOGSUMEXP, MASK_OF, SOFTMAX
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
from .row_results import emit_difference, emit_row, fill, infinite
from .rows import INF, Row, reduce_row

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


def kinds_of(flags, way, x_kind, x_contiguous):
    """Constants that a Row is made with.

    The kinds of what is computed, of exponentials that are kept (None: the output has them), of a mask (None: there is
    none), and of what is read, and whether that is contiguous.
    """
    kind = COMPUTED[x_kind]
    kept_kind, mask_kind = None if way.direct else kind, MASK_OF[kind] if flags.mask else None
    read_kind, read_contiguous = (kind, True) if way.gathered else (x_kind, x_contiguous)
    return kind, kept_kind, mask_kind, read_kind, read_contiguous


@jit.inline
def row_at(
    params, i, slot, exp, t, kind, kept_kind, read_kind, read_contiguous, gathered,
    mask_kind, mask_near, x_kind, x_contiguous, y_kind, y_contiguous, out_contiguous,
):  # fmt: skip
    """The Row number `i` with the target `t` and a slot of scratch; exponentials are kept there, or (None) in `out`."""
    bases, kept = scratch(params, slot)
    x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
    y = row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous)
    out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
    e = out
    if kept_kind is not None:
        e = ref(kept, 0, kept_kind, True)
    read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
    w, blocks = ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True), ref(bases, 0, FLOAT64, True)
    offset, mask = adjusters(params, i, e, mask_kind, mask_near)
    k, stride = integer_at(params, P.CLASSES), integer_at(params, P.X_STRIDES + 1)
    return Row(x, read, y, w, e, blocks, out, k, t, stride, exp, offset, mask)


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each row of a chunk; the chunk's losses are summed in row order."""
    kind, kept_kind, mask_kind, read_kind, read_contiguous = kinds_of(flags, way, x_kind, x_contiguous)
    gathered, mask_near = way.gathered, way.mask

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, result = read_options(params), ref(integer_at(params, P.RESULT), 0, kind, True)
        exp, total = exp_constants(result), 0.0
        for i in range(first, last):
            t = class_of(params, i) if flags.hard else -1
            row = row_at(
                params, i, slot, exp, t, kind, kept_kind, read_kind, read_contiguous, gathered,
                mask_kind, mask_near, x_kind, x_contiguous, y_kind, y_contiguous, out_contiguous,
            )  # fmt: skip
            loss = 0.0
            if flags.hard and row.t < 0:
                if flags.grad:
                    fill(row.out, 0, row.k, 0.0)
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
    if flags.upstream:
        _row_upstream(flags, way, o, params, row, i)
        return 0.0
    state = reduce_row(flags, way, o, row)
    loss, a, b, at_target = scored(flags, o, params, row, i, state)
    if flags.grad:
        emit_row(flags, way, o, row, 0, row.k, state.m, a, b, at_target)
    return loss


@jit.inline
def scored(flags, o, params, row, i, state):
    """(loss, and what the gradient is made of) of row `i`, which is reduced.

    The score is computed in float64 vectors all of whose lanes are the same: three calls of the C library's scalar
    functions take longer than that.
    """
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
    first, up = extract(loss, 0), o.scale
    if flags.factors:
        first = first * float(get(ref_like(row.w, integer_at(params, P.LOSS_FACTOR)), i))
        if flags.grad:
            up = up * float(get(ref_like(row.w, integer_at(params, P.GRAD_FACTOR)), i))
    up = up * o.inverse_temperature
    return first, extract(a / s * up, 0), extract(b * up, 0), extract(at_target * up, 0)


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
def _row_upstream(flags, way, o, params, row, i):
    """Reduce row `i`, and emit the gradient of its statistics by their upstream gradients."""
    a = float(get(ref_like(row.w, integer_at(params, P.LOSS_FACTOR)), i))
    b = float(get(ref_like(row.w, integer_at(params, P.GRAD_FACTOR)), i))
    c = float(get(ref_like(row.w, integer_at(params, P.THIRD)), i))
    state = reduce_row(flags, way, o, row)
    one, d = splat(row.bases, 1.0), 0.0
    if flags.hard:
        d = logit_of(flags, o, row, row.t) - _shift(state.m)
    m, others, dot = one * state.m, one * state.others, one * state.dot
    s, a, b, at_target = _upstream_score(m, others, dot, one * d, one * a, one * b, one * c)
    at_target = _target_slope(flags, o, row, one * d, at_target)
    up = o.inverse_temperature / s
    at_target = extract(at_target * o.inverse_temperature, 0)
    emit_row(flags, way, o, row, 0, row.k, state.m, extract(a * up, 0), extract(b * up, 0), at_target)


def softmax(flags, way, variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each row of a chunk."""
    kind, kept_kind, mask_kind, read_kind, read_contiguous = kinds_of(flags, way, x_kind, x_contiguous)
    gathered, mask_near = way.gathered, way.mask
    flags = flags._replace(rest=variant == LOG_SOFTMAX)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, result = read_options(params), ref(integer_at(params, P.RESULT), 0, x_kind, True)
        exp = exp_constants(result)
        for i in range(first, last):
            row = row_at(
                params, i, slot, exp, -1, kind, kept_kind, read_kind, read_contiguous, gathered,
                mask_kind, mask_near, x_kind, x_contiguous, y_kind, y_contiguous, out_contiguous,
            )  # fmt: skip
            state = reduce_row(flags, way, o, row)
            number = finished(flags, variant, row, state)
            if variant == LOGSUMEXP:
                put(result, i, number)
            else:
                emit_map(flags, way, o, variant, row, 0, row.k, state.m, number)
        if way.streamed:
            fence()

    return jit.kernel(kernel)


@jit.inline
def finished(flags, variant, row, state):
    """The number that the result of a reduced row is made of: 1 / s, log s, or logsumexp itself."""
    if variant == SOFTMAX:
        return 1.0 / _normaliser(state.m, state.others)
    if variant == LOG_SOFTMAX:
        return extract(_log_of_sum(splat(row.bases, state.m), splat(row.bases, state.others)), 0)
    if state.m == INF:
        return float(infinite(row.x, row.k) if flags.adjusted else infinite(row.source, row.k))
    return extract(_log_sum_exp(splat(row.bases, state.m), splat(row.bases, state.others)), 0)


@jit.inline
def emit_map(flags, way, o, variant, row, begin, end, m, number):
    """Write softmax or log_softmax of the classes from `begin` to `end`."""
    if variant == SOFTMAX:
        emit_row(flags, way, o, row, begin, end, m, number, 0.0, 0.0)
    else:
        emit_difference(flags, row, begin, end, _shift(m), number)

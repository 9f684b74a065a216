"""The kernels that work through chunks of batches of rows (the passes are in `batches`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its classes are contiguous.
"""

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, MASK_OF, SOFTMAX
from .. import jit
from .. import parameters as P
from ..simd.elementary import exp_constants
from ..simd.hints import opaque
from ..simd.lanes import hsum
from ..simd.laws import vector
from ..simd.memory import address, get, lanes_of, load, moved, put, ref, store, store_n
from ..simd.squares import line_sums
from ..simd.vectors import select, splat
from ..simd.words import integer_at, put_float
from .adjusted import adjusters, logit_of
from .batches import lines_at, put_maxima, put_shifts, put_sums
from .common import bounds, class_of, read_options, read_ref, row_ref, scratch_of, transform
from .constants import BATCH_HEADER
from .lane_kernels import scored, targets
from .lanes import State
from .row_results import emit_block, emit_difference, fill, infinite
from .rows import INF, Row

_cap_slope = vector["cap_slope"]
_log_of_sum, _log_sum_exp, _normaliser = vector["log_of_sum"], vector["log_sum_exp"], vector["normaliser"]
_rest = vector["rest"]


@jit.inline
def _row(
    hard, gathered, params, i, r, slot, exp, x_kind, y_kind, kind, read_kind,
    x_contiguous, y_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
):  # fmt: skip
    """Row `i` of all, which is number `r` of its batch."""
    i, r = opaque(i), opaque(r)
    out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
    k, first = integer_at(params, P.CLASSES), ref(scratch_of(params, slot) + BATCH_HEADER, 0, kind, True)
    line = (k + lanes_of(first) - 1) // lanes_of(first) * 64
    e, x = moved(first, r * line, 0), row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
    offset, mask = adjusters(params, i, e, mask_kind, mask_near)
    return Row(
        x,
        read_ref(params, i, read_kind, read_contiguous, gathered, address(e)),
        row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous),
        ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True),
        e,
        first,
        out,
        k,
        class_of(params, i) if hard else -1,
        integer_at(params, P.X_STRIDES + 1) * integer_at(params, P.TILE),
        exp,
        offset,
        mask,
    )


@jit.inline
def _put_target(flags, o, row, lines, r):
    """Leave the target's logit of row number `r`, as passes read it, and its class weight; of class 0 without one."""
    t = max(row.t, 0)
    put(lines.logit, r, logit_of(flags, o, row, t) if flags.adjusted else get(row.source, t))
    if flags.adjusted and flags.cap:  # for its slope, where the target's gradient goes then
        put(lines.at_target, r, get(row.source, t))
    if flags.weighted:
        put(lines.weight, r, get(row.w, t))


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each batch of a chunk; the losses are summed in a fixed order."""
    kind, hard, gathered = COMPUTED[x_kind], flags.hard, way.gathered
    mask_kind, mask_near = MASK_OF[kind] if flags.mask else None, way.mask
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, height = read_options(params), integer_at(params, P.TILE)
        lines = lines_at(scratch_of(params, slot), kind)
        exp, total = exp_constants(lines.base), 0.0
        for start in range(first, last, height):
            n = min(height, last - start)
            for r in range(n):
                row = _row(
                    hard, gathered, params, start + r, r, slot, exp, x_kind, y_kind, kind, read_kind,
                    x_contiguous, y_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                )  # fmt: skip
                put_maxima(flags, way, o, row, lines, r)
                if hard:
                    _put_target(flags, o, row, lines, r)
            m = put_shifts(flags, o, lines)
            for r in range(n):
                row = _row(
                    hard, gathered, params, start + r, r, slot, exp, x_kind, y_kind, kind, read_kind,
                    x_contiguous, y_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                )  # fmt: skip
                put_sums(flags, way, o, row, lines, r)
            total += hsum(_scored(flags, o, params, lines, m, start, n))
            if flags.grad:
                for r in range(n):
                    row = _row(
                        hard, gathered, params, start + r, r, slot, exp, x_kind, y_kind, kind,
                        read_kind, x_contiguous, y_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                    )  # fmt: skip
                    if hard and row.t < 0:
                        fill(row.out, 0, row.k, 0.0)
                    else:
                        a, b, at_target = get(lines.a, r), get(lines.b, r), get(lines.at_target, r)
                        emit_block(flags, way, o, row, 0, row.k, get(lines.base, r), a, b, at_target, True)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


@jit.inline
def _scored(flags, o, params, lines, m, index, n):
    """Score the rows of a batch, the first of which has number `index`; leaves what gradients are made of."""
    zero, one = splat(lines.base, 0.0), splat(lines.base, 1.0)
    t = targets(flags, params, lines.base, index, n)
    dot, mass, d, weight = zero, zero, zero, one
    if flags.smooth or flags.soft:
        dot, mass = line_sums(lines.dots, 0), line_sums(lines.masses, 0)
    if flags.hard:
        d = transform(flags, o, load(lines.logit, 0)) - load(lines.base, 0)
        if flags.weighted:
            weight = load(lines.weight, 0)
    state = State(m, line_sums(lines.sums, 0), dot, mass, d, weight)
    loss, (a, b, at_target) = scored(flags, o, params, lines.base, state, t, index, n)
    if flags.grad:
        if flags.cap and flags.hard:
            raw = load(lines.at_target, 0) if flags.adjusted else load(lines.logit, 0)
            capped = at_target * _cap_slope(raw, 1.0 / o.cap)
            at_target = select(at_target == 0.0, at_target, capped) if flags.adjusted else capped
        store(lines.a, 0, a)
        store(lines.b, 0, b)
        store(lines.at_target, 0, at_target)
    return loss


def softmax(flags, way, variant, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each batch of a chunk."""
    kind, gathered, way = COMPUTED[x_kind], way.gathered, way._replace(below=variant == LOG_SOFTMAX)
    adjusted, mask_kind, mask_near = flags.adjusted, MASK_OF[kind] if flags.mask else None, way.mask
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, height = read_options(params), integer_at(params, P.TILE)
        lines = lines_at(scratch_of(params, slot), kind)
        exp = exp_constants(lines.base)
        for start in range(first, last, height):
            n = min(height, last - start)
            for r in range(n):
                row = _row(
                    False, gathered, params, start + r, r, slot, exp, x_kind, x_kind, kind, read_kind,
                    x_contiguous, x_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                )  # fmt: skip
                put_maxima(flags, way, o, row, lines, r)
            m = put_shifts(flags, o, lines)
            for r in range(n):
                row = _row(
                    False, gathered, params, start + r, r, slot, exp, x_kind, x_kind, kind, read_kind,
                    x_contiguous, x_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                )  # fmt: skip
                put_sums(flags, way, o, row, lines, r)
            s = line_sums(lines.sums, 0)
            if variant == LOGSUMEXP:
                store_n(ref(integer_at(params, P.RESULT), 0, x_kind, True), start, n, _log_sum_exp(m, s))
            else:
                rest = _rest(s, line_sums(lines.masses, 0)) if way.below else s
                store(lines.a, 0, _log_of_sum(m, rest) if way.below else 1.0 / _normaliser(m, s))
            for r in range(n):
                row = _row(
                    False, gathered, params, start + r, r, slot, exp, x_kind, x_kind, kind, read_kind,
                    x_contiguous, x_contiguous, out_contiguous, read_contiguous, mask_kind, mask_near,
                )  # fmt: skip
                if variant == SOFTMAX:
                    emit_block(flags, way, o, row, 0, row.k, get(lines.base, r), get(lines.a, r), 0.0, 0.0, True)
                elif variant == LOG_SOFTMAX:
                    emit_difference(flags, row, 0, row.k, get(lines.base, r), get(lines.a, r), True)
                elif get(lines.base, r) == INF:
                    seen = infinite(row.x, row.k) if adjusted else infinite(row.source, row.k)
                    put(ref(integer_at(params, P.RESULT), 0, x_kind, True), start + r, seen)

    return jit.kernel(kernel)

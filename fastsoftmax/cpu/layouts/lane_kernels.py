"""The kernels that work through chunks of tiles with rows in SIMD lanes (the passes are in `lanes`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its rows are contiguous.
"""

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, MASK_OF, SOFTMAX
from .. import jit
from .. import parameters as P
from ..simd.elementary import exp_constants
from ..simd.lanes import first_lanes, hsum
from ..simd.laws import vector
from ..simd.memory import lanes_of, load_n, ref, ref_like, store_n
from ..simd.vectors import select, splat
from ..simd.words import integer_at, labels, put_float
from .adjusted import take
from .common import bounds, read_options, scratch_of, tile_ref
from .lanes import INF, Tile, emit_difference, emit_rows, locate, log_sum_exp, reduce_rows, unpack

_index_score, _soft_score, _normaliser = vector["index_score"], vector["soft_score"], vector["normaliser"]
_log_of_sum, _shift, _upstream_score = vector["log_of_sum"], vector["shift"], vector["upstream_score"]


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each tile of a chunk; the losses are summed in a fixed order."""
    kind, mask_near = COMPUTED[x_kind], way.mask
    mask_kind = MASK_OF[kind]

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o = read_options(params)
        total = 0.0
        exp = exp_constants(ref(0, 0, kind, True))
        for number in range(first, last):
            buffer = ref(scratch_of(params, slot), 0, kind, True)
            outer, start, rows = locate(params, number, lanes_of(buffer))
            tile = Tile(
                tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous),
                tile_ref(params, P.Y, P.Y_STRIDES, outer, start, y_kind, y_contiguous),
                tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous),
                integer_at(params, P.X_STRIDES + 2),
                integer_at(params, P.Y_STRIDES + 2),
                integer_at(params, P.OUT_STRIDES + 2),
                ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True),
                buffer,
                integer_at(params, P.CLASSES),
                rows,
                exp,
            )
            take(flags, o, params, tile, 1, outer, start, kind, mask_kind, mask_near)
            index = outer * integer_at(params, P.INNER) + start
            for v in range((rows + lanes_of(buffer) - 1) // lanes_of(buffer)):
                total += hsum(_vector_loss(flags, way, o, params, tile, v, index + v * lanes_of(buffer)))
            if flags.grad:
                unpack(tile)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


@jit.inline
def targets(flags, params, like, index, n):
    """The labels of `n` rows from number `index` on, in lanes; -1 for ignored ones, and where there are none."""
    return labels(like, integer_at(params, P.TARGET), index, n if flags.hard else 0, integer_at(params, P.IGNORE_INDEX))


@jit.inline
def _upstream(flags, o, params, like, s, index, n):
    """The scores that `derivative` wants for the gradient of statistics, by the upstream gradients of `n` rows."""
    a = load_n(ref_like(like, integer_at(params, P.LOSS_FACTOR)), index, n, 0.0)
    b = load_n(ref_like(like, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
    c = load_n(ref_like(like, integer_at(params, P.THIRD)), index, n, 0.0)
    norm, a, b, at_target = _upstream_score(s.m, s.others, s.dot, s.d, a, b, c)
    up = splat(like, o.inverse_temperature)
    if flags.adjusted:
        at_target = select(s.d == -INF, at_target * 0.0, at_target)
    return a * up / norm, b * up / norm, at_target * up


@jit.inline
def scored(flags, o, params, like, s, t, index, n):
    """(losses, what `derivative` wants) of `n` rows from number `index` on; `like` refers to the computing dtype.

    Losses are written where they are wanted, and are 0 in dead lanes.
    """
    one = splat(like, 1.0)
    if flags.upstream:
        return one, _upstream(flags, o, params, like, s, index, n)
    if flags.soft:
        loss, norm, a = _soft_score(flags, o, one, s.m, s.others, s.dot, s.mass)
        b, at_target = one, one
    else:
        loss, norm, a, share, at_target = _index_score(flags, o, s.weight, s.m, s.others, s.dot, s.mass, s.d)
        b = splat(like, share)
        if flags.adjusted:
            at_target = select(s.d == -INF, at_target * 0.0, at_target)
    up = one * (o.scale * o.inverse_temperature)
    if flags.factors:
        up = up * load_n(ref_like(like, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
        loss = loss * load_n(ref_like(like, integer_at(params, P.LOSS_FACTOR)), index, n, 0.0)
    if flags.hard:
        loss = select(t > -1, loss, 0.0)
    loss = first_lanes(loss, n)
    if integer_at(params, P.RESULT) != 0:
        store_n(ref_like(like, integer_at(params, P.RESULT)), index, n, loss)
    return loss, (a * up / norm, b * up, at_target * up)


@jit.inline
def _vector_loss(flags, way, o, params, tile, v, index):
    """Reduce, score and emit the rows of a vector, the first of which has number `index`; 0 in dead lanes."""
    n = min(tile.rows - v * lanes_of(tile.x), lanes_of(tile.x))
    t = targets(flags, params, tile.buffer, index, n)
    s = reduce_rows(flags, way, o, tile, v, t)
    loss, scores = scored(flags, o, params, tile.buffer, s, t, index, n)
    if flags.grad:
        emit_rows(flags, way, o, tile, v, t, s.m, scores)
    return loss


@jit.inline
def _normalised(flags, way, o, exponential, tile, v):
    """softmax or log_softmax of the rows of vector number `v`."""
    s = reduce_rows(flags, way, o, tile, v, labels(tile.x, 0, 0, 0, 0))
    if exponential:
        norm = _normaliser(s.m, s.others)
        emit_rows(flags, way, o, tile, v, labels(tile.x, 0, 0, 0, 0), s.m, (1.0 / norm, norm, norm))
    else:
        emit_difference(tile, v, _shift(s.m), _log_of_sum(s.m, s.others))


def softmax(flags, way, variant, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each tile of a chunk."""
    kind, mask_near = COMPUTED[x_kind], way.mask
    mask_kind = MASK_OF[kind]
    flags = flags._replace(rest=variant == LOG_SOFTMAX)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o = read_options(params)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        exp = exp_constants(result)
        for number in range(first, last):
            buffer = ref(scratch_of(params, slot), 0, kind, True)
            outer, start, rows = locate(params, number, lanes_of(buffer))
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous)
            steps = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.OUT_STRIDES + 2)
            tile = Tile(x, x, out, steps[0], 0, steps[1], buffer, buffer, integer_at(params, P.CLASSES), rows, exp)
            take(flags, o, params, tile, 1, outer, start, kind, mask_kind, mask_near)
            for v in range((rows + lanes_of(x) - 1) // lanes_of(x)):
                if variant == LOGSUMEXP:
                    index = outer * integer_at(params, P.INNER) + start + v * lanes_of(x)
                    store_n(result, index, min(rows - v * lanes_of(x), lanes_of(x)), log_sum_exp(tile, v))
                else:
                    _normalised(flags, way, o, variant == SOFTMAX, tile, v)
            if variant != LOGSUMEXP:
                unpack(tile)

    return jit.kernel(kernel)

"""The kernels that work through chunks of tiles of rows in SIMD lanes, block of classes by block (passes: `blocks`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its rows are contiguous.
"""

from ...core.dtypes import COMPUTED, LOG_SOFTMAX, LOGSUMEXP, MASK_OF, SOFTMAX
from .. import jit
from .. import parameters as P
from ..simd.elementary import exp_constants
from ..simd.lanes import hsum
from ..simd.laws import vector
from ..simd.memory import lanes_of, moved, ref, ref_like, store_n
from ..simd.words import integer_at, labels, put_float
from .blocks import (
    Tile,
    emit_derivatives,
    emit_differences,
    get_lines,
    keep_scores,
    no_classes,
    put_lines,
    reduce_tile,
    state_of,
    vectors_of,
)
from .common import bounds, read_options, scratch_of, tile_ref
from .constants import LANE_LINES
from .lane_kernels import scored, targets
from .lanes import locate

_normaliser, _log_of_sum, _log_sum_exp = vector["normaliser"], vector["log_of_sum"], vector["log_sum_exp"]


@jit.inline
def _adjusters(params, outer, start, like, mask_kind, mask_near):
    """References to what the logits of a tile may be adjusted by, and the mask's step from class to class."""
    mask, step = like, 0
    if mask_kind is not None:
        mask = tile_ref(params, P.MASK, P.MASK_STRIDES, outer, start, mask_kind, mask_near)
        step = integer_at(params, P.MASK_STRIDES + 2)
    return ref_like(like, integer_at(params, P.OFFSET)), mask, step


@jit.inline
def _begin(flags, params, tile, index):
    """Leave the lines of a tile of which nothing has been read, the first of whose rows has number `index`."""
    width = lanes_of(tile.lines)
    for v in range(vectors_of(tile)):
        n = min(tile.rows - v * width, width)
        put_lines(tile, v, no_classes(tile, targets(flags, params, tile.lines, index + v * width, n)))


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each tile of a chunk; the losses are summed in a fixed order."""
    kind, mask_near = COMPUTED[x_kind], way.mask
    mask_kind = MASK_OF[kind] if flags.mask else None

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, like = read_options(params), ref(0, 0, kind, True)
        exp, total, width = exp_constants(like), 0.0, lanes_of(like)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            lines = ref(scratch_of(params, slot), 0, kind, True)
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            offset, mask, mask_class = _adjusters(params, outer, start, lines, mask_kind, mask_near)
            tile = Tile(
                x,
                tile_ref(params, P.Y, P.Y_STRIDES, outer, start, y_kind, y_contiguous),
                tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous),
                integer_at(params, P.X_STRIDES + 2),
                integer_at(params, P.Y_STRIDES + 2),
                integer_at(params, P.OUT_STRIDES + 2),
                ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True),
                lines,
                moved(lines, LANE_LINES * integer_at(params, P.TILE), 0),
                integer_at(params, P.CLASSES),
                rows,
                exp,
                offset,
                mask,
                mask_class,
            )
            index = outer * integer_at(params, P.INNER) + start
            _begin(flags, params, tile, index)
            reduce_tile(flags, way, o, tile)
            for v in range(vectors_of(tile)):
                reduced, n = get_lines(tile, v), min(rows - v * width, width)
                s = state_of(flags, o, reduced)
                loss, scores = scored(flags, o, params, like, s, reduced.t, index + v * width, n)
                total += hsum(loss)
                keep_scores(tile, v, reduced.t, s.m, scores)
            if flags.grad:
                emit_derivatives(flags, o, tile)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


def softmax(flags, way, variant, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each tile of a chunk."""
    kind, mask_near = COMPUTED[x_kind], way.mask
    mask_kind = MASK_OF[kind] if flags.mask else None
    way, flags = way._replace(infinite=variant == LOGSUMEXP), flags._replace(rest=variant == LOG_SOFTMAX)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, like = read_options(params), ref(0, 0, kind, True)
        exp, width = exp_constants(like), lanes_of(like)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous)
            steps = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.OUT_STRIDES + 2)
            lines = ref(scratch_of(params, slot), 0, kind, True)
            block = moved(lines, LANE_LINES * integer_at(params, P.TILE), 0)
            classes = integer_at(params, P.CLASSES)
            offset, mask, mask_class = _adjusters(params, outer, start, lines, mask_kind, mask_near)
            tile = Tile(
                x, x, out, steps[0], 0, steps[1], lines, lines, block, classes, rows, exp, offset, mask, mask_class
            )
            for v in range(vectors_of(tile)):
                put_lines(tile, v, no_classes(tile, labels(like, 0, 0, 0, 0)))
            reduce_tile(flags, way, o, tile)
            for v in range(vectors_of(tile)):
                s = state_of(flags, o, get_lines(tile, v))
                if variant == LOGSUMEXP:
                    index = outer * integer_at(params, P.INNER) + start + v * width
                    store_n(result, index, min(rows - v * width, width), _log_sum_exp(s.m, s.others))
                else:
                    score = _log_of_sum(s.m, s.others) if flags.rest else 1.0 / _normaliser(s.m, s.others)
                    keep_scores(tile, v, labels(like, 0, 0, 0, 0), s.m, (score, score, score))
            if variant == SOFTMAX:
                emit_derivatives(flags, o, tile)
            elif variant != LOGSUMEXP:
                emit_differences(flags, o, tile)

    return jit.kernel(kernel)

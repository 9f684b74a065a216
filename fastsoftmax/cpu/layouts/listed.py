"""The kernels of divergences from a teacher that lists k classes of each row, for rows and for lanes.

Each row is copied to scratch, and the listed logits are taken out: what is left is reduced to one number, its
logsumexp, as that of one more class.  The passes over a student and a dense teacher take these k + 1 classes.  The last
gradient is the other classes' together, which they share by their exponentials.

Indices are read from an array that only this call knows; they were compared with the number of classes there.
"""

from ...core.dtypes import COMPUTED, FLOAT64, LOG_PROB
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp_constants
from ..simd.lanes import extract, hsum
from ..simd.laws import scalar, vector
from ..simd.memory import get, itemsize_of, lanes_of, load, load_n, moved, put, ref, ref_like, store
from ..simd.vectors import select, splat
from ..simd.words import float_at, integer_at, label_at, labels, put_float
from .common import bounds, copy, read_options, row_ref, scratch_of, tile_ref, transform
from .divergence import finished_lanes, finished_row, of_lanes, of_row
from .lanes import Tile, emit_rows, larger, locate, logits, pack, reduce_rows, slot, unpack
from .order import block_max
from .row_kernels import scratch
from .row_results import emit_row
from .rows import INF, Row, reduce_row, transformed

_log, _shift, _scalar_shift = vector["log"], vector["shift"], scalar["shift"]


@inline
def _distances(flags, o, few, count, rest):
    """Make of listed logits, and of the `rest` of the row, their distances from about the largest."""
    top = float(transformed(flags, o, few, block_max(few, 0, count)))
    base = _scalar_shift(max(top, rest.m))
    for j in range(0, count, lanes_of(few)):  # scratch has room for whole vectors
        store(few, j, transform(flags, o, load(few, j)) - base)
    put(few, count, (rest.m - base) + extract(_log(splat(ref(0, 0, FLOAT64, True), rest.others)), 0))


@inline
def _row(flags, way, o, constants, beta, params, row, few, up, i):
    """The divergence of row `i`, a copy whose listed logits go to `few`; writes its gradient, times `up`."""
    plain, apart, direction = constants
    count = integer_at(params, P.LISTED)
    places = integer_at(params, P.PLACES) + i * count * 8
    for j in range(count):
        at = label_at(places, j)
        put(few, j, get(row.x, at))
        put(row.x, at, -INF)
    rest = reduce_row(flags, way, o, row)
    _distances(flags, o, few, count, rest)
    y = ref_like(few, integer_at(params, P.COLUMNS) + i * (count + 1) * itemsize_of(few))
    small = Row(few, few, y, few, few, row.bases, few, count + 1, -1, 0, row.exp, few, few)
    value = of_row(plain, apart, apart, o, LOG_PROB, direction, beta, small, small, up)
    value += float(get(ref_like(few, integer_at(params, P.THIRD)), i))
    if flags.grad:
        shared, s = float(get(few, count)), rest.others
        emit_row(flags, way, o, row, 0, row.k, rest.m, shared if s == 0.0 else shared / s, 0.0, 0.0)
        for j in range(count):
            put(row.out, label_at(places, j), get(few, j))
    return value


def rows(flags, way, direction, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """The divergence, and the gradient if ``flags.grad``, of each row of a chunk, classes in lanes."""
    kind, flags = COMPUTED[x_kind], flags._replace(soft=False)
    constants = flags._replace(temper=False), way._replace(kept=False), direction

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k, beta = read_options(params), integer_at(params, P.CLASSES), float_at(params, P.BETA)
        bases, kept = scratch(params, slot)
        result, line, total = ref(integer_at(params, P.RESULT), 0, kind, True), ref(kept, 0, kind, True), 0.0
        few = moved(line, 0, (k + lanes_of(line) - 1) // lanes_of(line) * lanes_of(line))
        exp, blocks = exp_constants(result), ref(bases, 0, FLOAT64, True)
        for i in range(first, last):
            copy(row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous), line, k)
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
            row = Row(line, line, line, line, line, blocks, out, k, -1, 0, exp, line, line)
            up = o.scale
            if flags.factors and flags.grad:
                up = up * float(get(ref_like(result, integer_at(params, P.GRAD_FACTOR)), i))
            value = _row(flags, way, o, constants, splat(result, beta), params, row, few, up, i)
            total += finished_row(flags, params, result, i, value)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


@inline
def _moved(params, tile, few, index, back):
    """Move the listed logits of the tile's rows, the first of which has number `index`, to `few`, or gradients back."""
    count, width = integer_at(params, P.LISTED), lanes_of(tile.x)
    places = integer_at(params, P.PLACES) + index * count * 8
    for i in range(tile.rows):
        v = i // width
        lane = i - v * width
        for j in range(count):
            here, there = slot(tile, label_at(places, i * count + j), v) + lane, slot(few, j, v) + lane
            if back:
                put(tile.buffer, here, get(few.buffer, there))
            else:
                put(few.buffer, there, get(tile.buffer, here))
                put(tile.buffer, here, -INF)


@inline
def _vector_of_rows(flags, way, o, constants, beta, params, tile, few, other, v, index):
    """The divergences of a vector of rows, the first of which has number `index`; leaves gradients in both tiles."""
    plain, apart, direction = constants
    count, none = few.k - 1, labels(tile.buffer, 0, 0, 0, 0)
    rest = reduce_rows(flags, way, o, tile, v, none)
    m = rest.m
    for j in range(count):
        m = larger(transform(flags, o, logits(few, j, v)), m)
    base = _shift(m)
    for j in range(count):
        store(few.buffer, slot(few, j, v), transform(flags, o, logits(few, j, v)) - base)
    store(few.buffer, slot(few, count, v), (rest.m - base) + _log(rest.others))
    value = of_lanes(plain, apart, o, params, LOG_PROB, direction, beta, few, other, v, index)
    n = min(tile.rows - v * lanes_of(value), lanes_of(value))
    value = value + load_n(ref_like(tile.buffer, integer_at(params, P.THIRD)), index, n, 0.0)
    if flags.grad:
        shared = logits(few, count, v) / select(rest.others == 0.0, 1.0, rest.others)
        emit_rows(flags, way, o, tile, v, none, rest.m, (shared, shared, shared))
    return value


def lanes(flags, way, direction, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """The divergence, and the gradient if ``flags.grad``, of each tile of a chunk, rows in lanes."""
    kind, flags = COMPUTED[x_kind], flags._replace(soft=False)
    constants = flags._replace(temper=False), way._replace(kept=False), direction

    def kernel(params, chunk, slot_number):
        first, last = bounds(params, chunk)
        o, k, listed = read_options(params), integer_at(params, P.CLASSES), integer_at(params, P.LISTED) + 1
        buffer, total = ref(scratch_of(params, slot_number), 0, kind, True), 0.0
        exp, beta = exp_constants(buffer), splat(buffer, float_at(params, P.BETA))
        width, size = lanes_of(buffer), itemsize_of(buffer)
        for number in range(first, last):
            outer, start, height = locate(params, number, width)
            index = outer * integer_at(params, P.INNER) + start
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous)
            steps = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.OUT_STRIDES + 2)
            tile = Tile(x, x, out, steps[0], 0, steps[1], buffer, buffer, k, height, exp)
            y = ref(integer_at(params, P.COLUMNS) + index * listed * size, listed * size, kind, False)
            room = moved(buffer, 0, slot(tile, 0, integer_at(params, P.TILE)))
            few = Tile(y, y, y, size, 0, 0, buffer, room, listed, height, exp)
            room = moved(room, 0, slot(few, 0, integer_at(params, P.TILE)))
            other = Tile(y, y, y, size, 0, 0, buffer, room, listed, height, exp)
            pack(tile)
            pack(other)
            _moved(params, tile, few, index, False)
            for v in range((height + width - 1) // width):
                at = index + v * width
                value = _vector_of_rows(flags, way, o, constants, beta, params, tile, few, other, v, at)
                total += hsum(finished_lanes(flags, params, tile, v, at, value))
            if flags.grad:
                _moved(params, tile, few, index, True)
                unpack(tile)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)

"""The kernels of divergences between a student and a teacher, for rows and for lanes: three passes over two rows.

The first reduces both rows, the second adds up terms that are not negative one by one, and the third writes the
gradient by the student's logits; with logits of a teacher and the forward direction the second does that too.  Both
rows come from memory once while they fit a second-level cache.
"""

from ...core.dtypes import COMPUTED, FLOAT64, FORWARD, LOG_PROB, LOGITS
from ...core.law_of_divergence import Norms
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp, exp_by, exp_constants
from ..simd.lanes import extract, first_lanes, hsum
from ..simd.laws import scalar, vector
from ..simd.memory import address, get, lanes_of, load, load_n, moved, put, ref, ref_like, store, store_n
from ..simd.vectors import select, splat
from ..simd.words import float_at, integer_at, labels, put_float
from .common import bounds, read_options, read_ref, row_ref, scratch_of, tile_ref, transform
from .constants import BLOCK
from .lanes import RUN as CLASSES
from .lanes import Tile, locate, logits, pack, reduce_rows, slot, two_sum, unpack
from .row_kernels import scratch
from .rows import RUN, Row, reduce_row

_log, _shift, _normaliser = vector["log"], vector["shift"], vector["normaliser"]
_pair, _terms, _slope = vector["pair"], vector["divergence_terms"], vector["divergence_slope"]
_scalar_exp = scalar["exp"]


# Rows: classes in lanes -------------------------------------------------------------------------------------------


@inline
def _loaded(flags, way, o, teacher, row, other, norms, j, n, whole):
    """(p, q, log(p/q)) from class `j` on; kept exponentials are relative to their blocks' maxima, as `norms` are."""
    x = load(row.source, j) if whole else load_n(row.source, j, n, 0.0)
    y = load(row.y, j) if whole else load_n(row.y, j, n, 0.0)
    d = transform(flags, o, x) - norms.shift
    e = load(row.e, j) if way.kept else exp_by(row.exp, d)
    if teacher != LOGITS:
        return _pair(teacher, e, d, exp(y) if teacher == LOG_PROB else e, y, norms)
    y = transform(flags, o, y) - norms.teacher_shift
    return _pair(teacher, e, d, load(other.e, j) if way.kept else exp_by(row.exp, y), y, norms)


@inline
def _vector(flags, way, o, constants, row, other, norms, j, n, second, factor, whole):
    """The terms of the `n` classes from `j` on; writes their gradient, if that is wanted now, times `factor`."""
    teacher, direction, beta, write = constants
    p, q, t = _loaded(flags, way, o, teacher, row, other, norms, j, n, whole)
    if write:
        g = _slope(teacher, direction, beta, p, q, t, second) * factor
        if whole:
            store(row.out, j, g)
        else:
            store_n(row.out, j, n, g)
    value, more = _terms(direction, beta, p, q, t)
    if whole:
        return value, more
    return first_lanes(value, n), first_lanes(more, n)


@inline
def _of_block(way, row, other, norms, begin):
    """The Norms of a block whose exponentials were kept."""
    if not way.kept:
        return norms
    inverse = norms.inverse * _scalar_exp(get(row.bases, begin // BLOCK) - float(extract(norms.shift, 0)))
    distance = get(other.bases, begin // BLOCK) - float(extract(norms.teacher_shift, 0))
    teacher_inverse = norms.teacher_inverse * _scalar_exp(distance)
    return Norms(norms.shift, norms.log_s, inverse, norms.teacher_shift, norms.teacher_log_s, teacher_inverse)


@inline
def _pass(flags, way, o, constants, row, other, norms, second, factor):
    """The sums of both terms over a row."""
    width, totals, others = lanes_of(row.x), 0.0, 0.0
    zero = splat(row.x, 0.0)
    for begin in range(0, row.k, BLOCK):
        stop, j, total, more = min(begin + BLOCK, row.k), begin, zero, zero
        here = _of_block(way, row, other, norms, begin)
        while j + width <= stop:
            end, a, b = min(j + RUN * width, stop), zero, zero
            while j + width <= end:
                value, extra = _vector(flags, way, o, constants, row, other, here, j, width, second, factor, True)
                a, b = a + value, b + extra
                j += width
            total, more = total + a, more + b
        if j < stop:
            value, extra = _vector(flags, way, o, constants, row, other, here, j, stop - j, second, factor, False)
            total, more = total + value, more + extra
        totals += hsum(total)
        others += hsum(more)
    return totals, others


@inline
def _norm(flags, way, o, row):
    """(shift, log of the sum, its inverse) of a row, as vectors of the computing dtype."""
    state = reduce_row(flags, way, o, row)
    one = splat(row.bases, 1.0)
    shift, s = _shift(one * state.m), _normaliser(one * state.m, one * state.others)
    return splat(row.x, extract(shift, 0)), splat(row.x, extract(_log(s), 0)), splat(row.x, extract(one / s, 0))


@inline
def of_row(flags, way, apart, o, teacher, direction, beta, row, other, up):
    """The divergence of a row; writes its gradient, times `up`."""
    shift, log_s, inverse = _norm(flags, way, o, row)
    norms = Norms(shift, log_s, inverse, shift, log_s, inverse)
    if teacher == LOGITS:
        shift_y, log_s_y, inverse_y = _norm(flags, apart, o, other)
        norms = Norms(shift, log_s, inverse, shift_y, log_s_y, inverse_y)
    at_once = flags.grad and teacher == LOGITS and direction == FORWARD
    factor = up * o.inverse_temperature
    value, second = _pass(flags, way, o, (teacher, direction, beta, at_once), row, other, norms, 1.0, factor)
    if flags.grad and not at_once:
        _pass(flags, way, o, (teacher, direction, beta, True), row, other, norms, second, factor)
    return value


@inline
def finished_row(flags, params, result, i, value):
    """The divergence of row `i` times its factor, written where it is wanted."""
    if flags.factors:
        value = value * float(get(ref_like(result, integer_at(params, P.LOSS_FACTOR)), i))
    if integer_at(params, P.RESULT) != 0:
        put(result, i, value)
    return value


def rows(flags, way, variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """The divergence, and the gradient if ``flags.grad``, of each row of a chunk, classes in lanes."""
    kind, gathered, (teacher, direction) = COMPUTED[x_kind], way.gathered, variant
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)
    flags, apart = flags._replace(soft=False), way._replace(gathered=False)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k, beta = read_options(params), integer_at(params, P.CLASSES), float_at(params, P.BETA)
        bases, kept = scratch(params, slot)
        result, blocks, total = ref(integer_at(params, P.RESULT), 0, kind, True), ref(bases, 0, FLOAT64, True), 0.0
        exp, grad_factor = exp_constants(result), ref_like(result, integer_at(params, P.GRAD_FACTOR))
        e = ref(kept, 0, kind, True)
        end = moved(e, 0, (k + lanes_of(e) - 1) // lanes_of(e) * lanes_of(e))
        teacher_blocks, teacher_e = ref(address(end), 0, FLOAT64, True), moved(end, kept - bases, 0)
        for i in range(first, last):
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            y = row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous)
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
            read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
            row = Row(x, read, y, e, e, blocks, out, k, -1, integer_at(params, P.X_STRIDES + 1), exp, x, x)
            step = integer_at(params, P.Y_STRIDES + 1)
            other = Row(y, y, y, e, teacher_e, teacher_blocks, out, k, -1, step, exp, y, y)
            up = o.scale * float(get(grad_factor, i)) if flags.factors and flags.grad else o.scale
            value = of_row(flags, way, apart, o, teacher, direction, splat(result, beta), row, other, up)
            total += finished_row(flags, params, result, i, value)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


# Tiles: rows in lanes ---------------------------------------------------------------------------------------------


@inline
def _lane_norm(flags, way, o, tile, v, t):
    """(shift, log of the sum, its inverse) of the rows of vector number `v`."""
    state = reduce_rows(flags, way, o, tile, v, t)
    s = _normaliser(state.m, state.others)
    return _shift(state.m), _log(s), 1.0 / s


@inline
def _lane_pass(flags, o, constants, tile, other, v, norms, second, factor):
    """The sums of both terms over the rows of vector number `v`; the gradient is left in the place of logits."""
    teacher, direction, beta, write = constants
    total = splat(tile.buffer, 0.0)
    lost, more = total, total
    for begin in range(0, tile.k, CLASSES):
        part = splat(tile.buffer, 0.0)
        for j in range(begin, min(begin + CLASSES, tile.k)):
            d, y = transform(flags, o, logits(tile, j, v)) - norms.shift, logits(other, j, v)
            if teacher == LOGITS:
                y = transform(flags, o, y) - norms.teacher_shift
            e = exp(y) if teacher == LOG_PROB else exp_by(tile.exp, y)
            p, q, t = _pair(teacher, exp_by(tile.exp, d), d, e, y, norms)
            value, term = _terms(direction, beta, p, q, t)
            part, more = part + value, more + term
            if write:
                store(tile.buffer, slot(tile, j, v), _slope(teacher, direction, beta, p, q, t, second) * factor)
        total, error = two_sum(total, part)
        lost = lost + error
    return select(lost == lost, total + lost, total), more  # of an infinite sum nothing is lost


@inline
def of_lanes(flags, way, o, params, teacher, direction, beta, tile, other, v, index):
    """The divergences of a vector of rows, the first of which has number `index`; leaves their gradient in the tile."""
    one, none = splat(tile.buffer, 1.0), labels(tile.buffer, 0, 0, 0, 0)
    n = min(tile.rows - v * lanes_of(one), lanes_of(one))
    shift, log_s, inverse = _lane_norm(flags, way, o, tile, v, none)
    norms = Norms(shift, log_s, inverse, shift, log_s, inverse)
    if teacher == LOGITS:
        shift_y, log_s_y, inverse_y = _lane_norm(flags, way, o, other, v, none)
        norms = Norms(shift, log_s, inverse, shift_y, log_s_y, inverse_y)
    up = one * (o.scale * o.inverse_temperature)
    if flags.factors and flags.grad:
        up = up * load_n(ref_like(tile.buffer, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
    at_once = flags.grad and teacher == LOGITS and direction == FORWARD
    value, second = _lane_pass(flags, o, (teacher, direction, beta, at_once), tile, other, v, norms, one, up)
    if flags.grad and not at_once:
        _lane_pass(flags, o, (teacher, direction, beta, True), tile, other, v, norms, second, up)
    return value


@inline
def finished_lanes(flags, params, tile, v, index, value):
    """The divergences of a vector of rows times their factors, written where they are wanted; 0 in dead lanes."""
    n = min(tile.rows - v * lanes_of(value), lanes_of(value))
    if flags.factors:
        value = value * load_n(ref_like(tile.buffer, integer_at(params, P.LOSS_FACTOR)), index, n, 0.0)
    value = first_lanes(value, n)
    if integer_at(params, P.RESULT) != 0:
        store_n(ref_like(tile.buffer, integer_at(params, P.RESULT)), index, n, value)
    return value


def lanes(flags, way, variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """The divergence, and the gradient if ``flags.grad``, of each tile of a chunk, rows in lanes."""
    kind, (teacher, direction) = COMPUTED[x_kind], variant
    flags = flags._replace(soft=False)

    def kernel(params, chunk, slot_number):
        first, last = bounds(params, chunk)
        o, k, beta = read_options(params), integer_at(params, P.CLASSES), float_at(params, P.BETA)
        buffer, total = ref(scratch_of(params, slot_number), 0, kind, True), 0.0
        exp, width = exp_constants(buffer), lanes_of(buffer)
        x_step, y_step = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.Y_STRIDES + 2)
        for number in range(first, last):
            outer, start, height = locate(params, number, width)
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            y = tile_ref(params, P.Y, P.Y_STRIDES, outer, start, y_kind, y_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, x_kind, out_contiguous)
            tile = Tile(x, x, out, x_step, 0, integer_at(params, P.OUT_STRIDES + 2), buffer, buffer, k, height, exp)
            second = moved(buffer, 0, slot(tile, 0, integer_at(params, P.TILE)))
            other = Tile(y, y, out, y_step, 0, 0, buffer, second, k, height, exp)
            pack(tile)
            pack(other)
            index = outer * integer_at(params, P.INNER) + start
            for v in range((height + width - 1) // width):
                at = index + v * width
                value = of_lanes(flags, way, o, params, teacher, direction, splat(buffer, beta), tile, other, v, at)
                total += hsum(finished_lanes(flags, params, tile, v, at, value))
            if flags.grad:
                unpack(tile)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)

"""The kernels of row statistics, for rows and for lanes: sums of exponentials as the losses have them, then the order.

Names that are not asked for cost nothing: their columns are -1, a constant.  The order is that of the logits as they
came: softcap and temperature keep it, but make equal ones of what differs by an ulp.  It is looked at once a row's sums
are known, in the second-level cache: most rows need a part of it.
"""

from ...core.dtypes import COMPUTED, FLOAT64, MASK_OF
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp_constants
from ..simd.lanes import extract, hmax
from ..simd.laws import scalar, vector
from ..simd.memory import address, get, itemsize_of, lanes_of, put, ref, ref_like, store_n
from ..simd.vectors import select, splat
from ..simd.words import integer_at, put_integer, put_lanes, put_truth
from .adjusted import adjust, adjusters, logit_of, take
from .common import bounds, class_of, read_options, read_ref, row_ref, scratch_of, tile_ref, transform
from .lane_kernels import targets
from .lanes import Tile, locate, logits, reduce_rows
from .order import block_max, count_larger, first_largest, first_nan
from .row_kernels import scratch
from .row_results import infinite
from .rows import INF, Row, reduce_row, transformed

NAN = float("nan")

_entropy, _normaliser = vector["entropy"], vector["normaliser"]
_log1p, _log_of_sum = vector["log1p"], vector["log_of_sum"]
_scalar_shift = scalar["shift"]


@inline
def _column(params, like, number):
    """A reference to the numbers of a column of reals, like those of `like`."""
    size = integer_at(params, P.ROWS_IN_ALL) * itemsize_of(like)
    return ref_like(like, integer_at(params, P.COLUMNS) + number * size)


@inline
def _places(params, number):
    """The address of a column of int64 numbers."""
    return integer_at(params, P.PLACES) + number * integer_at(params, P.ROWS_IN_ALL) * 8


# Rows: classes in lanes -------------------------------------------------------------------------------------------


@inline
def _write_sums(c, flags, o, params, like, i, row, seen, t, state):
    """Write what follows from a row's sums: in float64 vectors of one number, as its loss would be."""
    one, shift = splat(row.bases, 1.0), _scalar_shift(state.m)
    m, rest = one * state.m, one * state.others
    s, log_s = _normaliser(m, rest + 1.0), _log_of_sum(m, rest)
    if c.log_prob >= 0:
        d = logit_of(flags, o, row, t) - shift
        put(_column(params, like, c.log_prob), i, extract(d - log_s, 0))
    if c.entropy >= 0:
        put(_column(params, like, c.entropy), i, extract(_entropy(log_s, one * state.dot, s), 0))
    if c.log_sum_exp >= 0:
        put(
            _column(params, like, c.log_sum_exp),
            i,
            infinite(seen, row.k) if state.m == INF else extract(m + _log1p(rest), 0),
        )
    if c.max_prob >= 0:
        put(_column(params, like, c.max_prob), i, extract(one / s, 0))
    if c.top_k >= 0:
        put(_column(params, like, c.top_k), i, extract(log_s, 0))


@inline
def _write_order(c, flags, o, params, like, i, x, k, t, m, place):
    """Write what follows from the order of a row's logits, the largest of which is `m`, in class `place` or NaN."""
    if c.argmax >= 0:
        put_integer(_places(params, c.argmax), i, place)
    if c.correct >= 0:
        put_truth(integer_at(params, P.TRUTHS), i, place == t)
    if c.rank >= 0:
        put_integer(_places(params, c.rank), i, count_larger(x, k, get(x, t)))
    if c.margin >= 0:
        other = m
        if place == t:
            other = max(block_max(x, 0, t), block_max(x, t + 1, k))
        least = -INF if k == 1 else float(transformed(flags, o, x, other))
        margin = float(transformed(flags, o, x, get(x, t))) - least
        put(_column(params, like, c.margin), i, NAN if get(x, place) != get(x, place) else margin)


@inline
def _write_ignored(c, params, like, i):
    """The statistics of an ignored row."""
    for number in (c.log_prob, c.entropy, c.log_sum_exp, c.max_prob, c.margin, c.top_k):
        if number >= 0:
            put(_column(params, like, number), i, 0.0)
    for number in (c.argmax, c.rank):
        if number >= 0:
            put_integer(_places(params, number), i, -1)
    if c.correct >= 0:
        put_truth(integer_at(params, P.TRUTHS), i, False)


def rows(flags, way, c, x_kind, _y_kind, x_contiguous, _y_contiguous, _out_contiguous):
    """The statistics of each row of a chunk, to the columns `c`; classes in lanes."""
    kind, gathered = COMPUTED[x_kind], way.gathered
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)
    adjusted, mask_kind, mask_near = flags.adjusted, MASK_OF[kind] if flags.mask else None, way.mask
    summed, exact = _needs_sums(c), adjusted or not (flags.cap or flags.temper)
    ordered, targets, plain = _needs_order(c), flags.hard, flags._replace(hard=False)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = scratch(params, slot)
        like = ref(0, 0, kind, True)
        exp, blocks, e = exp_constants(like), ref(bases, 0, FLOAT64, True), ref(kept, 0, kind, True)
        for i in range(first, last):
            t = class_of(params, i) if targets else 0
            if t < 0:
                _write_ignored(c, params, like, i)
                continue
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
            offset, mask = adjusters(params, i, e, mask_kind, mask_near)
            row = Row(x, read, x, x, e, blocks, x, k, -1, integer_at(params, P.X_STRIDES + 1), exp, offset, mask)
            seen = read if adjusted else x
            m, place, nan = 0.0, 0, True
            if summed:
                state = reduce_row(plain, way, o, row)
                m, place, nan = state.m, state.place, not state.others < INF
                _write_sums(c, plain, o, params, like, i, row, seen, t, state)
            elif adjusted:
                adjust(plain, o, row, 0, k)
            if ordered:
                first = first_nan(seen, k) if nan else k
                if not (summed and exact):
                    m = float(block_max(seen, 0, k))
                    place = first_largest(seen, 0, k, m)
                _write_order(c, plain, o, params, like, i, seen, k, t, m, first if first < k else place)

    return jit.kernel(kernel)


def _needs_sums(c):
    """Whether statistics take exponentials."""
    return max(c.log_prob, c.entropy, c.log_sum_exp, c.max_prob, c.top_k) >= 0


def _needs_order(c):
    """Whether statistics compare logits."""
    return max(c.argmax, c.correct, c.rank, c.margin) >= 0


# Tiles: rows in lanes ---------------------------------------------------------------------------------------------


@inline
def _write(params, like, number, flags, t, index, n, x):
    """Write a column for `n` rows from number `index` on: 0 in ignored ones."""
    store_n(_column(params, like, number), index, n, select(t > -1, x, 0.0) if flags.hard else x)


@inline
def _write_lane_sums(c, flags, way, o, params, tile, v, t, index, n):
    """Write what follows from the sums of `n` rows from number `index` on."""
    state = reduce_rows(flags, way, o, tile, v, t)
    like, s = tile.buffer, _normaliser(state.m, state.others + 1.0)
    log_s = _log_of_sum(state.m, state.others)
    if c.log_prob >= 0:
        _write(params, like, c.log_prob, flags, t, index, n, state.d - log_s)
    if c.entropy >= 0:
        _write(params, like, c.entropy, flags, t, index, n, _entropy(log_s, state.dot, s))
    if c.log_sum_exp >= 0:
        lse = state.m + _log1p(state.others)
        if hmax(state.m) == INF:
            lse = select(state.m == INF, state.m + _lane_nan(tile, v), lse)
        _write(params, like, c.log_sum_exp, flags, t, index, n, lse)
    if c.max_prob >= 0:
        _write(params, like, c.max_prob, flags, t, index, n, splat(like, 1.0) / s)
    if c.top_k >= 0:
        _write(params, like, c.top_k, flags, t, index, n, log_s)


@inline
def _lane_nan(tile, v):
    """NaN in the rows that hold one, 0 in the others."""
    nan = splat(tile.x, 0.0)
    for j in range(tile.k):
        x = logits(tile, j, v)
        nan = select(x == x, nan, x)
    return nan


@inline
def _before(x, y):
    """The mask of what comes before y in falling order: NaN is the largest, and equal ones stay in theirs."""
    return (x > y) | ((x != x) & (y == y))


@inline
def _write_lane_order(c, flags, o, params, tile, v, t, index, n):
    """Write what follows from the order of the logits of `n` rows from number `index` on."""
    m = splat(tile.x, -INF)
    x_t, other, first = m, m, t - t
    for j in range(tile.k):
        x = logits(tile, j, v)
        x_t = select(t == j, x, x_t)
        if c.margin >= 0:
            other = select((t != j) & _before(x, other), x, other)
        larger = _before(x, m)
        first, m = select(larger, j, first), select(larger, x, m)
    if c.argmax >= 0:
        put_lanes(_places(params, c.argmax), index, n, select(t > -1, first, -1) if flags.hard else first)
    if c.correct >= 0:
        put_lanes(integer_at(params, P.TRUTHS), index, n, first == t)
    if c.margin >= 0:
        margin = transform(flags, o, x_t) - (splat(tile.x, -INF) if tile.k == 1 else transform(flags, o, other))
        _write(params, tile.buffer, c.margin, flags, t, index, n, select(m == m, margin, m))
    if c.rank >= 0:
        rank = t - t
        for j in range(tile.k):
            rank = rank + select(logits(tile, j, v) > x_t, 1, t - t)
        put_lanes(_places(params, c.rank), index, n, select(t > -1, rank, -1))


def lanes(flags, way, c, x_kind, _y_kind, x_contiguous, _y_contiguous, _out_contiguous):
    """The statistics of each tile of a chunk, to the columns `c`; rows in lanes."""
    kind, mask_near = COMPUTED[x_kind], way.mask
    mask_kind = MASK_OF[kind]
    summed, ordered = _needs_sums(c), _needs_order(c)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, like = read_options(params), ref(0, 0, kind, True)
        exp = exp_constants(like)
        for number in range(first, last):
            buffer = ref_like(like, scratch_of(params, slot))
            outer, start, height = locate(params, number, lanes_of(buffer))
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            step, k = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.CLASSES)
            tile = Tile(x, x, x, step, 0, 0, buffer, buffer, k, height, exp)
            take(flags, o, params, tile, 1, outer, start, kind, mask_kind, mask_near)
            for v in range((height + lanes_of(x) - 1) // lanes_of(x)):
                index = outer * integer_at(params, P.INNER) + start + v * lanes_of(x)
                n = min(height - v * lanes_of(x), lanes_of(x))
                t = targets(flags, params, buffer, index, n)
                if summed:
                    _write_lane_sums(c, flags, way, o, params, tile, v, t, index, n)
                if ordered:
                    _write_lane_order(c, flags, o, params, tile, v, t, index, n)

    return jit.kernel(kernel)

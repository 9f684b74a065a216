"""Classes in SIMD lanes: the passes over a long row.

A row is read in blocks of `BLOCK` classes.  Each block gives a state (maximum, sum of exponentials) from the
first-level cache, and the states merge in float64: a row of any length is read from memory once for its loss, and the
error of a sum does not grow with its length.  While a block is exponentiated the next one is prefetched.  The
exponentials are kept in scratch relative to their own block's maximum; the emit pass (`row_results`) scales them.
"""

from collections import namedtuple

from ..jit import inline
from ..simd.elementary import exp_by
from ..simd.lanes import extract, first_lanes, hmax, hsum, lane_is
from ..simd.laws import scalar, vector
from ..simd.memory import lanes_of, load, load_n, moved, prefetch, put, store, store_n
from ..simd.vectors import fma, select, splat
from .adjusted import adjust
from .common import class_mass, copy, smoothed_mass, transform
from .constants import BLOCK
from .order import block_maxima, first_largest

INF = float("inf")
LINE = 64  # elements of a mask in a cache line
RUN = 16  # vectors that are summed plainly before their sum is added to the block's

# The row being worked on: references to logits as they came, and where they are read for their exponentials (a copy, if
# they are gathered, or adjusted); to soft target, class weights, kept exponentials, maxima of the blocks and gradient;
# the number of classes; the target's (-1: none); the way in bytes to the next row; the constants of exp; and what
# logits are adjusted by.
Row = namedtuple("Row", "source x y w e bases out k t next exp offset mask")
# Vectors of partial sums: of exponentials but the target's, of w_j (z_j - base), and of w_j.  With the flag `entropy`
# the second is of e_j (z_j - base), and with `rest` the term that the first leaves out is that of the first maximum.
Sums = namedtuple("Sums", ("total", "dot", "mass"))
# Its reduction: the maximum, those sums of the row, and (with `rest`) the class of the first maximum.
State = namedtuple("State", ("m", "others", "dot", "mass", "place"))

_shift, _merge, _merge_dot, _exp = scalar["shift"], scalar["merge"], scalar["merge_dot"], scalar["exp"]
_merge_spread = scalar["merge_spread"]
_term, _cap_slope = vector["term"], vector["cap_slope"]


@inline
def taken_maxima(flags, way, o, row, j, stop):
    """A vector whose largest lane is the largest logit of a block.

    Logits that are adjusted, or do not lie side by side, are written to where they are read, twice; if exponentials are
    kept, they go there then.
    """
    if flags.adjusted:
        return adjust(flags, o, row, j, stop)
    if way.gathered:
        copy(moved(row.source, 0, j), moved(row.x, 0, j), stop - j)
    return block_maxima(row.x, j, stop)


@inline
def again(flags, row, j, n, whole):
    """The logits of the vector at `j` once more, of which `n` lanes are live."""
    if flags.adjusted:
        return load(row.x, j) if whole else load_n(row.x, j, n, -INF)
    return load(row.source, j) if whole else load_n(row.source, j, n, -INF)


@inline
def masses(flags, o, row, j, n, z, whole):
    """w_j of the vector at `j` with the logits `z`, of which `n` lanes are live; 0 in the others."""
    one = splat(row.x, 1.0)
    y = one
    if flags.soft:
        y = load(row.y, j) if whole else load_n(row.y, j, n, 0.0)
    w = one
    if flags.weighted:
        w = load(row.w, j) if whole else load_n(row.w, j, n, 0.0)
    v = smoothed_mass(flags, z, class_mass(flags, o, y, w, z))
    return v if whole else first_lanes(v, n)


@inline
def slope_is_kept(flags, way):
    """Whether kept exponentials have the softcap's slope in them: where no other term of a gradient has it."""
    return flags.cap and way.kept and flags.hard and not flags.smooth and not flags.adjusted


@inline
def exponentials(flags, way, o, row, j, n, base, whole):
    """(z, z - base, exp(z - base)) of the vector at `j`; the exponentials of dead lanes are 0."""
    x = load(row.x, j) if whole else load_n(row.x, j, n, -INF)
    z = transform(flags, o, x)
    d = z - base
    p = exp_by(row.exp, d)
    p = p if whole else first_lanes(p, n)
    if way.kept:
        kept = p
        if slope_is_kept(flags, way):
            kept = p * _cap_slope(x, 1.0 / o.cap)  # whose tanh is the one that `transform` has computed
        if whole or not way.direct:  # scratch has room for a whole vector
            store(row.e, j, kept)
        else:
            store_n(row.e, j, n, kept)
    return z, d, p


@inline
def whole_end(row, t, j, stop):
    """The end of the whole vectors from `j` on: the one that holds class `t`, or short of `stop`."""
    width = lanes_of(row.x)
    if j <= t < stop:
        stop = t
    return j + (stop - j) // width * width


@inline
def no_sums(row):
    """The Sums of no classes."""
    zero = splat(row.x, 0.0)
    return Sums(zero, zero, zero)


@inline
def plus(a, b):
    """The Sums of two parts."""
    return Sums(a.total + b.total, a.dot + b.dot, a.mass + b.mass)


@inline
def finite(row, d):
    """A distance whose exponential is taken, or is 0: -inf would make NaN of that."""
    lowest = row.exp.reduction[0]
    return select(lowest > d, lowest, d)


@inline
def plus_vector(flags, way, o, row, sums, j, n, base, whole, target):
    """The Sums with the `n` classes from `j` on, but for the exponential in the lane `target` (a mask)."""
    z, d, p = exponentials(flags, way, o, row, j, n, base, whole)
    total, dot, mass = sums.total + p, sums.dot, sums.mass
    if flags.hard or flags.rest:
        total = select(target, sums.total, total)
    if flags.smooth or flags.soft:
        v = masses(flags, o, row, j, n, z, whole)
        dot, mass = dot + _term(v, d), mass + v
    if way.below:
        mass = mass + select(d < 0.0, p, 0.0)
    if flags.entropy:
        dot = fma(p, finite(row, d), dot)
    return Sums(total, dot, mass)


@inline
def _whole_sums(flags, way, o, row, j, stop, base, ahead):
    """The Sums of whole vectors from `j` to `stop`, without the target."""
    width, nowhere = lanes_of(row.x), lane_is(row.x, -1)
    sums = no_sums(row)
    while j < stop:
        # Short runs first: an error of half an ulp a vector adds up over a block.
        end, part = min(j + RUN * width, stop), no_sums(row)
        if flags.mask:
            for i in range(j, end, LINE):
                prefetch(row.mask, i + BLOCK)  # of this row, or of the next: rows of a mask lie together as a rule
        while j < end:
            prefetch(ahead, j)
            part = plus_vector(flags, way, o, row, part, j, width, base, True, nowhere)
            j += width
        sums = plus(sums, part)
    return sums


@inline
def block_sums(flags, way, o, row, t, j, stop, base, ahead):
    """(sum of exponentials but that of class `t`, sum w d, sum w) of a block."""
    width, sums = lanes_of(row.x), no_sums(row)
    while j < stop:
        end = whole_end(row, t, j, stop)
        sums = plus(sums, _whole_sums(flags, way, o, row, j, end, base, ahead))
        j = end
        if j < stop:
            n = min(width, stop - j)
            sums = plus_vector(flags, way, o, row, sums, j, n, base, False, lane_is(row.x, t - j))
            j += n
    return hsum(sums.total), hsum(sums.dot), hsum(sums.mass)


@inline
def transformed(flags, o, x, value):
    """`transform` of one number, by the instructions that transform vectors, so that it has the very same bits."""
    return extract(transform(flags, o, splat(x, value)), 0)


@inline
def reduce_block(flags, way, o, row, j, m):
    """The State of the block from class `j` on; leaves its maximum in `bases` when exponentials are kept.

    With `rest` a maximum above `m`, the largest logit of the blocks before, is left out, and otherwise none: place -1.
    """
    stop, t = min(j + BLOCK, row.k), row.t
    raw = hmax(taken_maxima(flags, way, o, row, j, stop))
    top = transformed(flags, o, row.x, raw)
    base = _shift(float(top))
    if flags.rest:
        t = first_largest(row.x, j, stop, raw) if top > m else -1
    # The block after this one, at the same offset; after the last block, the first of the next row.
    ahead = moved(row.source, row.next, -j) if stop == row.k else moved(row.source, 0, BLOCK)
    total, dots, weight = block_sums(flags, way, o, row, t, j, stop, base, ahead)
    if way.kept:
        put(row.bases, j // BLOCK, base)
    return State(1.0 * top, 1.0 * total, 1.0 * dots, 1.0 * weight, t)  # in float64


@inline
def joined(flags, j, a, b):
    """The State of the blocks of a row before class `j`, and of the block there, together: always in this order."""
    m, others, dot, mass, place = a
    top, total, dots, weight, t = b
    if j == 0:
        m, others, dot, mass = top, total, dots, weight
    else:
        if flags.rest and t >= 0:  # the maximum so far is one of the others now
            others += _exp(m - _shift(m))
        higher, both = _merge(m, others, top, total)
        if flags.entropy:
            dot = _merge_spread(m, others, dot, higher) + _merge_spread(top, total, dots, higher)
        else:
            dot = _merge_dot(dot, mass, m, higher) + _merge_dot(dots, weight, top, higher)
        m, others, mass = higher, both, mass + weight
    if flags.rest:
        place = max(place, t)
    return State(m, others, dot, mass, place)


@inline
def no_blocks():
    """The State of a row of which nothing has been read."""
    return State(-INF, 0.0, 0.0, 0.0, 0)


@inline
def reduce_row(flags, way, o, row):
    """The State of a row, block by block; leaves the blocks' maxima in `bases` when exponentials are kept."""
    state = no_blocks()
    for j in range(0, row.k, BLOCK):
        state = joined(flags, j, state, reduce_block(flags, way, o, row, j, state.m))
    return state

"""Rows in SIMD lanes, class by class: the passes over a tile of rows of many classes that lie far apart.

In class-major input the rows of one class are side by side.  A tile is some hundred rows, whose classes are a thousand
pieces of memory of a kilobyte each: shorter ones are read at half the speed, longer ones would leave no room in the
first-level cache for a block of classes.  So a tile is taken block by block, and what a row has added up so far waits
in scratch, in lines: a vector for each number, of each vector of rows.
"""

from collections import namedtuple

from ..jit import inline
from ..simd.elementary import exp_by
from ..simd.laws import vector
from ..simd.memory import BYTES, lanes_of, load, moved, store
from ..simd.vectors import bits, from_bits, select, splat
from .adjusted import adjusted_class
from .common import transform
from .constants import LANE_BLOCK as RUN
from .constants import LANE_LINES
from .lanes import State, Sums, added, below, derivative, larger, load_rows, masses, store_rows, two_sum

INF = float("inf")
LINES = LANE_LINES // BYTES

# The tile being worked on: as in `lanes`, with its lines and a copy of a block of its classes in scratch, and what its
# logits are adjusted by.
Tile = namedtuple("Tile", "x y out x_class y_class out_class w lines block k rows exp offset mask mask_class")
# The rows' targets; their largest logits so far, transformed; the sum of exponentials and what rounding took from it;
# sums w d and w; the targets' logits and class weights.  With the flag `rest` `mass` is the sum of exponentials below
# the maximum, and `less` what rounding took from it.
Lines = namedtuple("Lines", ("t", "m", "total", "lost", "dot", "mass", "x_t", "weight", "less"))

_shift, _merge_dot, _merge_below, _rest = (vector[x] for x in ("shift", "merge_dot", "merge_below", "rest"))


@inline
def vectors_of(tile):
    """The number of vectors of rows in a tile."""
    return (tile.rows + lanes_of(tile.x) - 1) // lanes_of(tile.x)


@inline
def _line(tile, v, i):
    return (LINES * v + i) * lanes_of(tile.lines)


@inline
def put_lines(tile, v, lines):
    """Leave the lines of vector number `v` of rows."""
    store(tile.lines, _line(tile, v, 0), from_bits(lines.m, lines.t))
    store(tile.lines, _line(tile, v, 1), lines.m)
    store(tile.lines, _line(tile, v, 2), lines.total)
    store(tile.lines, _line(tile, v, 3), lines.lost)
    store(tile.lines, _line(tile, v, 4), lines.dot)
    store(tile.lines, _line(tile, v, 5), lines.mass)
    store(tile.lines, _line(tile, v, 6), lines.x_t)
    store(tile.lines, _line(tile, v, 7), lines.weight)
    store(tile.lines, _line(tile, v, 8), lines.less)


@inline
def get_lines(tile, v):
    """The lines of vector number `v` of rows."""
    return Lines(
        bits(load(tile.lines, _line(tile, v, 0))),
        load(tile.lines, _line(tile, v, 1)),
        load(tile.lines, _line(tile, v, 2)),
        load(tile.lines, _line(tile, v, 3)),
        load(tile.lines, _line(tile, v, 4)),
        load(tile.lines, _line(tile, v, 5)),
        load(tile.lines, _line(tile, v, 6)),
        load(tile.lines, _line(tile, v, 7)),
        load(tile.lines, _line(tile, v, 8)),
    )


@inline
def no_classes(tile, t):
    """The lines of rows with targets `t` of which nothing has been read."""
    zero = splat(tile.x, 0.0)
    return Lines(t, splat(tile.x, -INF), zero, zero, zero, zero, zero, splat(tile.x, 1.0), zero)


@inline
def _rows(tile, j, v, whole):
    """Class `j` of vector number `v` of rows; `whole`, a constant, says that all of its rows are there."""
    if whole:
        return load(moved(tile.x, j * tile.x_class, 0), v * lanes_of(tile.x))
    return load_rows(tile.x, tile.x_class, j, v, tile.rows)


@inline
def _seen(flags, o, tile, j, v, whole):
    """The same, adjusted."""
    x = _rows(tile, j, v, whole)
    if flags.adjusted:
        by = splat(tile.block, 0.0)
        if flags.mask and whole:
            by = load(moved(tile.mask, j * tile.mask_class, 0), v * lanes_of(tile.mask))
        elif flags.mask:
            by = load_rows(tile.mask, tile.mask_class, j, v, tile.rows)
        x = adjusted_class(flags, o, tile.offset, j, x, by)
    return x


@inline
def _copied(tile, v, j, begin):
    """Class `j` of vector number `v` of rows, from the copy of the block that begins with class `begin`."""
    return load(tile.block, (RUN * v + j - begin) * lanes_of(tile.block))


@inline
def _copy_class(flags, o, tile, j, begin):
    """Copy class `j` of all rows."""
    width, whole = lanes_of(tile.block), tile.rows // lanes_of(tile.x)
    for v in range(whole):
        store(tile.block, (RUN * v + j - begin) * width, _seen(flags, o, tile, j, v, True))
    if tile.rows % width != 0:
        store(tile.block, (RUN * whole + j - begin) * width, _seen(flags, o, tile, j, whole, False))


@inline
def _block_sums(flags, way, o, tile, v, lines, top, begin, end):
    """The Sums of a block of classes, with respect to its largest logits `top`."""
    zero = splat(tile.x, 0.0)
    sums, w = Sums(zero, zero, zero, lines.x_t, lines.weight, zero), zero
    for j in range(begin, end):
        x = _copied(tile, v, j, begin)
        z = transform(flags, o, x)
        if flags.smooth or flags.soft or flags.weighted:
            w = masses(flags, o, tile, j, v, x)
        sums = added(flags, sums, lines.t, j, x, z - _shift(top), exp_by(tile.exp, _distance(way, top, z)), w)
    return sums


@inline
def _distance(way, top, z):
    """The distances of logits from the largest; what belongs to infinite ones is NaN but for the sum itself."""
    if way.infinite:
        return below(top, z)
    return z - _shift(top)


@inline
def _take_block(flags, way, o, tile, v, begin, end):
    """Add a block of classes to the lines of vector number `v` of rows."""
    lines, top = get_lines(tile, v), splat(tile.x, -INF)
    for j in range(begin, end):
        top = larger(_copied(tile, v, j, begin), top)
    top = transform(flags, o, top)
    sums = _block_sums(flags, way, o, tile, v, lines, top, begin, end)
    m = larger(top, lines.m)
    before, here = exp_by(tile.exp, _distance(way, m, lines.m)), exp_by(tile.exp, _distance(way, m, top))
    total, error = two_sum(lines.total * before, sums.total * here)
    dot = _merge_dot(lines.dot, lines.mass, lines.m, m) + _merge_dot(sums.dot, sums.mass, top, m)
    lost, mass, less = lines.lost * before + error, lines.mass + sums.mass, lines.less
    if flags.rest:
        part = _merge_below(lines.m, lines.total + lines.lost, lines.mass, m)
        mass, error = two_sum(part, _merge_below(top, sums.total, sums.below, m))
        less = select(m == lines.m, less, 0.0) + error
    put_lines(tile, v, Lines(lines.t, m, total, lost, dot, mass, sums.x_t, sums.weight, less))


@inline
def reduce_tile(flags, way, o, tile):
    """Take all classes of a tile, block by block.

    A block is copied first: where classes are a power of two apart, all of them fall into the same few lines of a
    cache, and would be gone when they are read again for their exponentials.
    """
    for begin in range(0, tile.k, RUN):
        end = min(begin + RUN, tile.k)
        for j in range(begin, end):
            _copy_class(flags, o, tile, j, begin)
        for v in range(vectors_of(tile)):
            _take_block(flags, way, o, tile, v, begin, end)


@inline
def state_of(flags, o, lines):
    """The State of rows all of whose classes are in their lines."""
    d, total = transform(flags, o, lines.x_t) - _shift(lines.m), lines.total + lines.lost
    if flags.rest:
        total = _rest(total, lines.mass + lines.less)
    return State(lines.m, total, lines.dot, lines.mass, d, lines.weight)


@inline
def keep_scores(tile, v, t, m, scores):
    """Leave what the results of vector number `v` of rows are made of, in place of its lines."""
    a, b, at_target = scores
    put_lines(tile, v, Lines(t, m, a, b, at_target, a, a, a, a))


@inline
def _put(tile, j, v, whole, g):
    if whole:
        store(moved(tile.out, j * tile.out_class, 0), v * lanes_of(tile.out), g)
    else:
        store_rows(tile.out, tile.out_class, j, v, tile.rows, g)


@inline
def _emit_derivative(flags, o, tile, j, v, whole):
    t, m, a, b, at_target, _, _, _, _ = get_lines(tile, v)
    x, w = _seen(flags, o, tile, j, v, whole), m
    p = exp_by(tile.exp, transform(flags, o, x) - _shift(m))
    if flags.soft or flags.smooth:
        w = masses(flags, o, tile, j, v, x)
    _put(tile, j, v, whole, derivative(flags, o, t, j, x, p, w, (a, b, at_target)))


@inline
def emit_derivatives(flags, o, tile):
    """Write the derivatives of a tile, class by class."""
    for j in range(tile.k):
        for v in range(tile.rows // lanes_of(tile.x)):
            _emit_derivative(flags, o, tile, j, v, True)
        if tile.rows % lanes_of(tile.x) != 0:
            _emit_derivative(flags, o, tile, j, tile.rows // lanes_of(tile.x), False)


@inline
def _emit_difference(flags, o, tile, j, v, whole):
    _, m, log_s, _, _, _, _, _, _ = get_lines(tile, v)
    _put(tile, j, v, whole, _seen(flags, o, tile, j, v, whole) - _shift(m) - log_s)


@inline
def emit_differences(flags, o, tile):
    """Write ``(x_j - m) - log s`` for a tile, class by class; log s is in the place of the first score."""
    for j in range(tile.k):
        for v in range(tile.rows // lanes_of(tile.x)):
            _emit_difference(flags, o, tile, j, v, True)
        if tile.rows % lanes_of(tile.x) != 0:
            _emit_difference(flags, o, tile, j, tile.rows // lanes_of(tile.x), False)

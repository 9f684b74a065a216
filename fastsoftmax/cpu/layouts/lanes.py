"""Rows in SIMD lanes: the passes over a tile of rows with few classes, or of class-major input.

With few classes a row does not fill a vector; here 16 rows (8 of float64) go through together, one in each lane, with
no horizontal operation and no scalar code.  A tile is packed into scratch (transposed, where classes are contiguous),
worked on there, and unpacked: logits, then exponentials, then gradients stand in the same scratch.  (Many classes that
lie far apart are worked on where they are: see `blocks`.)
"""

from collections import namedtuple

from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp_by
from ..simd.laws import vector
from ..simd.memory import get, itemsize_of, lanes_of, load, load_n, moved, store, store_n
from ..simd.squares import transpose_in, transpose_out
from ..simd.vectors import select, splat
from ..simd.words import integer_at
from .common import class_mass, emitted_mass, smoothed_mass, transform

RUN = 32  # classes whose exponentials are summed plainly before a compensated addition
INF = float("inf")

# The tile being worked on: references to row 0 of logits, soft target and gradient, their steps from class to class,
# class weights, scratch; the number of classes and of rows; and exp's constants.
Tile = namedtuple("Tile", ("x", "y", "out", "x_class", "y_class", "out_class", "w", "buffer", "k", "rows", "exp"))
# Sums over classes (see `rows`), what is picked at the target: its logit and its class weight, and with the flag `rest`
# the sum of exponentials below the maximum.
Sums = namedtuple("Sums", ("total", "dot", "mass", "x_t", "weight", "below"))
# The reduction of a vector of rows; `d` is z_t - m and `weight` the class weight of the target.
State = namedtuple("State", ("m", "others", "dot", "mass", "d", "weight"))

_shift, _term, _cap_slope = vector["shift"], vector["term"], vector["cap_slope"]
_log_sum_exp, _rest = vector["log_sum_exp"], vector["rest"]


@inline
def load_rows(r, step, j, v, rows):
    """Class `j` of the rows of vector number `v`; 0 in the lanes past the tile's last row."""
    here, width = moved(r, j * step, 0), lanes_of(r)
    n = rows - v * width
    return load(here, v * width) if n >= width else load_n(here, v * width, n, 0.0)


@inline
def store_rows(r, step, j, v, rows, x):
    """Write class `j` of the rows of vector number `v`."""
    here, width = moved(r, j * step, 0), lanes_of(x)
    n = rows - v * width
    if n >= width:
        store(here, v * width, x)
    else:
        store_n(here, v * width, n, x)


@inline
def slot(tile, j, v):
    """The index in scratch of class `j` of vector number `v`; each vector of rows has whole squares to transpose."""
    width = lanes_of(tile.x)
    return (v * ((tile.k + width - 1) // width * width) + j) * width


@inline
def pack(tile):
    """Copy the tile's logits to scratch, by transposing squares where classes are contiguous and rows fill a vector."""
    width = lanes_of(tile.x)
    whole = tile.rows // width if tile.x_class == itemsize_of(tile.x) else 0
    for v in range(whole):
        for j in range(0, tile.k, width):
            transpose_in(tile.buffer, slot(tile, j, v), width, tile.x, v * width, j, tile.k - j)
    for j in range(tile.k):
        for v in range(whole, (tile.rows + width - 1) // width):
            store(tile.buffer, slot(tile, j, v), load_rows(tile.x, tile.x_class, j, v, tile.rows))


@inline
def unpack(tile):
    """Copy the results in scratch to where they belong."""
    width = lanes_of(tile.x)
    whole = tile.rows // width if tile.out_class == itemsize_of(tile.out) else 0
    for v in range(whole):
        for j in range(0, tile.k, width):
            transpose_out(tile.buffer, slot(tile, j, v), tile.out, v * width, j, tile.k - j)
    for j in range(tile.k):
        for v in range(whole, (tile.rows + width - 1) // width):
            store_rows(tile.out, tile.out_class, j, v, tile.rows, load(tile.buffer, slot(tile, j, v)))


@inline
def logits(tile, j, v):
    """Class `j` of vector number `v`, as it came."""
    return load(tile.buffer, slot(tile, j, v))


@inline
def emit(tile, j, v, g):
    """Hand over class `j` of vector number `v` of the result."""
    store(tile.buffer, slot(tile, j, v), g)


@inline
def masses(flags, o, tile, j, v, z):
    """w_j of the rows of vector number `v`, whose logits are `z`."""
    y = splat(tile.x, 1.0)
    w = y
    if flags.soft:
        y = load_rows(tile.y, tile.y_class, j, v, tile.rows)
    if flags.weighted:
        w = splat(tile.x, get(tile.w, j))
    return class_mass(flags, o, y, w, z)


@inline
def larger(x, m):
    """The larger of two, `m` where `x` is NaN: NaNs do not count in a maximum (they come back through the sum)."""
    return select(x > m, x, m)


@inline
def maximum(tile, v):
    """The largest logit of each row."""
    m = splat(tile.x, -INF)
    for j in range(tile.k):
        m = larger(logits(tile, j, v), m)
    return m


@inline
def two_sum(total, part):
    """(total + part, what rounding took from it), for what is not negative."""
    result = total + part
    return result, select(total > part, (total - result) + part, (part - result) + total)


@inline
def no_sums(like):
    """The Sums of no classes."""
    zero = splat(like, 0.0)
    return Sums(zero, zero, zero, zero, splat(like, 1.0), zero)


@inline
def added(flags, sums, t, j, x, d, p, w):
    """The Sums with class `j`, whose logits are `x` (`d` from the maximum), exponentials `p` and masses `w`."""
    total, dot, mass, x_t, weight, less = sums
    if flags.entropy:
        dot = dot + _term(p, d)
    if flags.rest:
        less = less + select(d < 0.0, p, 0.0)
    if flags.hard:
        x_t = select(t == j, x, x_t)
        if not flags.rest:
            p = select(t == j, 0.0, p)
    if flags.smooth or flags.soft or flags.weighted:
        weight, w = select(t == j, w, weight), smoothed_mass(flags, x, w)
        dot, mass = dot + _term(w, d), mass + w
    return Sums(total + p, dot, mass, x_t, weight, less)


@inline
def state(flags, o, m, sums):
    """The State of rows whose largest logit, transformed, is `m`."""
    others = _rest(sums.total, sums.below) if flags.rest else sums.total
    return State(m, others, sums.dot, sums.mass, transform(flags, o, sums.x_t) - _shift(m), sums.weight)


@inline
def reduce_rows(flags, way, o, tile, v, t):
    """The State of the rows of vector number `v`, whose targets are the lanes of `t`."""
    # The transforms are monotonic: the largest transformed logit is the largest logit transformed.
    m, zero = transform(flags, o, maximum(tile, v)), splat(tile.x, 0.0)
    base, total, lost, dot, sums, w = _shift(m), zero, zero, zero, no_sums(tile.x), zero
    less, rounded = zero, zero
    for begin in range(0, tile.k, RUN):
        sums = Sums(zero, zero, sums.mass, sums.x_t, sums.weight, zero)
        for j in range(begin, min(begin + RUN, tile.k)):
            x = logits(tile, j, v)
            d = transform(flags, o, x) - base
            p = exp_by(tile.exp, d)
            if way.kept:
                store(tile.buffer, slot(tile, j, v), p)
            if flags.smooth or flags.soft or flags.weighted:
                w = masses(flags, o, tile, j, v, x)
            sums = added(flags, sums, t, j, x, d, p, w)
        total, error = two_sum(total, sums.total)
        lost, dot = lost + error, dot + sums.dot
        if flags.rest:
            less, error = two_sum(less, sums.below)
            rounded = rounded + error
    return state(flags, o, m, Sums(total + lost, dot, sums.mass, sums.x_t, sums.weight, less + rounded))


@inline
def below(m, x):
    """The distances of logits from the maximum: 0 by definition where they are equal, which infinite ones need."""
    return select(x == m, 0.0, x - m)


@inline
def log_sum_exp(tile, v):
    """logsumexp of the rows of vector number `v`."""
    m, total = maximum(tile, v), splat(tile.x, 0.0)
    lost = total
    for begin in range(0, tile.k, RUN):
        part = splat(tile.x, 0.0)
        for j in range(begin, min(begin + RUN, tile.k)):
            part = part + exp_by(tile.exp, below(m, logits(tile, j, v)))
        total, error = two_sum(total, part)
        lost = lost + error
    return _log_sum_exp(m, total + lost)


@inline
def emit_difference(tile, v, m, log_s):
    """Write ``(x_j - m) - log s``."""
    for j in range(tile.k):
        emit(tile, j, v, logits(tile, j, v) - m - log_s)


@inline
def derivative(flags, o, t, j, x, p, w, scores):
    """``A p_j - B w_j`` (with 1/s and all factors in them) times the transform's slope; 0 for ignored rows.

    With the flag `entropy` w_j is ``p_j d_j``, and `w` is d_j.
    """
    a, b, at_target = scores
    g = p * a
    if flags.soft or flags.smooth:
        g = g - emitted_mass(flags, x, w) * b
    if flags.entropy:
        g = g - _term(p, w) * b
    if flags.hard:
        g = select(t == j, at_target, g)
    if flags.cap:
        g = g * _cap_slope(x, 1.0 / o.cap)
    return select(t > -1, g, 0.0) if flags.hard else g


@inline
def emit_rows(flags, way, o, tile, v, t, m, scores):
    """Write the derivatives of the rows of vector number `v`."""
    base, w = _shift(m), m
    for j in range(tile.k):
        x = logits(tile, j, v)
        p = x if way.kept else exp_by(tile.exp, transform(flags, o, x) - base)
        if flags.soft or flags.smooth:
            w = masses(flags, o, tile, j, v, x)
        if flags.entropy:
            w = transform(flags, o, x) - base
        emit(tile, j, v, derivative(flags, o, t, j, x, p, w, scores))


@inline
def locate(params, number, width):
    """(outer index, first row within it, number of rows) of tile `number`; a tile never spans two outer indices."""
    inner = integer_at(params, P.INNER)
    height = integer_at(params, P.TILE) * width
    across = (inner + height - 1) // height
    outer = number // across
    start = (number - outer * across) * height
    return outer, start, min(height, inner - start)

"""The kernels of gradient and Hessian: the losses' passes for rows, lanes and registers, the last with two results.

The diagonal of the Hessian is ``k A p_j (1 - p_j)``, with the focal loss's addition, or the magnitude of the gradient;
what is below a bound is raised to it.
"""

from collections import namedtuple

from ...core.dtypes import COMPUTED, FLOAT64
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp_by, exp_constants
from ..simd.lanes import extract
from ..simd.laws import scalar, vector
from ..simd.memory import address, get, lanes_of, load, load_n, moved, put, ref, ref_like, store, store_n
from ..simd.vectors import select, splat
from ..simd.words import float_at, integer_at
from .adjusted import logit_of
from .common import bounds, class_of, read_options, read_ref, row_ref, scratch_of, tile_ref, transform
from .constants import BLOCK
from .lane_kernels import targets
from .lanes import Tile, locate, logits, no_sums, pack, reduce_rows, slot, state, unpack
from .lanes import masses as lane_masses
from .register_kernels import Shared, added_class, class_masses, deliver, exponential, maximum, taken
from .registers import folded, mapped
from .row_kernels import scratch
from .row_results import fill
from .rows import Row, masses, reduce_row

_index_score, _soft_score, _curvature_score = (vector[f"{x}_score"] for x in ("index", "soft", "curvature"))
_others_of, _complement, _exp = vector["others_of"], vector["complement"], vector["exp"]
_shift, _scalar_shift, _scalar_exp = vector["shift"], scalar["shift"], scalar["exp"]

# What both results of a row are made of, every factor included: A and B of the gradient, and that of the target; 1 / s;
# the factor of the Hessian and its bound; 1 - p of the maximum; the focal loss's bend and 1 / (s u); the target's own.
Scores = namedtuple("Scores", ("a", "b", "at_target", "inverse", "k", "least", "top", "bend", "others", "hessian"))


@inline
def _magnitude(x):
    return select(x < 0.0, 0.0 - x, x)


@inline
def _raised(h, least):
    return select(h < least, least, h)


@inline
def _scores(flags, o, params, one, m, others, dot, mass, d, weight, up):
    """The Scores of rows whose gradients are multiplied by `up`."""
    k, least = float_at(params, P.CURVATURE) * o.inverse_temperature, one * float_at(params, P.LEAST)
    up = up * o.inverse_temperature
    top, product, bend, inverse = _curvature_score(flags, o, weight, m, others, d)
    if flags.soft:
        _, s, a = _soft_score(flags, o, one, m, others + 1.0, dot, mass)
        b, at_target = one, one
    else:
        but_target = _others_of(d, _exp(d), others + 1.0, others)
        _, s, a, share, at_target = _index_score(flags, o, weight, m, but_target, dot, mass, d)
        b = one * share
    a, b, at_target, bend = a * up, b * up, at_target * up, bend * up * o.inverse_temperature
    own = a * product * k + bend
    if flags.residual:
        own = _magnitude(at_target) * k
    return Scores(a, b, at_target, one / s, one * k, least, top, bend, inverse, _raised(own, least))


@inline
def _both(flags, e, w, s):
    """(gradient, Hessian) of classes but the target with exponentials `e` and masses `w`."""
    p = e * s.inverse
    part = p * s.a
    g = part
    if flags.soft or flags.smooth:
        g = part - w * s.b
    if flags.residual:
        return g, _raised(_magnitude(g) * s.k, s.least)
    h = part * s.k * _complement(p, s.top)
    if flags.focal:
        share = e * s.others
        h = share * share * s.bend + h
    return g, _raised(h, s.least)


# Rows: classes in lanes -------------------------------------------------------------------------------------------


@inline
def _emit_vector(flags, way, o, row, hessian, j, n, base, scores, whole):
    """Write both results for the `n` classes from `j` on, relative to the shift `base`."""
    if way.kept:
        e = load(row.e, j) if whole or not way.direct else load_n(row.e, j, n, 0.0)
    else:
        x = load(row.source, j) if whole else load_n(row.source, j, n, 0.0)
        e = exp_by(row.exp, transform(flags, o, x) - base)
    g, h = _both(flags, e, masses(flags, o, row, j, n, e, whole), scores)
    if whole:
        store(row.out, j, g)
        store(hessian, j, h)
    else:
        store_n(row.out, j, n, g)
        store_n(hessian, j, n, h)


@inline
def _broadcast(like, s, change):
    """The Scores of a row in vectors of the computing dtype, for exponentials that are multiplied by `change`."""
    return Scores(
        splat(like, extract(s.a, 0)),
        splat(like, extract(s.b, 0)),
        splat(like, extract(s.at_target, 0)),
        splat(like, extract(s.inverse, 0) * change),
        splat(like, extract(s.k, 0)),
        splat(like, extract(s.least, 0)),
        splat(like, extract(s.top, 0)),
        splat(like, extract(s.bend, 0)),
        splat(like, extract(s.others, 0) * change),
        splat(like, extract(s.hessian, 0)),
    )


@inline
def _row(flags, way, o, params, row, hessian, up):
    """Reduce, score and emit one row."""
    state = reduce_row(flags, way, o, row)
    one, shift = splat(row.bases, 1.0), _scalar_shift(state.m)
    weight, d = one, 0.0
    if flags.hard:
        d = logit_of(flags, o, row, row.t) - shift
        if flags.weighted:
            weight = one * float(get(row.w, row.t))
    m, others, dot, mass = one * state.m, one * state.others, one * state.dot, one * state.mass
    scores, width = _scores(flags, o, params, one, m, others, dot, mass, one * d, weight, up), lanes_of(row.x)
    for begin in range(0, row.k, BLOCK):
        stop, j = min(begin + BLOCK, row.k), begin
        base = get(row.bases, begin // BLOCK) if way.kept else shift
        s = _broadcast(row.x, scores, 1.0 if base == shift else _scalar_exp(base - shift))
        while j + width <= stop:
            _emit_vector(flags, way, o, row, hessian, j, width, shift, s, True)
            j += width
        if j < stop:
            _emit_vector(flags, way, o, row, hessian, j, stop - j, shift, s, False)
    if flags.hard:
        put(row.out, row.t, extract(scores.at_target, 0))
        put(hessian, row.t, extract(scores.hessian, 0))


def rows(flags, way, out_kind, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Gradient and Hessian of each row of a chunk, classes in lanes; ignored rows have 0, or the bound."""
    kind, direct, gathered = COMPUTED[x_kind], way.direct, way.gathered
    read_kind, read_contiguous = (kind, True) if gathered else (x_kind, x_contiguous)

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = scratch(params, slot)
        w = ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True)
        factor, exp = ref_like(w, integer_at(params, P.GRAD_FACTOR)), exp_constants(w)
        for i in range(first, last):
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, out_kind, out_contiguous)
            hessian = row_ref(params, P.HESSIAN, P.OUT_STRIDES, i, out_kind, out_contiguous)
            e = out if direct else ref(kept, 0, kind, True)
            t = class_of(params, i) if flags.hard else -1
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            y = row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous)
            read = read_ref(params, i, read_kind, read_contiguous, gathered, address(e))
            blocks, step = ref(bases, 0, FLOAT64, True), integer_at(params, P.X_STRIDES + 1)
            row = Row(x, read, y, w, e, blocks, out, k, t, step, exp, x, x)
            if flags.hard and t < 0:
                fill(out, 0, k, 0.0)
                fill(hessian, 0, k, max(float_at(params, P.LEAST), 0.0))
            else:
                _row(flags, way, o, params, row, hessian, float(get(factor, i)) if flags.factors else 1.0)

    return jit.kernel(kernel)


# Tiles: rows in lanes ---------------------------------------------------------------------------------------------


@inline
def _emit_lanes(flags, way, o, tile, second, v, t, m, s):
    """Leave both results of the rows of vector number `v` in scratch: in place of logits, and in `second`."""
    base, w = _shift(m), m
    for j in range(tile.k):
        x = logits(tile, j, v)
        e = x if way.kept else exp_by(tile.exp, transform(flags, o, x) - base)
        if flags.soft or flags.smooth:
            w = lane_masses(flags, o, tile, j, v, x)
        g, h = _both(flags, e, w, s)
        if flags.hard:
            g, h = select(t == j, s.at_target, g), select(t == j, s.hessian, h)
            g, h = select(t > -1, g, 0.0), select(t > -1, h, _raised(splat(tile.buffer, 0.0), s.least))
        store(tile.buffer, slot(tile, j, v), g)
        store(second, slot(tile, j, v), h)


def lanes(flags, way, out_kind, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Gradient and Hessian of each tile of a chunk, rows in lanes; ignored rows have 0, or the bound."""
    kind = COMPUTED[x_kind]

    def kernel(params, chunk, slot_number):
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        w = ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True)
        exp, buffer = exp_constants(w), ref_like(w, scratch_of(params, slot_number))
        width, one = lanes_of(w), splat(w, 1.0)
        steps = integer_at(params, P.X_STRIDES + 2), integer_at(params, P.Y_STRIDES + 2)
        for number in range(first, last):
            outer, start, height = locate(params, number, width)
            x = tile_ref(params, P.X, P.X_STRIDES, outer, start, x_kind, x_contiguous)
            y = tile_ref(params, P.Y, P.Y_STRIDES, outer, start, y_kind, y_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, out_kind, out_contiguous)
            tile = Tile(x, y, out, steps[0], steps[1], integer_at(params, P.OUT_STRIDES + 2), w, buffer, k, height, exp)
            second = moved(buffer, 0, slot(tile, 0, integer_at(params, P.TILE)))
            pack(tile)
            for v in range((height + width - 1) // width):
                index = outer * integer_at(params, P.INNER) + start + v * width
                n = min(height - v * width, width)
                t = targets(flags, params, buffer, index, n)
                state, up = reduce_rows(flags, way, o, tile, v, t), one
                if flags.factors:
                    up = load_n(ref_like(w, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
                d, weight = state.d, state.weight
                s = _scores(flags, o, params, one, state.m, state.others, state.dot, state.mass, d, weight, up)
                _emit_lanes(flags, way, o, tile, second, v, t, state.m, s)
            unpack(tile)
            hessian = tile_ref(params, P.HESSIAN, P.OUT_STRIDES, outer, start, out_kind, out_contiguous)
            unpack(Tile(x, y, hessian, steps[0], steps[1], tile.out_class, w, second, k, height, exp))

    return jit.kernel(kernel)


# Rows in registers ------------------------------------------------------------------------------------------------


@inline
def _gradient(shared, j, x, p, y):
    scores = shared.scores
    g, _ = _both(shared.flags, p, class_masses(shared, j, x, y), scores)
    if shared.flags.hard:
        g = select(shared.t > -1, select(shared.t == j, scores.at_target, g), 0.0)
    return g


@inline
def _curvature(shared, j, x, p, y):
    scores = shared.scores
    _, h = _both(shared.flags, p, class_masses(shared, j, x, y), scores)
    if shared.flags.hard:
        none = _raised(splat(x, 0.0), scores.least)
        h = select(shared.t > -1, select(shared.t == j, scores.hessian, h), none)
    return h


def registers(flags, way, _out_kind, x_kind, y_kind, x_near, y_near, out_near):
    """Gradient and Hessian of each tile of a chunk, whose rows stay in registers."""
    kind, classes = COMPUTED[x_kind], way.classes
    x_contiguous, y_contiguous, out_contiguous = x_near > 0, y_near > 0, out_near > 0
    x_together, y_together, out_together = x_near > 1, y_near > 1, out_near > 1

    def kernel(params, chunk, slot_number):
        first, last = bounds(params, chunk)
        o, room = read_options(params), scratch_of(params, slot_number)
        w = ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True)
        exp, width, one = exp_constants(w), lanes_of(w), splat(w, 1.0)
        for number in range(first, last):
            outer, start, height = locate(params, number, width)
            for row in range(start, start + height, width):
                n, index = min(width, start + height - row), outer * integer_at(params, P.INNER) + row
                x = taken(params, P.X, P.X_STRIDES, outer, row, n, classes, x_kind, x_contiguous, x_together, room)
                y = x
                if flags.soft:
                    y = taken(params, P.Y, P.Y_STRIDES, outer, row, n, classes, y_kind, y_contiguous, y_together, room)
                t, m = targets(flags, params, w, index, n), transform(flags, o, maximum(x))
                shared = Shared(flags, o, w, exp, t, _shift(m), (m, m, m))
                p = mapped(exponential, shared, (x,))
                z, up = state(flags, o, m, folded(added_class, shared, no_sums(w), (x, p, y))), one
                if flags.factors:
                    up = load_n(ref_like(w, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
                s = _scores(flags, o, params, one, z.m, z.others, z.dot, z.mass, z.d, z.weight, up)
                shared = Shared(flags, o, w, exp, t, shared.base, s)
                g, h = mapped(_gradient, shared, (x, p, y)), mapped(_curvature, shared, (x, p, y))
                deliver(params, P.OUT, outer, row, g, n, classes, x_kind, out_contiguous, out_together, room)
                deliver(params, P.HESSIAN, outer, row, h, n, classes, x_kind, out_contiguous, out_together, room)

    return jit.kernel(kernel)

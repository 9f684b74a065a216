"""Classes in SIMD lanes: what is written of a row whose sums are known (`rows`), or of a part of it."""

from ..jit import inline
from ..simd.elementary import exp_by
from ..simd.hints import not_unrolled
from ..simd.lanes import lane_is
from ..simd.laws import scalar, vector
from ..simd.memory import get, lanes_of, load, load_n, put, store, store_n, stream, until_aligned
from ..simd.vectors import select, splat
from .common import emitted_mass, transform
from .constants import BLOCK
from .rows import INF, again, finite, masses, slope_is_kept

_shift, _exp = scalar["shift"], scalar["exp"]
_cap_slope = vector["cap_slope"]


@inline
def emit_vector(flags, way, o, row, j, n, base, a, b, at_target, whole):
    """Write ``A p_j - B w_j`` times the transform's slope for the `n` classes from `j` on.

    With the flag `entropy` w_j is ``p_j d_j``.
    """
    x = again(flags, row, j, n, whole)
    if way.kept:
        p = load(row.e, j) if whole or not way.direct else load_n(row.e, j, n, 0.0)
    else:
        p = exp_by(row.exp, transform(flags, o, x) - base)
    g = p * a
    if flags.soft or flags.smooth:
        g = g - emitted_mass(flags, x, masses(flags, o, row, j, n, x, whole)) * b
    if flags.entropy:
        g = g - p * finite(row, transform(flags, o, x) - base) * b
    if flags.cap and not slope_is_kept(flags, way):
        if flags.adjusted:
            raw = load(row.source, j) if whole else load_n(row.source, j, n, 0.0)
            g = select(x == -INF, g, g * _cap_slope(raw, 1.0 / o.cap))
        else:
            g = g * _cap_slope(x, 1.0 / o.cap)
    if way.streamed:
        g = select(lane_is(row.x, row.t - j), at_target, g)
    if not whole:
        store_n(row.out, j, n, g)
    elif way.streamed:
        stream(row.out, j, g)
    else:
        store(row.out, j, g)


@inline
def emit_block(flags, way, o, row, j, stop, base, a, b, at_target, short=False):
    """Write the gradient of a block, or of a row that is `short`; streamed stores begin at the first aligned address.

    `at_target` comes last, as one store: a mask for every vector costs a tenth.  Not so where stores are streamed: a
    plain store into a line that has just been streamed takes 250 ns, and a stream has time for masks.
    """
    first, width = j, lanes_of(row.x)
    n = min(until_aligned(row.out), stop - j) if way.streamed else 0
    if n > 0:
        emit_vector(flags, way, o, row, j, n, base, a, b, at_target, False)
        j += n
    while j + width <= stop:
        if short:
            not_unrolled()
        emit_vector(flags, way, o, row, j, width, base, a, b, at_target, True)
        j += width
    if j < stop:
        emit_vector(flags, way, o, row, j, stop - j, base, a, b, at_target, False)
    if not way.streamed and first <= row.t < stop:
        put(row.out, row.t, at_target)


@inline
def emit_row(flags, way, o, row, begin, end, m, a, b, at_target):
    """Write the gradient of a row's blocks from class `begin` to `end`.

    `a` (with 1/s), `b` and `at_target` include every factor but the softcap's slope, which `at_target` has too.
    """
    top = _shift(m)
    for j in range(begin, end, BLOCK):
        stop = min(j + BLOCK, end)
        # Kept exponentials are relative to their block's maximum, recomputed ones to the row's.
        base = get(row.bases, j // BLOCK) if way.kept else top
        change = 1.0 if base == top else _exp(base - top)
        share = b * change if flags.entropy else b
        emit_block(flags, way, o, row, j, stop, top, a * change, share, at_target)


@inline
def fill(r, j, k, value):
    """Write a number to the elements from `j` to `k`: to the results of an ignored row, whatever its logits are."""
    width, v = lanes_of(r), splat(r, value)
    while j + width <= k:
        store(r, j, v)
        j += width
    if j < k:
        store_n(r, j, k - j, v)


@inline
def emit_difference(flags, row, j, end, m, log_s, short=False):
    """Write ``(x_j - m) - log s`` of the classes from `j` to `end` of a row, which may be `short`."""
    width = lanes_of(row.x)
    while j + width <= end:
        if short:
            not_unrolled()
        store(row.out, j, again(flags, row, j, width, True) - m - log_s)
        j += width
    if j < end:
        store_n(row.out, j, end - j, again(flags, row, j, end - j, False) - m - log_s)


@inline
def infinite(x, k):
    """logsumexp of a row that holds +inf, whose sum is NaN whatever else it holds: the row is read again for a NaN."""
    for j in range(k):
        if get(x, j) != get(x, j):
            return get(x, j)
    return INF

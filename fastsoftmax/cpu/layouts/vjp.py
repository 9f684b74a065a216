"""The kernels of the vector-Jacobian products, for rows and for lanes: one sum over a row, then one elementwise pass.

softmax:      ``y_j (g_j - sum_i y_i g_i)``
log_softmax:  ``g_j - exp(y_j) sum_i g_i``

Upstream gradients have the storage kind of `y`, or that which it is computed in.
"""

from ...core.dtypes import LOG_SOFTMAX
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp
from ..simd.lanes import first_lanes, hsum
from ..simd.memory import lanes_of, load, load_n, ref, store, store_n
from ..simd.vectors import splat
from ..simd.words import integer_at
from .common import bounds, row_ref, tile_ref
from .constants import BLOCK
from .lanes import RUN, load_rows, locate, store_rows
from .rows import RUN as VECTORS


@inline
def _addend(logarithmic, y, g):
    return g if logarithmic else y * g


@inline
def _product(logarithmic, y, g, total):
    return g - exp(y) * total if logarithmic else y * (g - total)


@inline
def block_sum(logarithmic, y, g, j, k):
    """The sum over the block from class `j` on."""
    width, total, stop = lanes_of(y), splat(y, 0.0), min(j + BLOCK, k)
    while j + width <= stop:
        part, end = splat(y, 0.0), min(j + VECTORS * width, stop)
        while j + width <= end:
            part = part + _addend(logarithmic, load(y, j), load(g, j))
            j += width
        total = total + part
    if j < stop:
        n = stop - j
        total = total + first_lanes(_addend(logarithmic, load_n(y, j, n, 0.0), load_n(g, j, n, 0.0)), n)
    return hsum(total)


@inline
def _row_sum(logarithmic, y, g, k):
    """The sum over a row, through short blocks into float64."""
    result = 0.0
    for j in range(0, k, BLOCK):
        result += block_sum(logarithmic, y, g, j, k)
    return result


@inline
def emit_product(logarithmic, y, g, out, j, k, total):
    """Write the product of the classes from `j` to `k`."""
    width = lanes_of(y)
    while j + width <= k:
        store(out, j, _product(logarithmic, load(y, j), load(g, j), total))
        j += width
    if j < k:
        n = k - j
        store_n(out, j, n, _product(logarithmic, load_n(y, j, n, 0.0), load_n(g, j, n, 0.0), total))


def rows(_flags, _way, variant, kind, grad_kind, y_contiguous, g_contiguous, out_contiguous):
    """The product for each row of a chunk, classes in lanes."""
    logarithmic = variant == LOG_SOFTMAX

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        k = integer_at(params, P.CLASSES)
        for i in range(first, last):
            y = row_ref(params, P.X, P.X_STRIDES, i, kind, y_contiguous)
            g = row_ref(params, P.Y, P.Y_STRIDES, i, grad_kind, g_contiguous)
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, kind, out_contiguous)
            emit_product(logarithmic, y, g, out, 0, k, _row_sum(logarithmic, y, g, k))

    return jit.kernel(kernel)


@inline
def _lane_sum(logarithmic, y, g, y_class, g_class, k, v, n):
    """The sums over the rows of vector number `v`; short runs first, which keeps the error of long sums small."""
    total = splat(y, 0.0)
    for begin in range(0, k, RUN):
        part = splat(y, 0.0)
        for j in range(begin, min(begin + RUN, k)):
            part = part + _addend(logarithmic, load_rows(y, y_class, j, v, n), load_rows(g, g_class, j, v, n))
        total = total + part
    return total


def lanes(_flags, _way, variant, kind, grad_kind, y_contiguous, g_contiguous, out_contiguous):
    """The product for each tile of a chunk, rows in lanes."""
    logarithmic = variant == LOG_SOFTMAX

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        k = integer_at(params, P.CLASSES)
        steps = (
            integer_at(params, P.X_STRIDES + 2),
            integer_at(params, P.Y_STRIDES + 2),
            integer_at(params, P.OUT_STRIDES + 2),
        )
        for number in range(first, last):
            width = lanes_of(ref(0, 0, kind, True))
            outer, start, n = locate(params, number, width)
            y = tile_ref(params, P.X, P.X_STRIDES, outer, start, kind, y_contiguous)
            g = tile_ref(params, P.Y, P.Y_STRIDES, outer, start, grad_kind, g_contiguous)
            out = tile_ref(params, P.OUT, P.OUT_STRIDES, outer, start, kind, out_contiguous)
            for v in range((n + width - 1) // width):
                total = _lane_sum(logarithmic, y, g, steps[0], steps[1], k, v, n)
                for j in range(k):
                    yj, gj = load_rows(y, steps[0], j, v, n), load_rows(g, steps[1], j, v, n)
                    store_rows(out, steps[2], j, v, n, _product(logarithmic, yj, gj, total))

    return jit.kernel(kernel)

"""One matrix product cut into tiles, for passes in which all threads share a block of rows."""

from ...core.dtypes import FLOAT64
from .. import jit
from ..jit import inline
from ..layouts.common import copy
from ..simd.lanes import extract
from ..simd.memory import get, itemsize_of, lanes_of, load_n, moved, put, ref
from ..simd.vectors import splat
from ..simd.words import integer_at
from . import parameters as L
from .blas import multiply


@inline
def _at(address, leading, flipped, size, row, column):
    """The address of an element of a matrix that lies in memory as it is, or flipped."""
    return address + (row + column * leading if flipped else row * leading + column) * size


@inline
def _summed(a, leading, m, inner, sums):
    """Add the sums of the columns of a flipped A to float64 sums."""
    width = lanes_of(a)
    for j in range(0, m, 4 * width):
        stop = min(j + 4 * width, m)
        for i in range(j, stop, width):
            part, n = splat(a, 0.0), min(width, stop - i)
            for row in range(inner):
                part = part + load_n(moved(a, 0, row * leading), i, n, 0.0)
            for lane in range(n):
                put(sums, i + lane, get(sums, i + lane) + extract(part, lane))


def product(kind):
    """A tile of ``C = A B + beta C``, with a bias for each column of C, or the sums of each row of A on the way."""

    def kernel(params, chunk, slot):
        like = ref(0, 0, kind, True)
        size, inner = itemsize_of(like), integer_at(params, L.INNER)
        tile_m, tile_n = integer_at(params, L.TILE_M), integer_at(params, L.TILE_N)
        across = (integer_at(params, L.N) + tile_n - 1) // tile_n
        i, j = chunk // across * tile_m, chunk % across * tile_n
        m, n = min(tile_m, integer_at(params, L.M) - i), min(tile_n, integer_at(params, L.N) - j)
        a_leading, b_leading, c_leading = (
            integer_at(params, L.A_LEADING),
            integer_at(params, L.B_LEADING),
            integer_at(params, L.C_LEADING),
        )
        a_flipped, b_flipped = integer_at(params, L.A_FLIPPED), integer_at(params, L.B_FLIPPED)
        a = _at(integer_at(params, L.A), a_leading, a_flipped, size, i, 0)
        b = _at(integer_at(params, L.B), b_leading, b_flipped, size, 0, j)
        c = _at(integer_at(params, L.C), c_leading, 0, size, i, j)
        accumulate = integer_at(params, L.ACCUMULATE)
        if integer_at(params, L.PRODUCT_BIAS) != 0:
            bias = moved(ref(integer_at(params, L.PRODUCT_BIAS), 0, kind, True), 0, j)
            for row in range(m):
                copy(bias, moved(ref(c, 0, kind, True), 0, row * c_leading), n)
            accumulate = 1
        if integer_at(params, L.SUMS) != 0 and j == 0:
            sums = moved(ref(integer_at(params, L.SUMS), 0, FLOAT64, True), 0, i)
            _summed(ref(a, 0, kind, True), a_leading, m, inner, sums)
        gemm = integer_at(params, L.MULTIPLY)
        multiply(gemm, like, m, n, inner, a, a_leading, a_flipped, b, b_leading, b_flipped, accumulate, c, c_leading)

    return jit.kernel(kernel)

"""The pass over class indices that comes before everything else.

Numba does not check bounds: a label outside [0, K) that reached a kernel would be a read, and a write, somewhere else in
memory.  So every label is compared as an int64 here, before any of them is used as an index.
"""

from .. import jit
from ..spec import FLOAT64
from . import params as P
from .row_kernels import bounds
from .simd import get, integer_at, put_float, ref


def scan(weighted, factored):
    """Check the labels of a chunk and sum the weights of its rows that are not ignored.

    Writes two float64 numbers a chunk to RESULT: the number of the first bad row (-1: none), and the sum of the products
    of class weight (float64 here) and row weight (float64, LOSS_FACTOR), or the number of rows without weights.
    """
    source = jit.DIGEST

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        k, ignore = integer_at(params, P.CLASSES), integer_at(params, P.IGNORE_INDEX)
        target = integer_at(params, P.TARGET)
        weights = ref(integer_at(params, P.CLASS_WEIGHT), 0, FLOAT64, True)
        factors = ref(integer_at(params, P.LOSS_FACTOR), 0, FLOAT64, True)
        bad, total, count = 0, 0.0, 0
        for i in range(first, last):
            t = integer_at(target, i)
            used = t != ignore
            inside = 0 <= t < k
            bad |= used and not inside
            if weighted or factored:
                w = get(weights, t) if weighted and inside else 1.0
                w *= get(factors, i) if factored else 1.0
                total += w if used else 0.0
            else:
                count += used
        where = -1
        if bad:
            where = first
            while integer_at(target, where) == ignore or 0 <= integer_at(target, where) < k:
                where += 1
        put_float(integer_at(params, P.RESULT), 2 * chunk, float(where))
        put_float(integer_at(params, P.RESULT), 2 * chunk + 1, total + count)

    return jit.kernel(kernel)

"""The pass over class indices that comes before everything else.

Numba does not check bounds: a label outside [0, K) that reached a kernel would be a read, and a write, somewhere else
in memory.  So every label is compared as an int64 here, before any of them is used as an index.
"""

from numba import types

from .. import jit
from ..spec import FLOAT64
from . import params as P
from .common import bounds
from .memory import get, integer_at, put_float, ref


@jit.inline
def _scan(target, first, last, classes, ignore, weights, factors, weighted, factored):
    """(number of the first bad row or -1, sum of the weights of the rows that are not ignored)."""
    bad, total, count = 0, 0.0, 0
    for i in range(first, last):
        t = integer_at(target, i)
        used, inside = t != ignore, 0 <= t < classes
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
        while integer_at(target, where) == ignore or 0 <= integer_at(target, where) < classes:
            where += 1
    return where, total + count


def scan(weighted, factored):
    """Check the labels of a chunk, and sum the products of class weight and row weight (LOSS_FACTOR), both float64.

    Writes the two numbers of `_scan` as float64 to RESULT, for each chunk.
    """
    source = jit.DIGEST

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        weights = ref(integer_at(params, P.CLASS_WEIGHT), 0, FLOAT64, True)
        factors = ref(integer_at(params, P.LOSS_FACTOR), 0, FLOAT64, True)
        classes, ignore = integer_at(params, P.CLASSES), integer_at(params, P.IGNORE_INDEX)
        target = integer_at(params, P.TARGET)
        where, total = _scan(target, first, last, classes, ignore, weights, factors, weighted, factored)
        put_float(integer_at(params, P.RESULT), 2 * chunk, float(where))
        put_float(integer_at(params, P.RESULT), 2 * chunk + 1, total)

    return jit.kernel(kernel)


def _counted(target, rows, classes, ignore):
    none = ref(0, 0, FLOAT64, True)
    return _scan(target, 0, rows, classes, ignore, none, none, False, False)


#: ``count(address, rows, classes, ignore)``: the same for few labels without weights, called directly.
count = jit.driver(
    _counted, types.Tuple((types.int64, types.float64))(types.int64, types.int64, types.int64, types.int64)
)

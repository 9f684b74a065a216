"""The pass over class indices that comes before everything else.

Every label is compared as an int64 here, before anything is computed: a bad one is an error.  Kernels read labels once
more, which may be others by then; they keep within the arrays whatever they find (`common.class_of`).
"""

from numba import types

from ...core.dtypes import FLOAT64
from .. import jit
from .. import parameters as P
from ..simd.lanes import hsum
from ..simd.memory import get, lanes_of, load, ref
from ..simd.vectors import bits, select, splat, to_float
from ..simd.words import integer_at, label_at, put_float
from .common import bounds


@jit.inline
def count_valid(target, first, last, classes, ignore):
    """(number of rows that are not ignored, number of those whose label is a class), a vector at a time.

    Label by label it took 2 cycles each, which was 37 of the 290 microseconds of a loss of 65536 rows of 3 classes.
    """
    r = ref(target, 0, FLOAT64, True)  # read as float64, labels are integers as wide
    zero, one = bits(splat(r, 0.0)), bits(splat(r, 0.0)) + 1
    used, good = zero, zero
    stop = last - (last - first) % lanes_of(r)
    for i in range(first, stop, lanes_of(r)):
        t = bits(load(r, i))
        counts = t != ignore
        used = used + select(counts, one, zero)
        good = good + select(counts & (t > -1) & (t < classes), one, zero)
    count, inside = hsum(to_float(splat(r, 0.0), used)), hsum(to_float(splat(r, 0.0), good))
    for i in range(stop, last):
        t = label_at(target, i)
        count += t != ignore
        inside += t != ignore and 0 <= t < classes
    return count, inside


@jit.inline
def _weight(target, i, classes, ignore, weights, factors, weighted, factored):
    """(whether the label of row `i` is good, the weight that the row has; 0 if it is ignored)."""
    t = label_at(target, i)
    used, inside = t != ignore, 0 <= t < classes
    w = get(weights, t) if weighted and inside else 1.0
    w *= get(factors, i) if factored else 1.0
    return inside or not used, w if used else 0.0


@jit.inline
def _weighed(target, first, last, classes, ignore, weights, factors, weighted, factored):
    """(whether all labels are good, sum of the weights of the rows that count).

    In four sums: an addition that waits for the one before takes four cycles, which is more than the rest of a row.
    """
    good, a, b, c, d = True, 0.0, 0.0, 0.0, 0.0
    stop = last - (last - first) % 4
    for i in range(first, stop, 4):
        good0, w0 = _weight(target, i, classes, ignore, weights, factors, weighted, factored)
        good1, w1 = _weight(target, i + 1, classes, ignore, weights, factors, weighted, factored)
        good2, w2 = _weight(target, i + 2, classes, ignore, weights, factors, weighted, factored)
        good3, w3 = _weight(target, i + 3, classes, ignore, weights, factors, weighted, factored)
        good &= good0 & good1 & good2 & good3
        a, b, c, d = a + w0, b + w1, c + w2, d + w3
    for i in range(stop, last):
        good0, w0 = _weight(target, i, classes, ignore, weights, factors, weighted, factored)
        good, a = good & good0, a + w0
    return good, (a + b) + (c + d)


@jit.inline
def _first_bad(target, first, last, classes, ignore):
    """The number of the first bad row; -1 where there is none any more."""
    for i in range(first, last):
        t = label_at(target, i)
        if t != ignore and not 0 <= t < classes:
            return i
    return -1


@jit.inline
def _scan(target, first, last, classes, ignore, weights, factors, weighted, factored):
    """(number of the first bad row or -1, sum of the weights of the rows that are not ignored)."""
    if weighted or factored:
        good, total = _weighed(target, first, last, classes, ignore, weights, factors, weighted, factored)
    else:
        total, inside = count_valid(target, first, last, classes, ignore)
        good = total == inside
    return -1 if good else _first_bad(target, first, last, classes, ignore), total


def scan(weighted, factored):
    """Check the labels of a chunk, and sum the products of class weight and row weight (LOSS_FACTOR), both float64.

    Writes the two numbers of `_scan` as float64 to RESULT, for each chunk.
    """

    def kernel(params, chunk, slot):
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

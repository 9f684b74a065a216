"""The largest elements of each row, for predictions: a block that holds none of them is passed over by vectors."""

from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.lanes import hmax
from ..simd.memory import get, lanes_of, load, load_n, put, ref
from ..simd.vectors import select, splat
from ..simd.words import integer_at, put_integer
from .common import bounds

STRIDE = 128  # elements that are compared with the least of those that are kept, all at once
INF = float("inf")


@inline
def _larger(x, y):
    """Whether x comes before y: NaN is the largest, as in numpy.argmax."""
    return x > y or (x != x and y == y)


@inline
def _any_larger(x, j, stop, least):
    """Whether any element of a block comes before the least of those that are kept."""
    width, limit, one = lanes_of(x), splat(x, least), splat(x, 1.0)
    a = splat(x, 0.0)
    b = a
    while j + 2 * width <= stop:
        a, b = select(load(x, j) <= limit, a, one), select(load(x, j + width) <= limit, b, one)
        j += 2 * width
    while j < stop:
        a = select(load_n(x, j, min(width, stop - j), -INF) <= limit, a, one)
        j += width
    return hmax(a + b) > 0.0


@inline
def _insert(values, indices, count, x, j):
    """Put an element among the `count` sorted ones, after those that are not smaller."""
    place = count
    while place > 0 and _larger(x, get(values, place - 1)):
        place -= 1
    for i in range(count, place, -1):
        put(values, i, get(values, i - 1))
        put_integer(indices, i, integer_at(indices, i - 1))
    put(values, place, x)
    put_integer(indices, place, j)


def largest(kind):
    """The `TILE` largest elements of each row of a chunk to OUT, in falling order, and their numbers to RESULT.

    Of equal elements the first come first; NaN is the largest.  Rows are contiguous, one after the other.  Those with a
    TARGET to be ignored are not read, and get 0 and -1.
    """

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        n, k, size = integer_at(params, P.CLASSES), integer_at(params, P.TILE), integer_at(params, P.X_STRIDES + 2)
        for i in range(first, last):
            x = ref(integer_at(params, P.X) + i * n * size, 0, kind, True)
            values = ref(integer_at(params, P.OUT) + i * k * size, 0, kind, True)
            indices = integer_at(params, P.RESULT) + i * k * 8
            targets = integer_at(params, P.TARGET)
            if targets != 0 and integer_at(targets, i) == integer_at(params, P.IGNORE_INDEX):
                for j in range(k):
                    put(values, j, 0.0)
                    put_integer(indices, j, -1)
                continue
            for j in range(k):
                _insert(values, indices, j, get(x, j), j)
            for begin in range(k, n, STRIDE):
                stop = min(begin + STRIDE, n)
                least = get(values, k - 1)
                if least == least and _any_larger(x, begin, stop, least):
                    for j in range(begin, stop):
                        if _larger(get(x, j), get(values, k - 1)):
                            _insert(values, indices, k - 1, get(x, j), j)

    return jit.kernel(kernel)

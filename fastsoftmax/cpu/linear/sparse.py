"""Both products of a linear pass over sparse features: every value meets a row of the transposed weights.

The classes are in SIMD lanes.  CSR gives the values of one row after the other, CSC those of one column: there a thread
remembers for every column how far its rows have come.  Nothing is converted from one format to the other, and no row is
made dense.  Sizes of indices and widths of tiles are compile-time constants.

The structure was checked, and may have been changed since by another thread or process.  Each of its numbers is read
once and compared with what there is: any result may come of it, but no address outside of the arrays.
"""

from ..jit import inline
from ..simd.memory import lanes_of, moved, ref
from ..simd.words import index_at, integer_at, put_integer, within
from . import parameters as L
from .tiles import outer_step, read, write

WIDEST = 4  # vectors of classes in a tile


def tile_columns(classes, lanes):
    """The number of vectors of classes in a tile: 1, 2 or 4."""
    vectors = -(-classes // lanes)
    return vectors if vectors <= 2 else WIDEST


@inline
def _values(params, line, size):
    """(first, last + 1) of the numbers of the values of a row (CSR) or column (CSC), among those that are stored."""
    starts = integer_at(params, L.STARTS)
    first, last = index_at(starts, line, size), index_at(starts, line + 1, size)
    return max(first, 0), min(last, integer_at(params, L.STORED))


@inline
def _place(index, i):
    """The place that row number `i` of a block goes to; -1 if nowhere, as one before the block."""
    if i < 0:
        return -1
    return integer_at(index, i) if index != 0 else i


@inline
def csr_logits(params, kind, size, columns, rows, index, start, z):
    """``X Wᵀ + b`` for the `rows` rows from number `start` on, or for those listed at `index` if that is not 0."""
    like, n = ref(z, 0, kind, True), integer_at(params, L.LOGITS)
    w, values = ref(integer_at(params, L.WEIGHT), 0, kind, True), ref(integer_at(params, L.X), 0, kind, True)
    bias, indices, features = integer_at(params, L.BIAS), integer_at(params, L.INDICES), integer_at(params, L.FEATURES)
    for first in range(0, n, columns * lanes_of(like)):
        left = min(n - first, columns * lanes_of(like))
        for i in range(rows):
            row = integer_at(index, i) if index != 0 else start + i
            sums = read(ref(bias, 0, kind, True), 0, first, left if bias != 0 else 0, columns, 1)
            begin, end = _values(params, row, size)
            for p in range(begin, end):
                j = index_at(indices, p, size)
                if within(j, features):
                    sums = outer_step(sums, moved(w, 0, j * n), first, left, values, 0, p, columns, 1)
            write(sums, moved(like, 0, i * n), 0, first, left, columns, 1)


@inline
def csr_gradient(params, kind, size, columns, rows, index, start, z, grads):
    """Add ``Xᵀ G``, which is (features, classes); the logits' places hold G."""
    like, n, step = ref(z, 0, kind, True), integer_at(params, L.CLASSES), integer_at(params, L.LOGITS)
    out, values = ref(grads, 0, kind, True), ref(integer_at(params, L.X), 0, kind, True)
    indices, features = integer_at(params, L.INDICES), integer_at(params, L.FEATURES)
    for first in range(0, n, columns * lanes_of(like)):
        left = min(n - first, columns * lanes_of(like))
        for i in range(rows):
            row, g = integer_at(index, i) if index != 0 else start + i, moved(like, 0, i * step)
            begin, end = _values(params, row, size)
            for p in range(begin, end):
                j = index_at(indices, p, size)
                if within(j, features):
                    here = moved(out, 0, j * n)
                    sums = read(here, 0, first, left, columns, 1)
                    write(outer_step(sums, g, first, left, values, 0, p, columns, 1), here, 0, first, left, columns, 1)


@inline
def csc_begin(params, size, cursors, row):
    """For every column, the number of its first value in a row from `row` on; indices are sorted."""
    indices = integer_at(params, L.INDICES)
    for j in range(integer_at(params, L.FEATURES)):
        low, high = _values(params, j, size)
        while low < high:
            middle = (low + high) // 2
            if index_at(indices, middle, size) < row:
                low = middle + 1
            else:
                high = middle
        put_integer(cursors, j, low)


@inline
def csc_logits(params, kind, size, columns, rows, index, start, stop, z, cursors):
    """``X Wᵀ + b`` of the rows from `start` to `stop`; `index` (if not 0) says at which place each goes, or -1."""
    like, n = ref(z, 0, kind, True), integer_at(params, L.LOGITS)
    w, values = ref(integer_at(params, L.WEIGHT), 0, kind, True), ref(integer_at(params, L.X), 0, kind, True)
    bias, indices = integer_at(params, L.BIAS), integer_at(params, L.INDICES)
    for first in range(0, n, columns * lanes_of(like)):
        left = min(n - first, columns * lanes_of(like))
        sums = read(ref(bias, 0, kind, True), 0, first, left if bias != 0 else 0, columns, 1)
        for i in range(rows):
            write(sums, moved(like, 0, i * n), 0, first, left, columns, 1)
        for j in range(integer_at(params, L.FEATURES)):
            p, last, here = integer_at(cursors, j), _values(params, j, size)[1], moved(w, 0, j * n)
            while p < last:
                row = index_at(indices, p, size)
                if row >= stop:
                    break
                place = _place(index, row - start)
                if place >= 0:
                    line = moved(like, 0, place * n)
                    sums = read(line, 0, first, left, columns, 1)
                    write(
                        outer_step(sums, here, first, left, values, 0, p, columns, 1), line, 0, first, left, columns, 1
                    )
                p += 1


@inline
def csc_gradient(params, kind, size, columns, index, start, stop, z, grads, cursors):
    """Add ``Xᵀ G``, which is (features, classes); the logits' places hold G."""
    like, n, step = ref(z, 0, kind, True), integer_at(params, L.CLASSES), integer_at(params, L.LOGITS)
    out, values = ref(grads, 0, kind, True), ref(integer_at(params, L.X), 0, kind, True)
    indices = integer_at(params, L.INDICES)
    for first in range(0, n, columns * lanes_of(like)):
        left = min(n - first, columns * lanes_of(like))
        for j in range(integer_at(params, L.FEATURES)):
            p, last, here = integer_at(cursors, j), _values(params, j, size)[1], moved(out, 0, j * n)
            sums = read(here, 0, first, left, columns, 1)
            while p < last:
                row = index_at(indices, p, size)
                if row >= stop:
                    break
                place = _place(index, row - start)
                if place >= 0:
                    sums = outer_step(sums, moved(like, 0, place * step), first, left, values, 0, p, columns, 1)
                p += 1
            write(sums, here, 0, first, left, columns, 1)


@inline
def csc_advance(params, size, stop, cursors):
    """Let every column's cursor pass the rows before `stop`."""
    indices = integer_at(params, L.INDICES)
    for j in range(integer_at(params, L.FEATURES)):
        p, last = integer_at(cursors, j), _values(params, j, size)[1]
        while p < last and index_at(indices, p, size) < stop:
            p += 1
        put_integer(cursors, j, p)

"""Squares of rows and classes in registers: transposed, or reduced to one number a row."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .half import widen
from .memory import as_cells, cells_of, load_ir, masked, pointer_to
from .vectors import I8, I32, I64, call


def _exchanged(builder, a, b, distance):
    """Two vectors whose lanes `distance` apart are exchanged: those of `b` without the bit for those of `a` with it."""
    n = a.type.count
    low = [k - distance + n if k & distance else k for k in range(n)]
    high = [k + n if k & distance else k + distance for k in range(n)]
    return [builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, n), pattern)) for pattern in (low, high)]


def _transposed(builder, rows):
    """A square of vectors with rows and columns exchanged: log2(n) rounds of two-vector shuffles."""
    n, rows = len(rows), list(rows)
    distance = 1
    while distance < n:
        for i in range(n):
            if not i & distance:
                rows[i], rows[i + distance] = _exchanged(builder, rows[i], rows[i + distance], distance)
        distance *= 2
    return rows


def _make_reduced(combine):
    """An intrinsic that combines the lanes of each line of a square: ``f(r, index)`` of the lines from an element on.

    Lane k of the result is that of line k.  Each round halves the number of vectors, so that a line costs three
    instructions, where halving a vector again and again costs ten that wait for each other.
    """

    @intrinsic
    def reduced(_typing, r, index):
        n = r.vec.lanes

        def emit(_context, builder, _sig, args):
            rows = [load_ir(builder, r, args[0], builder.add(args[1], I64(n * k))) for k in range(n)]
            distance = 1
            while len(rows) > 1:
                pairs = zip(rows[::2], rows[1::2], strict=True)
                rows = [combine(builder, *_exchanged(builder, a, b, distance)) for a, b in pairs]
                distance *= 2
            return rows[0]

        return r.vec(r, types.int64), emit

    return reduced


line_sums = _make_reduced(lambda builder, a, b: builder.fadd(a, b))
#: Of numbers: those who call it keep NaNs out.
line_maxima = _make_reduced(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def transpose_in(_typing, buffer, slot, line, r, row, j, n):
    """Copy `n` classes from number `j` on, of a whole vector of rows from number `row` on, to vectors in `buffer`.

    `r` steps from row to row and classes are contiguous.  One vector a class is written from element `slot` on, `line`
    elements apart; those past the `n`-th are junk.
    """
    lanes = r.vec.lanes

    def emit(context, builder, sig, args):
        value, slot, line, source, row, j, n = args
        live, name = masked(builder, r, n)
        blank = ir.Constant(cells_of(r), None)
        offset = builder.mul(j, I64(r.itemsize))
        rows = []
        for k in range(lanes):
            start = pointer_to(builder, r, source, builder.add(row, I64(k)), I8)
            pointer = builder.bitcast(builder.gep(start, [offset]), cells_of(r).as_pointer())
            cells = call(builder, f"llvm.masked.load.{name}", cells_of(r), [pointer, I32(1), live, blank])
            rows.append(widen(builder, r, cells))
        for k, column in enumerate(_transposed(builder, rows)):
            where = builder.add(slot, builder.mul(line, I64(k)))
            builder.store(column, pointer_to(builder, buffer, value, where, buffer.vec.llvm), align=4)
        return context.get_dummy_value()

    return types.void(buffer, types.int64, types.int64, r, types.int64, types.int64, types.int64), emit


@intrinsic
def transpose_out(_typing, buffer, slot, r, row, j, n):
    """The way back of `transpose_in`."""
    lanes = buffer.vec.lanes

    def emit(context, builder, sig, args):
        value, slot, target, row, j, n = args
        live, name = masked(builder, r, n, lanes)
        offset = builder.mul(j, I64(r.itemsize))
        columns = []
        for k in range(lanes):
            where = builder.add(slot, I64(k * lanes))
            columns.append(builder.load(pointer_to(builder, buffer, value, where, buffer.vec.llvm), align=4))
        for k, line in enumerate(_transposed(builder, columns)):
            start = pointer_to(builder, r, target, builder.add(row, I64(k)), I8)
            cells = as_cells(builder, r, line)
            pointer = builder.bitcast(builder.gep(start, [offset]), cells.type.as_pointer())
            call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [cells, pointer, I32(1), live])
        return context.get_dummy_value()

    return types.void(buffer, types.int64, r, types.int64, types.int64, types.int64), emit

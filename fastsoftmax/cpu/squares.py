"""Transposition of squares of rows and classes in registers: a quarter of the instructions of element-wise gathers."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .half import narrow, widen
from .memory import cells_of, masked, pointer_to
from .simd import I8, I32, I64, call


def _transposed(builder, rows):
    """A square of vectors with rows and columns exchanged: log2(n) rounds of two-vector shuffles."""
    n, rows = len(rows), list(rows)
    distance = 1
    while distance < n:
        low = [k - distance + n if k & distance else k for k in range(n)]
        high = [k + n if k & distance else k + distance for k in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), pattern) for pattern in (low, high)]
        for i in range(n):
            if not i & distance:
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        distance *= 2
    return rows


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
    lanes = r.vec.lanes

    def emit(context, builder, sig, args):
        value, slot, target, row, j, n = args
        live, name = masked(builder, r, n)
        offset = builder.mul(j, I64(r.itemsize))
        columns = []
        for k in range(lanes):
            where = builder.add(slot, I64(k * lanes))
            columns.append(builder.load(pointer_to(builder, buffer, value, where, buffer.vec.llvm), align=4))
        for k, line in enumerate(_transposed(builder, columns)):
            start = pointer_to(builder, r, target, builder.add(row, I64(k)), I8)
            pointer = builder.bitcast(builder.gep(start, [offset]), cells_of(r).as_pointer())
            call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [narrow(builder, r, line), pointer, I32(1), live])
        return context.get_dummy_value()

    return types.void(buffer, types.int64, r, types.int64, types.int64, types.int64), emit

"""Single numbers at addresses, which parameters, labels and partial sums are read and written by."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .lanes import live_mask
from .vectors import I32, I64, call, integers_like, splat_ir

F64 = ir.DoubleType()


def _pointer(builder, address, index, word, size=8):
    """A pointer to word number `index` of those that begin at an address."""
    return builder.inttoptr(builder.add(address, builder.mul(index, I64(size))), word.as_pointer())


def _read(number, word):
    """The type and the code of a function that reads number `index` at an address."""
    return number(types.int64, types.int64), lambda _c, builder, _s, args: builder.load(
        _pointer(builder, *args, word), align=8
    )


def _write(number, word):
    """The type and the code of a function that writes number `index` at an address."""

    def emit(context, builder, _sig, args):
        builder.store(args[2], _pointer(builder, *args[:2], word), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, number), emit


@intrinsic
def integer_at(_typing, address, index):
    """The int64 number `index` at an address."""
    return _read(types.int64, I64)


@intrinsic
def float_at(_typing, address, index):
    """The float64 number `index` at an address."""
    return _read(types.float64, F64)


@intrinsic
def floats_at(_typing, address, index, fields):
    """The float64 numbers from number `index` on at an address, as a NamedTuple of the class `fields`."""
    count = len(fields.instance_class._fields)
    numbers = types.NamedUniTuple(types.float64, count, fields.instance_class)

    def emit(context, builder, _sig, args):
        indices = [builder.add(args[1], I64(i)) for i in range(count)]
        values = [builder.load(_pointer(builder, args[0], index, F64), align=8) for index in indices]
        return context.make_tuple(builder, numbers, values)

    return numbers(types.int64, types.int64, fields), emit


@intrinsic
def put_integer(_typing, address, index, x):
    """Write the int64 number `index` at an address."""
    return _write(types.int64, I64)


@intrinsic
def put_float(_typing, address, index, x):
    """Write the float64 number `index` at an address."""
    return _write(types.float64, F64)


@intrinsic
def put_truth(_typing, address, index, x):
    """Write the bool number `index` at an address."""

    def emit(context, builder, _sig, args):
        byte = builder.zext(context.cast(builder, args[2], x, types.boolean), ir.IntType(8))
        builder.store(byte, _pointer(builder, *args[:2], ir.IntType(8), 1), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, x), emit


@intrinsic
def label_at(_typing, address, index):
    """The int64 label number `index` at an address, read once: atomically, as somebody may be writing it.

    A plain load of what changes meanwhile may be one value where it is compared, and another where it is used.
    """
    return types.int64(types.int64, types.int64), lambda _c, builder, _s, args: builder.load_atomic(
        _pointer(builder, *args, I64), "monotonic", 8
    )


@intrinsic(prefer_literal=True)
def index_at(_typing, address, index, size):
    """The integer number `index`, of `size` bytes (4 or 8, a constant), at an address, as an int64."""
    width = size.literal_value

    def emit(_context, builder, _sig, args):
        pointer = _pointer(builder, *args[:2], ir.IntType(8 * width), width)
        return builder.sext(builder.load(pointer, align=1), I64)

    return types.int64(types.int64, types.int64, size), emit


@intrinsic
def within(_typing, index, count):
    """Whether ``0 <= index < count``, in one comparison."""
    return types.boolean(types.int64, types.int64), lambda _c, builder, _s, args: builder.icmp_unsigned("<", *args)


@intrinsic
def quotient(_typing, a, b):
    """``a // b`` of integers that are not negative: Numba's own has a dozen instructions besides the division."""
    return types.int64(types.int64, types.int64), lambda _c, builder, _s, args: builder.udiv(*args)


@intrinsic
def fence(_typing):
    """Order this thread's streamed stores before whatever it does next."""

    def emit(context, builder, _sig, _args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def labels(_typing, like, address, index, n, ignore):
    """The first `n` of the int64 labels from number `index` on, as integer lanes that go with the floats of `like`.

    Labels equal to `ignore`, and the lanes past `n`, become -1.  The comparison is done before the labels are narrowed.
    """
    ints, lanes = integers_like(like.vec), like.vec.lanes
    wide = ir.VectorType(I64, lanes)
    none = ir.Constant(wide, [-1] * lanes)

    def emit(_context, builder, _sig, args):
        _, address, index, n, ignore = args
        where = builder.add(address, builder.mul(index, I64(8)))
        arguments = [builder.inttoptr(where, wide.as_pointer()), I32(8), live_mask(builder, lanes, n), none]
        loaded = call(builder, f"llvm.masked.load.v{lanes}i64.p0", wide, arguments)
        ignored = builder.icmp_signed("==", loaded, splat_ir(builder, ignore, wide))
        loaded = builder.select(ignored, none, loaded)
        return loaded if ints.dtype is types.int64 else builder.trunc(loaded, ints.llvm)

    return ints(like, types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def put_lanes(_typing, address, index, n, x):
    """Write the first `n` lanes of a vector at an address, from number `index` on: integers as int64, masks as bool."""
    cell = ir.IntType(8) if x.dtype is types.boolean else I64

    def emit(context, builder, _sig, args):
        address, index, n, x_value = args
        wide = ir.VectorType(cell, x.lanes)
        cells = x_value if x_value.type == wide else (builder.zext if cell is not I64 else builder.sext)(x_value, wide)
        pointer = _pointer(builder, address, index, cell, cell.width // 8)
        with builder.if_else(builder.icmp_signed("==", n, I64(x.lanes))) as (whole, part):
            with whole:
                builder.store(cells, builder.bitcast(pointer, wide.as_pointer()), align=1)
            with part, cgutils.for_range(builder, n) as loop:
                builder.store(builder.extract_element(cells, loop.index), builder.gep(pointer, [loop.index]), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, x), emit

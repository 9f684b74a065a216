"""Explicit SIMD for Numba: a vector type, and references to rows in memory that load and store it.

``Vec(float32, 16)`` is an LLVM ``<16 x float>``: LLVM keeps it in one AVX-512 register and splits it for narrower
machines.  Autovectorisation is not enough here: it gives up on calls to ``exp``, on ``max``, and wherever input and
output may alias (in place it was 7 times slower).

``Ref(storage, contiguous)`` is an address and a step in bytes.  It reads vectors of the type that is computed with
(float32 for the half types) and converts on the way, so that kernels are written once for every dtype and stride.
Addresses carry no alignment: an unaligned vector access costs nothing on the machines that matter.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

from ..spec import BFLOAT16, FLOAT32, ITEMSIZE

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
BYTES = 64  # of a vector of the computing type: one cache line, one AVX-512 register

_COMPUTE = (types.float32, types.float32, types.float32, types.float64)
_CELL = (I16, I16, ir.FloatType(), ir.DoubleType())
_LLVM = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: I32,
    types.int64: I64,
    types.boolean: I1,
}


class Vec(types.Type):
    """A SIMD vector of `lanes` elements of `dtype`; comparisons give a Vec of booleans."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vec({dtype}x{lanes})")

    @property
    def llvm(self):
        return ir.VectorType(_LLVM[self.dtype], self.lanes)


class Ref(types.Type):
    """Elements of one storage kind, a fixed number of bytes apart (an element's own size when contiguous)."""

    def __init__(self, storage, contiguous):
        self.storage, self.contiguous = storage, contiguous
        self.dtype = _COMPUTE[storage]
        self.cell = _CELL[storage]
        self.itemsize = ITEMSIZE[storage]
        self.vec = Vec(self.dtype, BYTES // (self.dtype.bitwidth // 8))
        super().__init__(f"Ref({storage},{contiguous})")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm)


@register_model(Ref)
class _RefModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.LiteralStructType([I64, I64]))


# Arithmetic -------------------------------------------------------------------------------------------------------


def _splat(builder, value, llvm):
    one = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, llvm.count), None))


def _as(context, builder, value, ty, vec):
    """`value` as a vector like `vec`: scalars are converted and copied into every lane."""
    if isinstance(ty, Vec):
        return value
    return _splat(builder, context.cast(builder, value, ty, vec.dtype), vec.llvm)


def _vector_of(*tys):
    vecs = {ty for ty in tys if isinstance(ty, Vec)}
    numbers = all(isinstance(ty, Vec | types.Number | types.Literal) for ty in tys)
    return vecs.pop() if len(vecs) == 1 and numbers else None


def _floating(vec):
    return isinstance(vec.dtype, types.Float)


def _operator(op, result, emit):
    @type_callable(op)
    def _(_context):
        def typer(a, b):
            vec = _vector_of(a, b)
            return vec and result(vec)

        return typer

    def lower(context, builder, sig, args):
        vec = _vector_of(*sig.args)
        a, b = (_as(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True))
        return emit(builder, vec, a, b)

    for pair in ((Vec, Vec), (Vec, types.Number), (types.Number, Vec)):
        lower_builtin(op, *pair)(lower)


def _arithmetic(op, floating, integer):
    def emit(builder, vec, a, b):
        return getattr(builder, floating if _floating(vec) else integer)(a, b)

    _operator(op, lambda vec: vec, emit)


def _comparison(op, symbol):
    def emit(builder, vec, a, b):
        if not _floating(vec):
            return builder.icmp_signed(symbol, a, b)
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, a, b)

    _operator(op, lambda vec: Vec(types.boolean, vec.lanes), emit)


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")
_arithmetic(operator.truediv, "fdiv", "sdiv")
_arithmetic(operator.and_, "and_", "and_")
_arithmetic(operator.lshift, "shl", "shl")
_arithmetic(operator.rshift, "ashr", "ashr")
for _op, _symbol in ((operator.lt, "<"), (operator.gt, ">"), (operator.eq, "=="), (operator.ne, "!=")):
    _comparison(_op, _symbol)


@type_callable(operator.neg)
def _(_context):
    return lambda a: a if isinstance(a, Vec) and _floating(a) else None


@lower_builtin(operator.neg, Vec)
def _negate(_context, builder, _sig, args):
    return builder.fneg(args[0])


def _call(builder, name, result, args):
    fnty = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), args)


def _suffix(vec):
    return f"v{vec.lanes}f{vec.dtype.bitwidth}"


@intrinsic
def splat(_typing, like, value):
    """`value` in every lane of a vector like `like` (a Vec, or a Ref that loads such vectors)."""
    vec = like.vec if isinstance(like, Ref) else like

    def emit(context, builder, sig, args):
        return _as(context, builder, args[1], sig.args[1], vec)

    return vec(like, value), emit


@intrinsic
def fma(_typing, a, b, c):
    """``a * b + c``, fused where the machine fuses: `llvm.fma` would be a libm call on plain x86-64, 20 times slower."""
    vec = _vector_of(a, b, c)

    def emit(context, builder, sig, args):
        ops = [_as(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True)]
        return _call(builder, f"llvm.fmuladd.{_suffix(vec)}", vec.llvm, ops)

    return vec(a, b, c), emit


@intrinsic
def select(_typing, mask, a, b):
    """``a`` in the lanes where `mask` is true, ``b`` in the others."""
    vec = _vector_of(a, b)

    def emit(context, builder, sig, args):
        yes, no = (_as(context, builder, v, t, vec) for v, t in zip(args[1:], sig.args[1:], strict=True))
        return builder.select(args[0], yes, no)

    return vec(mask, a, b), emit


@intrinsic
def pick(_typing, like, single, double):
    """The constant that belongs to the precision of `like`, in every lane."""
    chosen = 1 if like.dtype is types.float32 else 2

    def emit(context, builder, sig, args):
        return _as(context, builder, args[chosen], sig.args[chosen], like)

    return like(like, single, double), emit


@intrinsic
def horner(_typing, x, single, double):
    """The polynomial in `x` with the coefficients (highest power first) of its precision."""
    chosen = 1 if x.dtype is types.float32 else 2

    def emit(context, builder, sig, args):
        def coefficient(i):
            value = builder.extract_value(args[chosen], i)
            return _as(context, builder, value, types.float64, x)

        acc = coefficient(0)
        for i in range(1, len(sig.args[chosen])):
            acc = _call(builder, f"llvm.fmuladd.{_suffix(x)}", x.llvm, [acc, args[0], coefficient(i)])
        return acc

    return x(x, single, double), emit


def _integers(vec):
    return Vec(types.int32 if vec.dtype.bitwidth == 32 else types.int64, vec.lanes)


@intrinsic
def bits(_typing, x):
    """The bit patterns of a float vector, as integers of the same width."""
    ints = _integers(x)
    return ints(x), lambda _c, builder, _s, args: builder.bitcast(args[0], ints.llvm)


@intrinsic
def from_bits(_typing, like, x):
    """The float vector like `like` with the bit patterns `x`."""
    return like(like, x), lambda _c, builder, _s, args: builder.bitcast(args[1], like.llvm)


@intrinsic
def mantissa_bits(_typing, like):
    """Where the exponent field of a float begins: 23 or 52, as lanes of integers."""
    ints = _integers(like)
    count = 23 if like.dtype is types.float32 else 52
    return ints(like), lambda *_: ir.Constant(ints.llvm, [count] * like.lanes)


@intrinsic
def scalef(_typing, x, n):
    """``x * 2**n`` for whole n, correctly rounded, on machines with AVX-512."""
    kind, lanes = ("ps", 16) if x.dtype is types.float32 else ("pd", 8)

    def emit(_context, builder, _sig, args):
        mask = ir.Constant(ir.IntType(lanes), -1)
        ops = [*args, ir.Constant(x.llvm, None), mask, I32(4)]  # all lanes; round as the machine is set to
        return _call(builder, f"llvm.x86.avx512.mask.scalef.{kind}.512", x.llvm, ops)

    return x(x, n), emit


@intrinsic
def to_float(_typing, like, x):
    """The integers `x` converted to floats like `like`."""
    return like(like, x), lambda _c, builder, _s, args: builder.sitofp(args[1], like.llvm)


@intrinsic
def extract(_typing, x, lane):
    """One lane of a vector, as a scalar."""
    return x.dtype(x, lane), lambda _c, builder, _s, args: builder.extract_element(args[0], args[1])


@intrinsic
def hsum(_typing, x):
    """The sum of all lanes, accumulated in float64 by halving: a fixed order, whatever the machine."""

    def emit(_context, builder, _sig, args):
        v, n = args[0], x.lanes
        if x.dtype is types.float32:
            v = builder.fpext(v, ir.VectorType(ir.DoubleType(), n))
        while n > 1:
            n //= 2
            low, high = (
                builder.shuffle_vector(v, v, ir.Constant(ir.VectorType(I32, n), list(range(k, k + n)))) for k in (0, n)
            )
            v = builder.fadd(low, high)
        return builder.extract_element(v, I32(0))

    return types.float64(x), emit


@intrinsic
def hmax(_typing, x):
    """The largest lane; NaNs do not count (they come back through the sum)."""

    def emit(_context, builder, _sig, args):
        v, n = args[0], x.lanes
        while n > 1:
            n //= 2
            low, high = (
                builder.shuffle_vector(v, v, ir.Constant(ir.VectorType(I32, n), list(range(k, k + n)))) for k in (0, n)
            )
            v = builder.select(builder.fcmp_ordered(">", low, high), low, high)
        return builder.extract_element(v, I32(0))

    return x.dtype(x), emit


def _live(builder, lanes, n):
    """The mask of the first `n` lanes."""
    index = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, _splat(builder, n, index.type))


@intrinsic
def first_lanes(_typing, x, n):
    """`x` in its first `n` lanes and 0 in the others."""

    def emit(context, builder, sig, args):
        n = context.cast(builder, args[1], sig.args[1], types.int64)
        return builder.select(_live(builder, x.lanes, n), args[0], ir.Constant(x.llvm, None))

    return x(x, n), emit


@intrinsic
def lane_is(_typing, reference, lane):
    """The mask that is true in lane number `lane` only (nowhere when it is out of the vector but in 32 bits)."""
    like = reference.vec if isinstance(reference, Ref) else reference
    mask = Vec(types.boolean, like.lanes)

    def emit(context, builder, sig, args):
        index = ir.Constant(_integers(like).llvm, list(range(like.lanes)))
        lane = context.cast(builder, args[1], sig.args[1], _integers(like).dtype)
        return builder.icmp_signed("==", index, _splat(builder, lane, index.type))

    return mask(reference, lane), emit


@intrinsic
def lanes_of(_typing, r):
    """How many elements a vector loaded from `r` has."""
    return types.int64(r), lambda *_: I64(r.vec.lanes)


# Memory -----------------------------------------------------------------------------------------------------------


def _pair(builder, base, step):
    empty = ir.Constant(ir.LiteralStructType([I64, I64]), ir.Undefined)
    return builder.insert_value(builder.insert_value(empty, base, 0), step, 1)


@intrinsic(prefer_literal=True)
def ref(_typing, address, step, storage, contiguous):
    """A reference to elements of kind `storage` at `address`, `step` bytes apart."""
    if not isinstance(storage, types.Literal) or not isinstance(contiguous, types.Literal):
        return None
    ty = Ref(storage.literal_value, bool(contiguous.literal_value))

    def emit(context, builder, sig, args):
        base, step = (context.cast(builder, v, t, types.int64) for v, t in zip(args[:2], sig.args[:2], strict=True))
        return _pair(builder, base, I64(ty.itemsize) if ty.contiguous else step)

    return ty(address, step, storage, contiguous), emit


@intrinsic
def moved(_typing, r, offset, elements):
    """The same reference `offset` bytes and `elements` elements further on."""

    def emit(_context, builder, _sig, args):
        base, step = (builder.extract_value(args[0], k) for k in (0, 1))
        step = I64(r.itemsize) if r.contiguous else step
        base = builder.add(builder.add(base, args[1]), builder.mul(args[2], step))
        return builder.insert_value(args[0], base, 0)

    return r(r, types.int64, types.int64), emit


@intrinsic
def ref_like(_typing, like, address):
    """A contiguous reference of the same storage kind at another address."""
    ty = Ref(like.storage, True)

    def emit(_context, builder, _sig, args):
        return _pair(builder, args[1], I64(ty.itemsize))

    return ty(like, types.int64), emit


@intrinsic
def until_aligned(_typing, r):
    """How many elements lie before the first address that is a multiple of a vector's size in storage."""

    def emit(_context, builder, _sig, args):
        size = r.vec.lanes * r.itemsize
        behind = builder.neg(builder.extract_value(args[0], 0))
        return builder.udiv(builder.and_(behind, I64(size - 1)), I64(r.itemsize))

    return types.int64(r), emit


@intrinsic
def fence(_typing):
    """Order this thread's streamed stores before whatever it does next."""

    def emit(context, builder, _sig, _args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


def _pointer(builder, r, value, index, llvm):
    base, step = (builder.extract_value(value, k) for k in (0, 1))
    step = I64(r.itemsize) if r.contiguous else step
    return builder.inttoptr(builder.add(base, builder.mul(index, step)), llvm.as_pointer())


def _widen(builder, r, cells):
    """Storage cells to the type that is computed with: exact, and without the libm calls that `fpext half` may need."""
    if r.storage >= FLOAT32:
        return cells
    ints = ir.VectorType(I32, cells.type.count) if isinstance(cells.type, ir.VectorType) else I32
    floats = ir.VectorType(ir.FloatType(), ints.count) if ints is not I32 else ir.FloatType()

    def const(v):
        return ir.Constant(ints, [v] * ints.count) if ints is not I32 else I32(v)

    wide = builder.zext(cells, ints)
    if r.storage == BFLOAT16:
        return builder.bitcast(builder.shl(wide, const(16)), floats)
    # Exponent and mantissa moved into place, then 2**112 mends the exponent's bias, of subnormals too.
    magnitude = builder.shl(builder.and_(wide, const(0x7FFF)), const(13))
    scaled = builder.fmul(builder.bitcast(magnitude, floats), builder.bitcast(const((127 + 112) << 23), floats))
    special = builder.icmp_unsigned(">", magnitude, const(0x0F7FFFFF))
    scaled = builder.select(
        special, builder.or_(magnitude, const(0x70000000)), builder.bitcast(scaled, ints)
    )
    sign = builder.shl(builder.and_(wide, const(0x8000)), const(16))
    return builder.bitcast(builder.or_(scaled, sign), floats)


def _narrow(builder, r, value):
    """The inverse of `_widen`: rounds to nearest, ties to even, overflows to infinity and keeps NaNs."""
    if r.storage >= FLOAT32:
        return value
    vector = isinstance(value.type, ir.VectorType)
    ints = ir.VectorType(I32, value.type.count) if vector else I32
    cells = ir.VectorType(I16, value.type.count) if vector else I16

    def const(v):
        return ir.Constant(ints, [v] * ints.count) if vector else I32(v)

    word = builder.bitcast(value, ints)
    sign = builder.lshr(builder.and_(word, const(0x80000000)), const(16))
    magnitude = builder.and_(word, const(0x7FFFFFFF))
    nan = builder.icmp_unsigned(">", magnitude, const(0x7F800000))
    narrow = _round_bfloat16 if r.storage == BFLOAT16 else _round_float16
    short = builder.select(nan, const(0x7FC0 if r.storage == BFLOAT16 else 0x7E00), narrow(builder, magnitude, const))
    return builder.trunc(builder.or_(short, sign), cells)


def _round_bfloat16(builder, magnitude, const):
    odd = builder.and_(builder.lshr(magnitude, const(16)), const(1))
    return builder.lshr(builder.add(magnitude, builder.add(odd, const(0x7FFF))), const(16))


def _round_float16(builder, magnitude, const):
    odd = builder.and_(builder.lshr(magnitude, const(13)), const(1))
    rebased = builder.sub(magnitude, const(112 << 23))
    normal = builder.lshr(builder.add(rebased, builder.add(odd, const(0xFFF))), const(13))
    # Below 2**-14 adding 0.5 lets the float adder round to the spacing of float16 subnormals, 2**-24.
    floats = ir.VectorType(ir.FloatType(), magnitude.type.count) if hasattr(magnitude.type, "count") else ir.FloatType()
    half = const(126 << 23)
    shifted = builder.fadd(builder.bitcast(magnitude, floats), builder.bitcast(half, floats))
    subnormal = builder.sub(builder.bitcast(shifted, magnitude.type), half)
    small = builder.icmp_unsigned("<", magnitude, const(113 << 23))
    short = builder.select(small, subnormal, normal)
    return builder.select(builder.icmp_unsigned(">", magnitude, const(0x477FEFFF)), const(0x7C00), short)


def _cells(r):
    return ir.VectorType(r.cell, r.vec.lanes)


def _gather(builder, r, value, index, last):
    """One scalar load a lane; lanes past `last` read element `last` again, so that nothing is read out of bounds."""
    cells = ir.Constant(_cells(r), ir.Undefined)
    for lane in range(r.vec.lanes):
        k = I64(lane)
        if last is not None:
            k = builder.select(builder.icmp_signed("<", k, last), k, last)
        cell = builder.load(_pointer(builder, r, value, builder.add(index, k), r.cell), align=1)
        cells = builder.insert_element(cells, cell, I32(lane))
    return cells


@intrinsic
def load(_typing, r, index):
    """The vector of the elements from number `index` on."""

    def emit(_context, builder, _sig, args):
        if not r.contiguous:
            return _widen(builder, r, _gather(builder, r, args[0], args[1], None))
        return _widen(builder, r, builder.load(_pointer(builder, r, *args, _cells(r)), align=1))

    return r.vec(r, types.int64), emit


def _masked(builder, r, mask):
    """The mask of live lanes and the suffix of LLVM's masked accesses."""
    name = f"v{r.vec.lanes}{'i16' if r.cell is I16 else f'f{r.vec.dtype.bitwidth}'}.p0"
    return _live(builder, r.vec.lanes, mask), name


@intrinsic
def load_n(_typing, r, index, n, fill):
    """The first `n` (at least 1) elements from number `index` on, and `fill` in the lanes after them."""

    def emit(context, builder, sig, args):
        value, index, n, fill = args
        live, name = _masked(builder, r, n)
        if r.contiguous:
            pointer = _pointer(builder, r, value, index, _cells(r))
            blank = ir.Constant(_cells(r), ir.Undefined)
            cells = _call(builder, f"llvm.masked.load.{name}", _cells(r), [pointer, I32(1), live, blank])
        else:
            cells = _gather(builder, r, value, index, builder.sub(n, I64(1)))
        filler = _as(context, builder, fill, sig.args[3], r.vec)
        return builder.select(live, _widen(builder, r, cells), filler)

    return r.vec(r, types.int64, types.int64, fill), emit


@intrinsic
def store(_typing, r, index, v):
    """Write a vector to the elements from number `index` on."""

    def emit(context, builder, _sig, args):
        cells = _narrow(builder, r, args[2])
        if r.contiguous:
            builder.store(cells, _pointer(builder, r, args[0], args[1], _cells(r)), align=1)
        else:
            for lane in range(r.vec.lanes):
                pointer = _pointer(builder, r, args[0], builder.add(args[1], I64(lane)), r.cell)
                builder.store(builder.extract_element(cells, I32(lane)), pointer, align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, v), emit


@intrinsic
def store_n(_typing, r, index, n, v):
    """Write the first `n` lanes of a vector to the elements from number `index` on."""

    def emit(context, builder, _sig, args):
        value, index, n, v = args
        cells = _narrow(builder, r, v)
        if r.contiguous:
            live, name = _masked(builder, r, n)
            pointer = _pointer(builder, r, value, index, _cells(r))
            _call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [cells, pointer, I32(1), live])
        else:
            with cgutils.for_range(builder, n) as loop:
                pointer = _pointer(builder, r, value, builder.add(index, loop.index), r.cell)
                builder.store(builder.extract_element(cells, loop.index), pointer, align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, types.int64, v), emit


@intrinsic
def stream(_typing, r, index, v):
    """Like `store`, past the caches; the address must be a multiple of 64 bytes and the reference contiguous."""

    def emit(context, builder, _sig, args):
        cells = _narrow(builder, r, args[2])
        written = builder.store(cells, _pointer(builder, r, args[0], args[1], _cells(r)), align=r.vec.lanes * r.itemsize)
        written.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(r, types.int64, v), emit


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
def transpose_in(_typing, buffer, slot, r, row, j, n):
    """Copy `n` classes from number `j` on, of a whole vector of rows from number `row` on, to vectors in `buffer`.

    `r` steps from row to row and classes are contiguous.  One vector a class is written from element `slot` on; those
    past the `n`-th are junk.
    """
    lanes = r.vec.lanes

    def emit(context, builder, sig, args):
        value, slot, source, row, j, n = args
        live, name = _masked(builder, r, n)
        blank = ir.Constant(_cells(r), None)
        offset = builder.mul(j, I64(r.itemsize))
        rows = []
        for k in range(lanes):
            start = _pointer(builder, r, source, builder.add(row, I64(k)), I8)
            pointer = builder.bitcast(builder.gep(start, [offset]), _cells(r).as_pointer())
            cells = _call(builder, f"llvm.masked.load.{name}", _cells(r), [pointer, I32(1), live, blank])
            rows.append(_widen(builder, r, cells))
        for k, column in enumerate(_transposed(builder, rows)):
            where = builder.add(slot, I64(k * lanes))
            builder.store(column, _pointer(builder, buffer, value, where, buffer.vec.llvm), align=4)
        return context.get_dummy_value()

    return types.void(buffer, types.int64, r, types.int64, types.int64, types.int64), emit


@intrinsic
def transpose_out(_typing, buffer, slot, r, row, j, n):
    """The way back of `transpose_in`."""
    lanes = r.vec.lanes

    def emit(context, builder, sig, args):
        value, slot, target, row, j, n = args
        live, name = _masked(builder, r, n)
        offset = builder.mul(j, I64(r.itemsize))
        columns = []
        for k in range(lanes):
            where = builder.add(slot, I64(k * lanes))
            columns.append(builder.load(_pointer(builder, buffer, value, where, buffer.vec.llvm), align=4))
        for k, line in enumerate(_transposed(builder, columns)):
            start = _pointer(builder, r, target, builder.add(row, I64(k)), I8)
            pointer = builder.bitcast(builder.gep(start, [offset]), _cells(r).as_pointer())
            _call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [_narrow(builder, r, line), pointer, I32(1), live])
        return context.get_dummy_value()

    return types.void(buffer, types.int64, r, types.int64, types.int64, types.int64), emit


@intrinsic
def itemsize_of(_typing, r):
    """The size of an element in memory."""
    return types.int64(r), lambda *_: I64(r.itemsize)


@intrinsic
def get(_typing, r, index):
    """One element, as a scalar of the type that is computed with."""

    def emit(_context, builder, _sig, args):
        return _widen(builder, r, builder.load(_pointer(builder, r, *args, r.cell), align=1))

    return r.dtype(r, types.int64), emit


@intrinsic
def put(_typing, r, index, x):
    """Write one element."""

    def emit(context, builder, sig, args):
        x = context.cast(builder, args[2], sig.args[2], r.dtype)
        builder.store(_narrow(builder, r, x), _pointer(builder, r, args[0], args[1], r.cell), align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, x), emit


@intrinsic
def prefetch(_typing, r, index):
    """Ask for the cache line of an element; any address is allowed."""

    def emit(context, builder, _sig, args):
        pointer = _pointer(builder, r, *args, I8)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(r, types.int64), emit


@intrinsic
def labels(_typing, like, address, index, n, ignore):
    """The first `n` of the int64 labels from number `index` on, as integer lanes that go with the floats of `like`.

    Labels equal to `ignore`, and the lanes past `n`, become -1.  The comparison is done before the labels are narrowed.
    """
    ints, lanes = _integers(like.vec), like.vec.lanes
    wide = ir.VectorType(I64, lanes)
    none = ir.Constant(wide, [-1] * lanes)

    def emit(_context, builder, _sig, args):
        _, address, index, n, ignore = args
        where = builder.add(address, builder.mul(index, I64(8)))
        arguments = [builder.inttoptr(where, wide.as_pointer()), I32(8), _live(builder, lanes, n), none]
        loaded = _call(builder, f"llvm.masked.load.v{lanes}i64.p0", wide, arguments)
        ignored = builder.icmp_signed("==", loaded, _splat(builder, ignore, wide))
        loaded = builder.select(ignored, none, loaded)
        return loaded if ints.dtype is types.int64 else builder.trunc(loaded, ints.llvm)

    return ints(like, types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def integer_at(_typing, address, index):
    """The int64 number `index` at an address."""

    def emit(_context, builder, _sig, args):
        where = builder.add(args[0], builder.mul(args[1], I64(8)))
        return builder.load(builder.inttoptr(where, I64.as_pointer()), align=8)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def float_at(_typing, address, index):
    """The float64 number `index` at an address."""

    def emit(_context, builder, _sig, args):
        where = builder.add(args[0], builder.mul(args[1], I64(8)))
        return builder.load(builder.inttoptr(where, ir.DoubleType().as_pointer()), align=8)

    return types.float64(types.int64, types.int64), emit


@intrinsic
def put_float(_typing, address, index, x):
    """Write the float64 number `index` at an address."""

    def emit(context, builder, _sig, args):
        where = builder.add(args[0], builder.mul(args[1], I64(8)))
        builder.store(args[2], builder.inttoptr(where, ir.DoubleType().as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float64), emit

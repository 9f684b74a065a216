"""Explicit SIMD for Numba: a vector type and its arithmetic (`memory` has the loads and stores).

``Vec(float32, 16)`` is an LLVM ``<16 x float>``: LLVM keeps it in one AVX-512 register and splits it for narrower
machines.  Autovectorisation is not enough here: it gives up on calls to ``exp``, on ``max``, and wherever input and
output may alias (in place it was 7 times slower).
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

from ..jit import inline, target

#: Whether a vector is one register, and there are 32 of them.
AVX512 = "+avx512f" in target()[1].split(",")

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))

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
        """The type in LLVM."""
        return ir.VectorType(_LLVM[self.dtype], self.lanes)


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm)


# Arithmetic -------------------------------------------------------------------------------------------------------


def splat_ir(builder, value, llvm):
    """`value` in every lane of a vector of the type `llvm`."""
    one = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, llvm.count), None))


def as_vector(context, builder, value, ty, vec):
    """`value` as a vector like `vec`: scalars are converted and copied into every lane."""
    if isinstance(ty, Vec):
        return value
    return splat_ir(builder, context.cast(builder, value, ty, vec.dtype), vec.llvm)


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
        a, b = (as_vector(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True))
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
_arithmetic(operator.or_, "or_", "or_")
_arithmetic(operator.lshift, "shl", "shl")
_arithmetic(operator.rshift, "ashr", "ashr")
for _name, _symbol in (("lt", "<"), ("le", "<="), ("gt", ">"), ("eq", "=="), ("ne", "!=")):
    _comparison(getattr(operator, _name), _symbol)


@type_callable(operator.neg)
def _(_context):
    return lambda a: a if isinstance(a, Vec) and _floating(a) else None


@lower_builtin(operator.neg, Vec)
def _negate(_context, builder, _sig, args):
    return builder.fneg(args[0])


def call(builder, name, result, args):
    """Call an intrinsic of LLVM."""
    fnty = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), args)


def _suffix(vec):
    return f"v{vec.lanes}f{vec.dtype.bitwidth}"


@intrinsic
def splat(_typing, like, value):
    """`value` in every lane of a vector like `like` (a Vec, or a Ref that loads such vectors)."""
    vec = getattr(like, "vec", like)

    def emit(context, builder, sig, args):
        return as_vector(context, builder, args[1], sig.args[1], vec)

    return vec(like, value), emit


@intrinsic
def fma(_typing, a, b, c):
    """``a * b + c``, fused where the machine fuses.

    `llvm.fma` would be a call of the C library on plain x86-64, 20 times slower.
    """
    vec = _vector_of(a, b, c)

    def emit(context, builder, sig, args):
        ops = [as_vector(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True)]
        return call(builder, f"llvm.fmuladd.{_suffix(vec)}", vec.llvm, ops)

    return vec(a, b, c), emit


@intrinsic
def select(_typing, mask, a, b):
    """``a`` in the lanes where `mask` is true, ``b`` in the others."""
    vec = _vector_of(a, b)

    def emit(context, builder, sig, args):
        yes, no = (as_vector(context, builder, v, t, vec) for v, t in zip(args[1:], sig.args[1:], strict=True))
        return builder.select(args[0], yes, no)

    return vec(mask, a, b), emit


@intrinsic
def pick(_typing, like, single, double):
    """The constant that belongs to the precision of `like`, in every lane."""
    chosen = 1 if like.dtype is types.float32 else 2

    def emit(context, builder, sig, args):
        return as_vector(context, builder, args[chosen], sig.args[chosen], like)

    return like(like, single, double), emit


@intrinsic
def picked(_typing, like, single, double):
    """The tuple of constants that belongs to the precision of `like`, as a tuple of vectors."""
    vec = getattr(like, "vec", like)
    chosen = 1 if vec.dtype is types.float32 else 2
    vectors = types.UniTuple(vec, len((single, double)[chosen - 1]))

    def emit(context, builder, _sig, args):
        values = [builder.extract_value(args[chosen], i) for i in range(len(vectors))]
        return cgutils.pack_array(builder, [as_vector(context, builder, v, types.float64, vec) for v in values])

    return vectors(like, single, double), emit


@intrinsic
def held(_typing, constants):
    """The same vectors, as something that stays in registers.

    LLVM takes a constant for cheap, and loads it from memory again in every round of a loop: the dozen of them that
    `exp` needs took longer than its arithmetic.  Where registers are few that is the better way.
    """

    def emit(_context, builder, _sig, args):
        if not AVX512:
            return args[0]
        vec = constants.dtype.llvm
        same = ir.InlineAsm(ir.FunctionType(vec, [vec]), "", "=v,0")
        values = [builder.extract_value(args[0], i) for i in range(len(constants))]
        return cgutils.pack_array(builder, [builder.call(same, [v], attrs=("readnone", "nounwind")) for v in values])

    return constants(constants), emit


@inline
def horner(x, single, double):
    """The polynomial in `x` with the coefficients (highest power first) of its precision."""
    return polynomial(x, picked(x, single, double))


@intrinsic
def polynomial(_typing, x, coefficients):
    """The polynomial in `x` with vectors of coefficients, highest power first."""

    def emit(_context, builder, _sig, args):
        value, *rest = (builder.extract_value(args[1], i) for i in range(len(coefficients)))
        for coefficient in rest:
            value = call(builder, f"llvm.fmuladd.{_suffix(x)}", x.llvm, [value, args[0], coefficient])
        return value

    return x(x, coefficients), emit


def integers_like(vec):
    """The vector type of integers as wide as the floats of `vec`."""
    return Vec(types.int32 if vec.dtype.bitwidth == 32 else types.int64, vec.lanes)


@intrinsic
def bits(_typing, x):
    """The bit patterns of a float vector, as integers of the same width."""
    ints = integers_like(x)
    return ints(x), lambda _c, builder, _s, args: builder.bitcast(args[0], ints.llvm)


@intrinsic
def from_bits(_typing, like, x):
    """The float vector like `like` with the bit patterns `x`."""
    return like(like, x), lambda _c, builder, _s, args: builder.bitcast(args[1], like.llvm)


@intrinsic
def mantissa_bits(_typing, like):
    """The first bit of the exponent field of a float: 23 or 52, as lanes of integers."""
    ints = integers_like(like)
    count = 23 if like.dtype is types.float32 else 52
    return ints(like), lambda *_: ir.Constant(ints.llvm, [count] * like.lanes)


@intrinsic
def scalef(_typing, x, n):
    """``x * 2**n`` for whole n, correctly rounded, on machines with AVX-512."""
    kind, lanes = ("ps", 16) if x.dtype is types.float32 else ("pd", 8)

    def emit(_context, builder, _sig, args):
        mask = ir.Constant(ir.IntType(lanes), -1)
        ops = [*args, ir.Constant(x.llvm, None), mask, I32(4)]  # all lanes; round as the machine is set to
        return call(builder, f"llvm.x86.avx512.mask.scalef.{kind}.512", x.llvm, ops)

    return x(x, n), emit


@intrinsic
def to_float(_typing, like, x):
    """The integers `x` converted to floats like `like`."""
    return like(like, x), lambda _c, builder, _s, args: builder.sitofp(args[1], like.llvm)

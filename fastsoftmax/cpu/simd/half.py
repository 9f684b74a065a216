"""Half precision in LLVM: what is stored in 16 bits is computed in float32; and masks, which are stored in 8.

bfloat16 and, where the CPU has no instruction for it, float16 are converted bit by bit: ``fpext half`` is a call of the
C library on plain x86-64, where it may not even exist.
"""

from llvmlite import ir

from ...core.dtypes import BFLOAT16, FLOAT16, FLOAT32, MASK32
from ..jit import target

I16, I32 = ir.IntType(16), ir.IntType(32)
#: One instruction to convert float16, instead of 8 to read and three instead of 18 to write.
F16C = "+f16c" in target()[1].split(",")


def widen(builder, r, cells):
    """Storage cells (one, or a vector of them) in the type that is computed with; exact."""
    if r.storage >= MASK32:
        return _widen_mask(builder, r, cells)
    if r.storage >= FLOAT32:
        return cells
    ints = ir.VectorType(I32, cells.type.count) if isinstance(cells.type, ir.VectorType) else I32
    floats = ir.VectorType(ir.FloatType(), ints.count) if ints is not I32 else ir.FloatType()
    if r.storage == FLOAT16 and F16C:
        halves = ir.VectorType(ir.HalfType(), ints.count) if ints is not I32 else ir.HalfType()
        return builder.fpext(builder.bitcast(cells, halves), floats)

    def const(v):
        return ir.Constant(ints, [v] * ints.count) if ints is not I32 else I32(v)

    wide = builder.zext(cells, ints)
    if r.storage == BFLOAT16:
        return builder.bitcast(builder.shl(wide, const(16)), floats)
    # Exponent and mantissa moved into place, then 2**112 mends the exponent's bias, of subnormals too.
    magnitude = builder.shl(builder.and_(wide, const(0x7FFF)), const(13))
    scaled = builder.fmul(builder.bitcast(magnitude, floats), builder.bitcast(const((127 + 112) << 23), floats))
    special = builder.icmp_unsigned(">", magnitude, const(0x0F7FFFFF))
    scaled = builder.select(special, builder.or_(magnitude, const(0x70000000)), builder.bitcast(scaled, ints))
    sign = builder.shl(builder.and_(wide, const(0x8000)), const(16))
    return builder.bitcast(builder.or_(scaled, sign), floats)


def _widen_mask(builder, r, cells):
    """0 where a mask is true, -inf where it is false."""
    scalar = ir.DoubleType() if r.vec.dtype.bitwidth == 64 else ir.FloatType()
    floats = ir.VectorType(scalar, cells.type.count) if isinstance(cells.type, ir.VectorType) else scalar
    minus = float("-inf") if floats is scalar else [float("-inf")] * floats.count
    seen = builder.icmp_unsigned("!=", cells, ir.Constant(cells.type, None))
    return builder.select(seen, ir.Constant(floats, None if floats is not scalar else 0.0), ir.Constant(floats, minus))


def narrow(builder, r, value):
    """The inverse of `widen`: rounds to nearest, ties to even, overflows to infinity and keeps NaNs."""
    if r.storage >= FLOAT32:
        return value
    vector = isinstance(value.type, ir.VectorType)
    ints = ir.VectorType(I32, value.type.count) if vector else I32
    cells = ir.VectorType(I16, value.type.count) if vector else I16
    if r.storage == FLOAT16 and F16C:
        halves = ir.VectorType(ir.HalfType(), value.type.count) if vector else ir.HalfType()
        short = builder.bitcast(builder.fptrunc(value, halves), cells)
        plain = builder.and_(short, ir.Constant(cells, [0xFE00] * cells.count) if vector else I16(0xFE00))
        return builder.select(builder.fcmp_unordered("uno", value, value), plain, short)  # a NaN without its payload

    def const(v):
        return ir.Constant(ints, [v] * ints.count) if vector else I32(v)

    word = builder.bitcast(value, ints)
    if r.storage == BFLOAT16:
        short = _round_bfloat16(builder, word, const, builder.fcmp_unordered("uno", value, value))
        return builder.trunc(short, cells)
    sign = builder.lshr(builder.and_(word, const(0x80000000)), const(16))
    magnitude = builder.and_(word, const(0x7FFFFFFF))
    nan = builder.icmp_unsigned(">", magnitude, const(0x7F800000))
    short = builder.select(nan, const(0x7E00), _round_float16(builder, magnitude, const))
    return builder.trunc(builder.or_(short, sign), cells)


def _round_bfloat16(builder, word, const, nan):
    """The upper half of a word, rounded as one number with its sign: no carry reaches that."""
    upper = builder.lshr(word, const(16))
    carried = builder.add(builder.add(word, const(0x7FFF)), builder.and_(upper, const(1)))
    plain = builder.or_(builder.and_(upper, const(0x8000)), const(0x7FC0))  # a NaN without its payload
    return builder.select(nan, plain, builder.lshr(carried, const(16)))


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

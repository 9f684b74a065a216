"""Single lanes of a SIMD vector: reductions over all of them, and masks that choose some."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .vectors import I32, I64, Vec, integers_like, splat_ir


@intrinsic
def extract(_typing, x, lane):
    """One lane of a vector, as a scalar."""
    return x.dtype(x, lane), lambda _c, builder, _s, args: builder.extract_element(args[0], args[1])


def _halved(builder, v, lanes, join):
    """A vector folded in half until one lane is left, which is the result."""
    while lanes > 1:
        lanes //= 2
        numbers = (ir.Constant(ir.VectorType(I32, lanes), list(range(k, k + lanes))) for k in (0, lanes))
        v = join(*(builder.shuffle_vector(v, v, half) for half in numbers))
    return builder.extract_element(v, I32(0))


@intrinsic
def hsum(_typing, x):
    """The sum of all lanes, accumulated in float64 by halving: a fixed order, whatever the machine."""

    def emit(_context, builder, _sig, args):
        v = args[0]
        if x.dtype is types.float32:
            v = builder.fpext(v, ir.VectorType(ir.DoubleType(), x.lanes))
        return _halved(builder, v, x.lanes, builder.fadd)

    return types.float64(x), emit


@intrinsic
def hmax(_typing, x):
    """The largest lane, of numbers: those who call it keep NaNs out (they come back through the sum)."""

    def emit(_context, builder, _sig, args):
        def larger(low, high):
            return builder.select(builder.fcmp_ordered(">", low, high), low, high)

        return _halved(builder, args[0], x.lanes, larger)

    return x.dtype(x), emit


def live_mask(builder, lanes, n):
    """The mask of the first `n` lanes."""
    index = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, splat_ir(builder, builder.trunc(n, I32), index.type))


@intrinsic
def first_lanes(_typing, x, n):
    """`x` in its first `n` lanes and 0 in the others."""

    def emit(context, builder, sig, args):
        n = context.cast(builder, args[1], sig.args[1], types.int64)
        return builder.select(live_mask(builder, x.lanes, n), args[0], ir.Constant(x.llvm, None))

    return x(x, n), emit


@intrinsic
def lane_numbers(_typing, reference):
    """0, 1, 2, ... as integer lanes that go with the floats of `reference`."""
    ints = integers_like(getattr(reference, "vec", reference))
    return ints(reference), lambda *_: ir.Constant(ints.llvm, list(range(ints.lanes)))


@intrinsic
def lane_is(_typing, reference, lane):
    """The mask that is true in lane number `lane` only (nowhere when it is out of the vector but in 32 bits)."""
    like = getattr(reference, "vec", reference)
    mask = Vec(types.boolean, like.lanes)

    def emit(context, builder, sig, args):
        index = ir.Constant(integers_like(like).llvm, list(range(like.lanes)))
        lane = context.cast(builder, args[1], sig.args[1], integers_like(like).dtype)
        return builder.icmp_signed("==", index, splat_ir(builder, lane, index.type))

    return mask(reference, lane), emit


def _mask_bits(builder, mask):
    """A mask as an integer with a bit for each lane."""
    return builder.bitcast(mask, ir.IntType(mask.type.count))


@intrinsic
def any_lane(_typing, mask):
    """Whether a mask is true in any lane."""

    def emit(_context, builder, _sig, args):
        number = _mask_bits(builder, args[0])
        return builder.icmp_unsigned("!=", number, number.type(0))

    return types.boolean(mask), emit


@intrinsic
def first_lane(_typing, mask):
    """The number of the first lane in which a mask is true; the number of lanes if there is none."""

    def emit(_context, builder, _sig, args):
        number = builder.zext(_mask_bits(builder, args[0]), I64)
        return builder.cttz(builder.or_(number, I64(1 << mask.lanes)), ir.IntType(1)(1))

    return types.int64(mask), emit

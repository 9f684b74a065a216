"""Memory for GPU threads: accesses of 2 to 16 bytes by address (an int64), and numbers of half types.

No array of the package's own is passed around: its accesses are narrow, and its indices may be negative.
"""

import numpy as np
from llvmlite import ir

from ...core.dtypes import FLOAT64
from ..toolkit.compiler import intrinsic, types

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_HALF, _FLOAT, _DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_GLOBAL, _SHARED = 1, 3  # address spaces: memory outside of the chip, and a block's own


def _pointer(builder, address, type_):
    return builder.inttoptr(address, type_.as_pointer(_GLOBAL))


def _typed_load(result, type_, size):
    @intrinsic
    def load(typing, address):
        def codegen(context, builder, signature, args):
            return builder.load(_pointer(builder, args[0], type_), align=size)

        return result(types.int64), codegen

    return load


def _typed_store(argument, type_, size):
    @intrinsic
    def store(typing, address, value):
        def codegen(context, builder, signature, args):
            builder.store(args[1], _pointer(builder, args[0], type_), align=size)
            return context.get_dummy_value()

        return types.void(types.int64, argument), codegen

    return store


#: One number at an address.
load_int32 = _typed_load(types.int32, _I32, 4)
load_int64 = _typed_load(types.int64, _I64, 8)
load_float32 = _typed_load(types.float32, _FLOAT, 4)
load_float64 = _typed_load(types.float64, _DOUBLE, 8)
store_float32 = _typed_store(types.float32, _FLOAT, 4)
store_float64 = _typed_store(types.float64, _DOUBLE, 8)


@intrinsic
def raise_to(typing, address, value):
    """The int64 at an address becomes the larger of itself and a value, whoever else does the same."""

    def codegen(context, builder, signature, args):
        builder.atomic_rmw("max", _pointer(builder, args[0], _I64), args[1], "monotonic")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _word(context, builder, array_type, array, at, k):
    """The address of word ``at + k`` of an array of registers."""
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [builder.add(at, _I64(k))])


def _reader(count, pointer, address_type):
    """An intrinsic: `count` words at an address, by one access, become words of an array."""
    vector = ir.VectorType(_I32, count)

    @intrinsic
    def get(typing, words, at, address):
        def codegen(context, builder, signature, args):
            array, index, where = args
            value = builder.load(pointer(builder, where, vector), align=4 * count)
            for k in range(count):
                place = _word(context, builder, signature.args[0], array, index, k)
                builder.store(builder.extract_element(value, _I32(k)), place)
            return context.get_dummy_value()

        return types.void(words, types.int64, address_type), codegen

    return get


def _writer(count, pointer, address_type):
    """An intrinsic: `count` words of an array go to an address, by one access."""
    vector = ir.VectorType(_I32, count)

    @intrinsic
    def put(typing, words, at, address):
        def codegen(context, builder, signature, args):
            array, index, where = args
            value = ir.Constant(vector, ir.Undefined)
            for k in range(count):
                word = builder.load(_word(context, builder, signature.args[0], array, index, k))
                value = builder.insert_element(value, word, _I32(k))
            builder.store(value, pointer(builder, where, vector), align=4 * count)
            return context.get_dummy_value()

        return types.void(words, types.int64, address_type), codegen

    return put


def _shared_pointer(builder, address, type_):
    return builder.inttoptr(address, type_.as_pointer(_SHARED))


#: By their numbers of words: ``(words, at, address)``.
READ = {n: _reader(n, _pointer, types.int64) for n in (1, 2, 4)}
WRITE = {n: _writer(n, _pointer, types.int64) for n in (1, 2, 4)}
#: The same for addresses in shared memory, which are uint32.
RECALL = {n: _reader(n, _shared_pointer, types.uint32) for n in (1, 2, 4)}
KEEP = {n: _writer(n, _shared_pointer, types.uint32) for n in (1, 2, 4)}


@intrinsic
def shared_address(typing, array):
    """The address of an array within the shared memory of a block."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, value=args[0]).data
        inside = builder.addrspacecast(data, data.type.pointee.as_pointer(_SHARED))
        return builder.ptrtoint(inside, _I32)

    return types.uint32(array), codegen


def _unary(result, argument, generate):
    """An intrinsic of one number."""

    @intrinsic
    def function(typing, x):
        def codegen(context, builder, signature, args):
            return generate(builder, args[0])

        return result(argument), codegen

    return function


def _short(builder, word):
    return builder.trunc(word, _I16)


def _half_of(builder, word):
    return builder.fpext(builder.bitcast(_short(builder, word), _HALF), _FLOAT)


def _assembled(text, constraints, result, arguments):
    def generate(builder, *args):
        return builder.call(ir.InlineAsm(ir.FunctionType(result, arguments), text, constraints), args)

    return generate


as_float = _unary(types.float32, types.uint32, lambda b, x: b.bitcast(x, _FLOAT))
as_word = _unary(types.uint32, types.float32, lambda b, x: b.bitcast(x, _I32))
as_double = _unary(types.float64, types.uint64, lambda b, x: b.bitcast(x, _DOUBLE))
as_long = _unary(types.uint64, types.float64, lambda b, x: b.bitcast(x, _I64))


@intrinsic
def again(_typing, word, nothing):
    """The same word if `nothing` is 0, of which neither compiler knows: what was unpacked from it is not kept.

    The first one moves nothing across assembly; the assembler, which does, would have to know `nothing`.
    """

    def emit(_context, builder, _signature, args):
        shape = ir.FunctionType(_I32, [_I32, _I32])
        return builder.call(ir.InlineAsm(shape, "xor.b32 $0, $1, $2;", "=r,r,r", side_effect=True), args)

    return types.uint32(types.uint32, types.uint32), emit


from_half = _unary(types.float32, types.uint32, _half_of)
to_half = _unary(types.uint32, types.float32, lambda b, x: b.zext(b.bitcast(b.fptrunc(x, _HALF), _I16), _I32))
_bfloat_bits = _assembled("cvt.rn.bf16.f32 $0, $1;", "=h,f", _I16, [_FLOAT])
to_bfloat = _unary(types.uint32, types.float32, lambda b, x: b.zext(_bfloat_bits(b, x), _I32))
load_short = _unary(types.uint32, types.int64, lambda b, a: b.zext(b.load(_pointer(b, a, _I16), align=2), _I32))


@intrinsic
def store_short(typing, address, word):
    """The low half of a word goes to an address."""

    def codegen(context, builder, signature, args):
        builder.store(_short(builder, args[1]), _pointer(builder, args[0], _I16), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint32), codegen


def _pair(instruction):
    """An intrinsic: two floats as halves of a word, the first in its low bits."""
    generate = _assembled(f"{instruction} $0, $1, $2;", "=r,f,f", _I32, [_FLOAT, _FLOAT])

    @intrinsic
    def pack(typing, low, high):
        def codegen(context, builder, signature, args):
            return generate(builder, args[1], args[0])

        return types.uint32(types.float32, types.float32), codegen

    return pack


pair_half, pair_bfloat = _pair("cvt.rn.f16x2.f32"), _pair("cvt.rn.bf16x2.f32")


def real(kind):
    """The type of a computing dtype."""
    return types.float64 if kind == FLOAT64 else types.float32


def constant(kind, value):
    """A number in a computing dtype: a literal in a kernel would be float64."""
    return (np.float64 if kind == FLOAT64 else np.float32)(value)


def number_access(kind):
    """(load, store) of one number of a computing dtype."""
    return (load_float64, store_float64) if kind == FLOAT64 else (load_float32, store_float32)

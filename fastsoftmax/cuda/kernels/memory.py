"""Memory of a GPU for one of its threads: accesses of 2 to 16 bytes by address (an int64), and numbers of half types.

Kernels are given addresses and no arrays of numba-cuda: its accesses are narrow, and its indices may be negative.
"""

import numpy as np
from llvmlite import ir

from ...core.dtypes import FLOAT64
from ..toolkit.compiler import intrinsic, types

_I8, _I16, _I32, _I64 = map(ir.IntType, (8, 16, 32, 64))
_HALF, _FLOAT, _DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_LLVM = {
    types.void: ir.VoidType(),
    types.int32: _I32,
    types.uint32: _I32,
    types.int64: _I64,
    types.float32: _FLOAT,
    types.float64: _DOUBLE,
}
_GLOBAL, _SHARED = 1, 3  # address spaces: memory outside of the chip, and a block's own


def _operation(generate, result, *arguments):
    """An intrinsic of up to two numbers: ``generate(builder, *values)`` writes its instructions, returns its result."""

    def codegen(context, builder, signature, args):
        value = generate(builder, *args)
        return context.get_dummy_value() if result is types.void else value

    typed = result(*arguments), codegen
    forms = (lambda typing: typed), (lambda typing, a: typed), (lambda typing, a, b: typed)
    return intrinsic(forms[len(arguments)])


def assembly(text, constraints, result, *arguments, ordered=False):
    """An intrinsic: a piece of assembly; the compiler moves no access to memory across one that is `ordered`."""
    shape = ir.FunctionType(_LLVM[result], [_LLVM[argument] for argument in arguments])
    code = ir.InlineAsm(shape, text, constraints, side_effect=ordered)
    return _operation(lambda builder, *args: builder.call(code, args), result, *arguments)


def _pointer(builder, address, type_, space=_GLOBAL):
    return builder.inttoptr(address, type_.as_pointer(space))


def _make_load(type_, size):
    llvm = _LLVM[type_]
    return _operation(lambda b, address: b.load(_pointer(b, address, llvm), align=size), type_, types.int64)


def _make_store(type_, size):
    def generate(builder, address, value):
        builder.store(value, _pointer(builder, address, _LLVM[type_]), align=size)

    return _operation(generate, types.void, types.int64, type_)


#: One number at an address.
load_int32, load_int64 = _make_load(types.int32, 4), _make_load(types.int64, 8)
load_float32, load_float64 = _make_load(types.float32, 4), _make_load(types.float64, 8)
store_float32, store_float64 = _make_store(types.float32, 4), _make_store(types.float64, 8)
store_int64 = _make_store(types.int64, 8)
#: The int64 at an address becomes the larger of itself and a value, whoever else does the same.
raise_to = _operation(
    lambda b, address, value: b.atomic_rmw("max", _pointer(b, address, _I64), value, "monotonic"),
    *(types.void, types.int64, types.int64),
)


def _load_words(builder, pointer, places):
    """The words at an address, by one access, become words of an array."""
    vector = builder.load(pointer, align=4 * len(places))
    for k, place in enumerate(places):
        builder.store(builder.extract_element(vector, _I32(k)), place)


def _store_words(builder, pointer, places):
    """Words of an array go to an address, by one access."""
    vector = ir.Constant(pointer.type.pointee, ir.Undefined)
    for k, place in enumerate(places):
        vector = builder.insert_element(vector, builder.load(place), _I32(k))
    builder.store(vector, pointer, align=4 * len(places))


def _make_words_access(count, move, space):
    """An intrinsic that moves `count` words: ``access(words, at, address)``, between memory and ``words[at:]``."""
    address_type = types.uint32 if space == _SHARED else types.int64

    @intrinsic
    def access(typing, words, at, address):
        def codegen(context, builder, signature, args):
            array, first, where = args
            data = context.make_array(signature.args[0])(context, builder, value=array).data
            places = [builder.gep(data, [builder.add(first, _I64(k))]) for k in range(count)]
            move(builder, _pointer(builder, where, ir.VectorType(_I32, count), space), places)
            return context.get_dummy_value()

        return types.void(words, types.int64, address_type), codegen

    return access


#: By their numbers of words: ``(words, at, address)``; addresses in shared memory are uint32.
READ, WRITE, READ_SHARED, WRITE_SHARED = (
    {n: _make_words_access(n, move, space) for n in (1, 2, 4)}
    for space in (_GLOBAL, _SHARED)
    for move in (_load_words, _store_words)
)


@intrinsic
def shared_address(typing, array):
    """The address of an array within the shared memory of a block."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, value=args[0]).data
        inside = builder.addrspacecast(data, data.type.pointee.as_pointer(_SHARED))
        return builder.ptrtoint(inside, _I32)

    return types.uint32(array), codegen


as_float = _operation(lambda b, x: b.bitcast(x, _FLOAT), types.float32, types.uint32)
as_word = _operation(lambda b, x: b.bitcast(x, _I32), types.uint32, types.float32)
as_double = _operation(lambda b, x: b.bitcast(x, _DOUBLE), types.float64, types.uint64)
as_long = _operation(lambda b, x: b.bitcast(x, _I64), types.uint64, types.float64)
#: ``opaque(word, zero)``: the same word, if `zero` is 0, of which neither compiler knows: what was unpacked from it is
#: not kept.  The first one moves nothing across assembly; the assembler, which does, would have to know `zero`.
opaque = assembly("xor.b32 $0, $1, $2;", "=r,r,r", types.uint32, types.uint32, types.uint32, ordered=True)


def _low_half(builder, word):
    return builder.trunc(word, _I16)


def _from_half(builder, word):
    return builder.fpext(builder.bitcast(_low_half(builder, word), _HALF), _FLOAT)


def _to_half(builder, x):
    return builder.zext(builder.bitcast(builder.fptrunc(x, _HALF), _I16), _I32)


def _to_bfloat(builder, x):
    convert = ir.InlineAsm(ir.FunctionType(_I16, [_FLOAT]), "cvt.rn.bf16.f32 $0, $1;", "=h,f")
    return builder.zext(builder.call(convert, [x]), _I32)


def _load_short(builder, address):
    return builder.zext(builder.load(_pointer(builder, address, _I16), align=2), _I32)


def _store_short(builder, address, word):
    builder.store(_low_half(builder, word), _pointer(builder, address, _I16), align=2)


def _store_byte(builder, address, word):
    builder.store(builder.trunc(word, _I8), _pointer(builder, address, _I8), align=1)


def _load_byte(builder, address):
    return builder.zext(builder.load(_pointer(builder, address, _I8), align=1), _I32)


load_byte = _operation(_load_byte, types.uint32, types.int64)
store_byte = _operation(_store_byte, types.void, types.int64, types.uint32)
#: Numbers of half types are the low halves of words.
from_half = _operation(_from_half, types.float32, types.uint32)
to_half = _operation(_to_half, types.uint32, types.float32)
to_bfloat = _operation(_to_bfloat, types.uint32, types.float32)
load_short = _operation(_load_short, types.uint32, types.int64)
store_short = _operation(_store_short, types.void, types.int64, types.uint32)
#: Two floats as halves of a word, the first in its low bits.
pair_half, pair_bfloat = (
    assembly(f"cvt.rn.{name}.f32 $0, $2, $1;", "=r,f,f", types.uint32, types.float32, types.float32)
    for name in ("f16x2", "bf16x2")
)


def real(kind):
    """The type of a computing dtype."""
    return types.float64 if kind == FLOAT64 else types.float32


def constant(kind, value):
    """A number in a computing dtype: a literal in a kernel would be float64."""
    return (np.float64 if kind == FLOAT64 else np.float32)(value)


def number_access(kind):
    """(load, store) of one number of a computing dtype."""
    return (load_float64, store_float64) if kind == FLOAT64 else (load_float32, store_float32)

"""Statements without instructions, from which LLVM knows what does not pay."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .vectors import I64


@intrinsic
def not_unrolled(_typing):
    """A statement that keeps the loop it stands in from being unrolled.

    LLVM would take eight vectors at a time where a row of a hundred classes has seven: 7 % of a whole pass.
    """

    def emit(context, builder, _sig, _args):
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
        builder.call(nothing, [], attrs=("convergent",))
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def opaque(_typing, number):
    """The same number, of which LLVM knows nothing.

    Of a loop's own it derives pointers that it steps along, more than there are registers: 7 % where rows are short.
    """

    def emit(_context, builder, _sig, args):
        same = ir.InlineAsm(ir.FunctionType(I64, [I64]), "", "=r,0")
        return builder.call(same, args)

    return types.int64(types.int64), emit

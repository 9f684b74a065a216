"""Walking through a kernel's chunks: kernels are C functions of (parameters, chunk, scratch slot)."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import inline


@intrinsic
def call(_typing, address, params, chunk, slot):
    """Call the kernel at an address."""

    def emit(context, builder, _sig, args):
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word, word, word]).as_pointer()
        builder.call(builder.inttoptr(args[0], function), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def _take(_typing, params, count):
    """The number of the next of `count` chunks, counting atomically in field 0 (NEXT_CHUNK) of the parameters."""

    def emit(_context, builder, _sig, args):
        word = ir.IntType(64)
        counter = builder.inttoptr(args[0], word.as_pointer())
        return builder.atomic_rmw("add", counter, args[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@inline
def all_of(kernel, params, chunks):
    """Run a kernel for every chunk."""
    for chunk in range(chunks):
        call(kernel, params, chunk, 0)


@inline
def share_of(kernel, params, chunks, run, slot):
    """Run a kernel for chunks off the shared counter, `run` at a time, with a thread's own slot of scratch."""
    first = _take(params, run)
    while first < chunks:
        for chunk in range(first, min(first + run, chunks)):
            call(kernel, params, chunk, slot)
        first = _take(params, run)

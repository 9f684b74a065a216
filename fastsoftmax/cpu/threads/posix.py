"""The tools of threads in compiled code: atomic words in memory, the operating system's clocks, waits and affinities.

The functions of the C library are found by name when a function that calls them is loaded: on POSIX systems only, and
those of Linux on Linux only.
"""

import platform
import sys
import time

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import inline
from ..simd.vectors import I32, I64
from ..simd.words import integer_at

LINUX = sys.platform == "linux"

CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)
THREAD_CLOCK = getattr(time, "CLOCK_THREAD_CPUTIME_ID", 0)
CPUS = 1024  # of an affinity mask

#: The instruction that lets the other thread of a core go on, and its operands.
_PAUSE = {
    **dict.fromkeys(("x86_64", "AMD64"), ("llvm.x86.sse2.pause", [])),
    **dict.fromkeys(("aarch64", "arm64"), ("llvm.aarch64.hint", [I32(1)])),
}


def _pointer(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def load(_typing, address):
    """The word at an address, atomically."""

    def emit(_context, builder, _sig, args):
        return builder.load_atomic(_pointer(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def store(_typing, address, value):
    """Write the word at an address, atomically."""

    def emit(context, builder, _sig, args):
        builder.store_atomic(args[1], _pointer(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _make_update(operation):
    @intrinsic
    def update(_typing, address, value):
        def emit(_context, builder, _sig, args):
            return builder.atomic_rmw(operation, _pointer(builder, args[0]), args[1], "seq_cst")

        return types.int64(types.int64, types.int64), emit

    return update


#: ``add(address, value)``, ``set_bits(address, value)``: change the word at an address; what it was before.
add, set_bits = _make_update("add"), _make_update("or")


@intrinsic
def replaced(_typing, address, old, new):
    """Whether the word at an address was `old`, and is `new` now."""

    def emit(_context, builder, _sig, args):
        exchange = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(exchange, 1)

    return types.boolean(types.int64, types.int64, types.int64), emit


@intrinsic
def pause(_typing):
    """Tell the processor that this thread only waits; nothing where there is no such instruction."""

    def emit(context, builder, _sig, _args):
        if platform.machine() in _PAUSE:
            name, operands = _PAUSE[platform.machine()]
            function = ir.FunctionType(ir.VoidType(), [value.type for value in operands])
            builder.call(builder.module.declare_intrinsic(name, (), function), operands)
        return context.get_dummy_value()

    return types.void(), emit


def _function(name, *arguments):
    return types.ExternalFunction(name, types.int32(*arguments))


lock, unlock = (_function(f"pthread_mutex_{name}", types.int64) for name in ("lock", "unlock"))
wait, signal = _function("pthread_cond_wait", types.int64, types.int64), _function("pthread_cond_signal", types.int64)
_clock_gettime = _function("clock_gettime", types.int32, types.int64)
cpu = _function("sched_getcpu")
_mask_of = _function("sched_getaffinity", types.int32, types.int64, types.int64)
_set_mask = _function("sched_setaffinity", types.int32, types.int64, types.int64)


@inline
def nanoseconds(clock, space):
    """The time of a clock, by way of 16 bytes of `space`."""
    _clock_gettime(clock, space)
    return integer_at(space, 0) * 1_000_000_000 + integer_at(space, 1)


@inline
def moved_off(here, process, space):
    """Whether this thread could be moved off the processor number `here`, to another that the process may use.

    It may not return there. `space` is for a mask of `CPUS` bits.
    """
    if here < 0 or here >= CPUS or _mask_of(process, CPUS // 8, space) != 0:
        return False
    word = space + here // 64 * 8
    store(word, load(word) & ~(1 << (here % 64)))
    return _set_mask(0, CPUS // 8, space) == 0

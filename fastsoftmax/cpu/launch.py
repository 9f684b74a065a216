"""Running a kernel over its chunks: in this thread, or in Numba's threads when that is safe.

Kernels are C functions of (parameters, chunk, scratch slot), so that the serial and the parallel run execute the same
machine code, and only one function is ever compiled for threads.  Threads take chunks off a shared counter: one that
is held up (another process on its core) leaves its share to the rest.
"""

import os
import threading

import numba
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from .. import forks, jit


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
def _take(_typing, params):
    """The number of the next chunk, counting atomically in field 0 (NEXT_CHUNK) of the parameters."""

    def emit(_context, builder, _sig, args):
        word = ir.IntType(64)
        counter = builder.inttoptr(args[0], word.as_pointer())
        return builder.atomic_rmw("add", counter, word(1), "seq_cst")

    return types.int64(types.int64), emit


def _serial(kernel, params, chunks):
    for chunk in range(chunks):
        call(kernel, params, chunk, 0)


def _shared(kernel, params, chunks, threads):
    for slot in prange(threads):
        chunk = _take(params)
        while chunk < chunks:
            call(kernel, params, chunk, slot)
            chunk = _take(params)


_serial = jit.driver(_serial, types.void(types.int64, types.int64, types.int64))


_parallel = jit.driver(_shared, types.void(types.int64, types.int64, types.int64, types.int64), parallel=True)


# One parallel launch at a time: the workqueue layer aborts the process when two threads enter it, and on the others a
# second launch would only compete for the same cores. Whoever finds the lock taken runs the serial driver instead.
_launching = threading.Lock()


def _after_fork():
    """A lock that another thread of the parent held would never be released in the child."""
    global _launching
    _launching = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads_for():
    """How many threads (and scratch slots) a launch from here may use; Numba's own setting is the limit."""
    if forks.threads_lost():
        return 1
    threads = numba.get_num_threads()
    if threading.current_thread() is not threading.main_thread() and numba.threading_layer() == "workqueue":
        return 1  # the main thread may be inside a parallel function of somebody else
    return threads


def launch(kernel, params, chunks, threads):
    """Run `kernel` for every chunk with at most `threads` threads; it and its parameters are addresses."""
    if threads > 1 and _launching.acquire(blocking=False):
        try:
            _parallel(kernel, params, chunks, threads)
        finally:
            _launching.release()
    else:
        _serial(kernel, params, chunks)

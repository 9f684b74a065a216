"""Running a kernel over its chunks: in this thread, or in several when that is safe.

Kernels are C functions, so that the serial and the parallel run execute the same machine code, and no kernel is
compiled for threads.  Threads take chunks off a shared counter: one that is held up (another process on its core)
leaves its share to the rest.
"""

import os
import threading
import time
from functools import cache

import numba
from numba import prange, types

from ...core.interrupts import fork_waits
from .. import forks, jit
from . import workers
from .chunks import all_of, share_of

OWN = forks.OWN


def _serial(kernel, params, chunks):
    all_of(kernel, params, chunks)


def _shared(kernel, params, chunks, threads, run):
    for slot in prange(threads):
        share_of(kernel, params, chunks, run, slot)


_serial = jit.driver(_serial, types.void(types.int64, types.int64, types.int64))


#: Compiled (or loaded) when it is first needed: that takes seconds, and starts Numba's threads.
_numbas = jit.driver(_shared, types.void(*[types.int64] * 5), parallel=True)


def _parallel(kernel, params, chunks, threads, run):
    (workers.launch if OWN else _numbas)(kernel, params, chunks, threads, run)


# One parallel launch at a time: Numba's workqueue layer aborts the process when two threads enter it, and elsewhere a
# second launch would only compete for the same cores. Whoever finds the lock taken runs the serial driver instead.
_launching = threading.Lock()

# The Python threads whose launches want threads and are under way (as keys, of which Ctrl-C leaves none behind), and
# which thread ended one last, and when.  A thread that computes alone has a core as well, which a launch leaves to it,
# and to one that is about to: two Python threads that call at once took 1.25 times as long as with one thread each, for
# the help of one in the other's way.
_under_way: dict[int, bool] = {}
_last = 0, 0
RUNS = 4  # of chunks for each thread, at least: who is last keeps the others waiting for one
RECENT = 30_000  # nanoseconds: a call of softmax is in Python for 6 of its microseconds, one of a loss for 15


def _after_fork():
    """A lock that another thread of the parent held would never be released in the child, nor its launch end."""
    global _launching, _under_way
    _launching, _under_way = threading.Lock(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _first_asked():
    """Numba starts threads when it is first asked for their number, under a lock of its own."""
    with fork_waits:
        numba.get_num_threads()


def threads_for():
    """The number of threads (and scratch slots) that a launch from here may use; Numba's own setting is the limit."""
    if forks.threads_lost():
        return 1
    _first_asked()
    threads = numba.get_num_threads()
    if not OWN and threading.current_thread() is not threading.main_thread() and numba.threading_layer() == "workqueue":
        return 1  # the main thread may be inside a parallel function of somebody else
    return threads


def launch(kernel, params, chunks, threads, run=1):
    """Run `kernel` for every chunk with at most `threads` threads; it and its parameters are addresses.

    A thread takes `run` neighbouring chunks at a time, or fewer, so that each thread has `RUNS` of them.
    """
    global _last
    if threads == 1:
        _serial(kernel, params, chunks)
        return
    others, me = _under_way, threading.get_ident()  # a child that is forked meanwhile has another table
    last, ended = _last
    threads -= len(others) or (last != me and time.monotonic_ns() - ended < RECENT)
    others[me] = True
    try:
        _run(kernel, params, chunks, threads, run)
    finally:
        others.pop(me, None)
        _last = me, time.monotonic_ns()


def _run(kernel, params, chunks, threads, run):
    """Run a launch in so many threads, if no other has them, else in this one."""
    if threads > 1 and _launching.acquire(blocking=False):
        try:
            _parallel(kernel, params, chunks, threads, max(1, min(run, chunks // (RUNS * threads))))
        finally:
            _launching.release()
    else:
        _serial(kernel, params, chunks)

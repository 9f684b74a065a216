"""Threads that share the chunks of a launch, and on which no launch ever depends.

The thread that launches takes chunks as they do, every one that they have not begun, and waits for nobody who has begun
none.  So it does not matter whether a processor is free for them: GNU OpenMP's barrier waits for threads that have done
nothing, 8 ms for a call of 0.1 where another process has one of two cores.

A launch opens a gate with a number of its own, and closes it when no chunk is left.  Whoever passes is counted in the
same atomic step, and the launch ends when all who have passed are done; whoever comes late finds the gate closed, or
the number of another launch, and has not looked at the parameters, which may be gone by then.

Between launches a thread spins for a moment, and then sleeps until a launch signals.  A signal that is lost, as the
thread was just about to sleep, costs nothing but its help: so the launching thread never takes a lock to signal.
"""

import _thread
import ctypes
import os

import numba
import numpy as np
from numba import types

from .. import jit
from ..simd.words import integer_at, put_integer
from .chunks import all_of, share_of
from .posix import (
    CLOCK,
    CPUS,
    LINUX,
    THREAD_CLOCK,
    add,
    cpu,
    load,
    lock,
    moved_off,
    nanoseconds,
    pause,
    replaced,
    set_bits,
    signal,
    store,
    unlock,
    wait,
)

SPIN = 200_000  # nanoseconds for which a thread spins: calls in a row are nearer, and most launches of a linear pass
SPIN_AGAIN = 2_000  # after spinning was in vain
MOST_IN_VAIN = 63  # launches until it is tried again, at most
HELD_UP = 20_000  # between two looks at the clock, 300 apart: another thread has run on this processor meanwhile
USELESS = 10_000  # that signals cost which no thread has followed
# What was lost to threads that were held up, or did not come, is followed by so many times as long without them, so
# that they cost an eighth of the time at most; with 16 a launch beside torch's threads, which spin, had help seldom.
# A loss that comes after none for so many nanoseconds is followed by as long: that is no busy machine.
ALONE, RARE = 8, 100_000_000

# Bytes from the beginning of a pool; what is written by different threads lies in lines of its own (two, as processors
# fetch pairs of them).
LINE = 128
GATE, JOB, DONE, WAITING, STOLEN, ALONE_UNTIL, PROCESS, SLOTS = (k * LINE for k in range(8))
LAST_LOSS = ALONE_UNTIL + 8
KERNEL, PARAMS, CHUNKS, THREADS, RUN, PROCESSOR = range(6)  # words of the job
# Of a thread: whether it sleeps, and how much processor time it had; what it waits with; and a mask of processors.
ASLEEP, TIME, MUTEX, CONDITION, MASK, SLOT = 0, 64, LINE, 2 * LINE, 3 * LINE, 3 * LINE + CPUS // 8

# A gate is the number of the launch, whether it is closed, and how many threads have passed.
CLOSED, NUMBER = 1 << 15, 16


@jit.inline
def _slot(pool, number):
    return pool + SLOTS + number * SLOT


@jit.inline
def _now(me):
    return nanoseconds(CLOCK, me + TIME)


@jit.inline
def _wake(pool, number):
    """Signal to the two threads that thread `number` has to wake, if they sleep: how many do."""
    woken = 0
    for child in range(2 * number + 1, min(2 * number + 3, integer_at(pool + JOB, THREADS))):
        if load(_slot(pool, child) + ASLEEP) != 0:
            signal(_slot(pool, child) + CONDITION)
            woken += 1
    return woken


@jit.inline
def _has_room(pool, me):
    """Whether this thread is on another processor than the launching one, or could be moved away from it."""
    if LINUX:
        here = integer_at(pool + JOB, PROCESSOR)
        return cpu() != here or moved_off(here, load(pool + PROCESS), me + MASK)
    return True


@jit.inline
def _passes(pool, number, gate):
    """Whether thread `number` takes part in the launch whose gate was seen."""
    launch = gate >> NUMBER
    while gate & CLOSED == 0 and gate >> NUMBER == launch:
        if number >= integer_at(pool + JOB, THREADS) or not _has_room(pool, _slot(pool, number)):
            return False
        if replaced(pool + GATE, gate, gate + 1):
            return True
        gate = load(pool + GATE)
    return False


@jit.inline
def _help(pool, number):
    """Do a share of the launch that this thread has been let into."""
    me, job = _slot(pool, number), pool + JOB
    begun, worked = _now(me), nanoseconds(THREAD_CLOCK, me + TIME)
    _wake(pool, number)
    about = integer_at(job, KERNEL), integer_at(job, PARAMS), integer_at(job, CHUNKS), integer_at(job, RUN)
    share_of(*about, number)
    if load(pool + WAITING) != 0:  # the launching thread sleeps: is it this one's fault, or a long chunk's?
        add(pool + STOLEN, _now(me) - begun - (nanoseconds(THREAD_CLOCK, me + TIME) - worked))
    add(pool + DONE, 1)
    if load(pool + WAITING) != 0:
        caller = _slot(pool, 0)
        lock(caller + MUTEX)
        signal(caller + CONDITION)
        unlock(caller + MUTEX)


@jit.inline
def _sleep(pool, me, launch):
    """Sleep until there is another launch than number `launch`."""
    lock(me + MUTEX)
    store(me + ASLEEP, 1)
    while load(pool + GATE) >> NUMBER == launch:
        wait(me + CONDITION, me + MUTEX)
    store(me + ASLEEP, 0)
    unlock(me + MUTEX)


@jit.inline
def _spun(pool, me, launch, patience):
    """Spin until there is another launch: True; or for so many nanoseconds, or until held up: False."""
    begun = last = _now(me)
    while load(pool + GATE) >> NUMBER == launch:
        for _ in range(8):
            pause()
        now = _now(me)
        if now - begun > patience or now - last > HELD_UP:
            return False
        last = now
    return True


def _work(pool, number):
    """Take part in launches, for ever."""
    me, seen, in_vain, skip = _slot(pool, number), -1, 0, 0
    while True:
        gate = load(pool + GATE)
        if gate >> NUMBER != seen:
            seen = gate >> NUMBER
            if _passes(pool, number, gate):
                _help(pool, number)
        elif skip > 0:
            skip -= 1
            if not _spun(pool, me, seen, SPIN_AGAIN):
                _sleep(pool, me, seen)
        elif _spun(pool, me, seen, SPIN):
            in_vain = 0
        else:
            in_vain = min(2 * in_vain + 1, MOST_IN_VAIN)
            skip = in_vain
            _sleep(pool, me, seen)


@jit.inline
def _wait(pool, passed):
    """Wait until those who have passed are done: the nanoseconds that were lost by their being held up."""
    me = _slot(pool, 0)
    begun = _now(me)
    while load(pool + DONE) != passed:
        pause()
        if _now(me) - begun > SPIN:
            lock(me + MUTEX)
            store(pool + WAITING, 1)
            while load(pool + DONE) != passed:
                wait(me + CONDITION, me + MUTEX)
            store(pool + WAITING, 0)
            unlock(me + MUTEX)
    return min(_now(me) - begun, load(pool + STOLEN))


def _launch(pool, kernel, params, chunks, threads, run):
    """Run a kernel for every chunk, in this thread and in up to ``threads - 1`` others."""
    me, job = _slot(pool, 0), pool + JOB
    if _now(me) < integer_at(pool, ALONE_UNTIL // 8):
        all_of(kernel, params, chunks)
        return
    for field, value in ((KERNEL, kernel), (PARAMS, params), (CHUNKS, chunks), (THREADS, threads), (RUN, run)):
        put_integer(job, field, value)
    if LINUX:
        put_integer(job, PROCESSOR, cpu())
    store(pool + DONE, 0)
    store(pool + STOLEN, 0)
    store(pool + GATE, ((load(pool + GATE) >> NUMBER) + 1) << NUMBER)
    woken = _wake(pool, 0)
    share_of(kernel, params, chunks, run, 0)
    passed = set_bits(pool + GATE, CLOSED) & (CLOSED - 1)
    lost = USELESS if woken != 0 else 0
    if passed != 0:
        lost = _wait(pool, passed)
    if lost > 0:
        now = _now(me)
        often = now - integer_at(pool, LAST_LOSS // 8) < RARE
        put_integer(pool, LAST_LOSS // 8, now)
        put_integer(pool, ALONE_UNTIL // 8, now + (ALONE if often else 1) * lost)


class Workers:
    """A pool of threads; none is started before it is needed."""

    def __init__(self):
        word, self.started, self.most = types.int64, 1, numba.config.NUMBA_NUM_THREADS  # the launching thread counts
        self.launch = jit.driver(_launch, types.void(word, word, word, word, word, word)).entry()
        self.work = jit.driver(_work, types.void(word, word)).entry()
        self.room = np.zeros(SLOTS + (self.most + 1) * SLOT, np.uint8)
        self.address = -(-self.room.ctypes.data // LINE) * LINE
        library = ctypes.CDLL(None)
        for slot in range(self.address + SLOTS, self.address + SLOTS + self.most * SLOT, SLOT):
            library.pthread_mutex_init(ctypes.c_void_p(slot + MUTEX), None)
            library.pthread_cond_init(ctypes.c_void_p(slot + CONDITION), None)
        for place, value in ((GATE, CLOSED), (PROCESS, os.getpid())):
            ctypes.c_int64.from_address(self.address + place).value = value

    def start(self, threads):
        """Have so many threads, or as many as the operating system allows."""
        try:
            while self.started < min(threads, self.most):
                # Not of `threading`: they hold no interpreter lock, never end, and nobody should wait for them.
                _thread.start_new_thread(self._run, (self.started,))
                self.started += 1
        except RuntimeError:  # a limit of the system, or the interpreter's end: launches need no thread
            pass

    def _run(self, number):
        """Work; this frame keeps the pool's memory and code, whatever becomes of the modules at the end."""
        self.work(self.address, number)


_pool = None


def _after_fork():
    """The threads do not survive in the child."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def launch(kernel, params, chunks, threads, run=1):
    """Run a kernel for every chunk, `run` at a time, with at most `threads` threads; one launch at a time."""
    global _pool
    if _pool is None:
        _pool = Workers()
    if threads > _pool.started:
        _pool.start(threads)
    _pool.launch(_pool.address, kernel, params, chunks, min(threads, _pool.started), run)

"""The threads of parallel launches: every chunk once, nobody who comes late, no launch that waits for them in vain."""

import _thread
import ctypes
import os
import sys
import threading

import numpy as np
import pytest
from numba import cfunc, njit, types

from fastsoftmax.cpu import jit
from fastsoftmax.cpu.simd.words import integer_at, put_integer
from fastsoftmax.cpu.threads import launch, posix, workers
from tests.pairs import exhaustive_but

pytestmark = pytest.mark.skipif(not launch.OWN, reason="launches have no threads of their own on this system")

WORD = types.int64
SLOT_OF, TIMES, FIRST = 1, 2, 3  # fields of the parameters: of which slot to wait for what, and the first chunk's
MANY = 40  # chunks


@cfunc(jit.SIGNATURE)
def note(params, chunk, slot):
    """Count the calls of a chunk, and note its slot; a slot that is asked to waits for all chunks but its own."""
    put_integer(params, FIRST + 2 * chunk, integer_at(params, FIRST + 2 * chunk) + 1)
    put_integer(params, FIRST + 2 * chunk + 1, slot)
    if slot != 0 and integer_at(params, SLOT_OF) != 0:
        posix.add(params + 8 * TIMES, 1)
        while posix.load(params) < MANY:
            posix.pause()
    for _ in range(2000):
        posix.pause()


@pytest.fixture
def pool(monkeypatch):
    """A pool of up to four threads in the place of the process's."""
    monkeypatch.setattr(workers.numba.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(workers, "_pool", made := workers.Workers())
    return made


def launched(threads, chunks=MANY, waiting=0, run=1):
    """The parameters of a launch, and after it how often each chunk was run and in which slot."""
    params = np.zeros(FIRST + 2 * chunks, np.int64)
    params[SLOT_OF] = waiting
    workers.launch(note.address, params.ctypes.data, chunks, threads, run)
    return params, params[FIRST::2], params[FIRST + 1 :: 2]


def word(pool, place):
    return ctypes.c_int64.from_address(pool.address + place)


@pytest.mark.parametrize("threads", exhaustive_but([1, 4, 9], [1, 2, 4, 9]))
def test_every_chunk_once(pool, threads):
    """And nothing afterwards: whoever is late must not touch parameters, which are somebody else's by then."""
    earlier = []
    for turn in range(600):
        chunks = turn % (MANY + 1)
        params, times, slots = launched(threads, chunks)
        assert (times == 1).all()
        assert slots.max(initial=0) < threads
        params[:] = -7
        earlier.append(params)
    assert pool.started == min(threads, 4)
    assert all((params == -7).all() for params in earlier)


@pytest.mark.parametrize("run", [2, 5, MANY + 1])
def test_neighbours_are_of_one_thread(pool, run):
    """Every chunk once, `run` of them by the same thread, whether or not the last ones are as many."""
    for turn in range(200):
        _, times, slots = launched(4, turn % (MANY + 1), run=run)
        assert (times == 1).all()
        for first in range(0, len(slots), run):
            assert len(set(slots[first : first + run])) == 1


def test_slow_chunks_are_waited_for(pool):
    """A thread that has begun a chunk ends it before the launch does, though the launching one sleeps until then."""
    for _ in range(100):
        word(pool, workers.ALONE_UNTIL).value = 0
        params, times, slots = launched(2, waiting=1)
        assert (times == 1).all()
        assert params[TIMES] == (slots != 0).sum() <= 1  # it waits in its first
    assert word(pool, workers.WAITING).value == 0


def test_threads_that_do_not_come(pool):
    """They sleep, as far as anybody knows, and no signal wakes them: the next launches do without them for a while."""
    pool.started = 4
    for number in (1, 2, 3):
        word(pool, workers.SLOTS + number * workers.SLOT + workers.ASLEEP).value = 1
    _, times, slots = launched(4)
    assert (times == 1).all()
    assert not slots.any()
    assert word(pool, workers.ALONE_UNTIL).value > 0
    word(pool, workers.ALONE_UNTIL).value = 1 << 62
    number = word(pool, workers.GATE).value
    assert (launched(4)[1] == 1).all()
    assert word(pool, workers.GATE).value == number  # nobody was asked


def test_threads_that_cannot_be_started(pool, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refused)
    assert (launched(4)[1] == 1).all()
    assert pool.started == 1


def test_who_passes_the_gate(pool):
    """Only by the number that was seen, before it closes, and where the launch has a slot for the thread."""

    @njit(types.boolean(WORD, WORD, WORD), error_model="numpy")
    def passes(address, number, gate):
        return workers._passes(address, number, gate)

    here = word(pool, workers.JOB + 8 * workers.PROCESSOR)
    word(pool, workers.JOB + 8 * workers.THREADS).value, here.value = 3, -1
    gate, opened = word(pool, workers.GATE), 7 << workers.NUMBER
    gate.value = opened
    assert passes(pool.address, 1, opened)
    assert gate.value == opened + 1
    assert passes(pool.address, 2, opened)  # as it was a moment ago
    assert gate.value == opened + 2
    assert not passes(pool.address, 3, opened + 2)
    for state in (opened + 2 | workers.CLOSED, 8 << workers.NUMBER):
        gate.value = state
        assert not passes(pool.address, 1, opened)
        assert not passes(pool.address, 1, opened | workers.CLOSED)
        assert gate.value == state


@pytest.mark.skipif(not posix.LINUX, reason="only Linux tells threads where they are")
def test_a_thread_leaves_the_launching_ones_processor():
    """For one that the process may use; where there is none, it stays and says so."""

    @njit(types.boolean(WORD, WORD, WORD), error_model="numpy")
    def moved(here, process, space):
        return posix.moved_off(here, process, space)

    space, found = np.zeros(posix.CPUS // 64, np.int64), {}
    allowed = sorted(os.sched_getaffinity(0))

    def move():
        for here in (allowed[0], -1, posix.CPUS):
            found[here] = moved(here, os.getpid(), space.ctypes.data), os.sched_getaffinity(0)

    (thread := threading.Thread(target=move)).start()
    thread.join()
    rest = set(allowed[1:])
    assert found[allowed[0]] == (bool(rest), rest or {allowed[0]})
    assert not found[-1][0]
    assert not found[posix.CPUS][0]
    assert os.sched_getaffinity(0) == set(allowed)


def test_the_rest_of_python_sees_no_threads(pool):
    """Nobody waits for them at the end of the process."""
    before = threading.enumerate()
    launched(4)
    assert pool.started == 4
    assert threading.enumerate() == before
    assert (sys.platform != "win32") == launch.OWN

"""Timing of calls: in turn, again and again, so that a machine that slows down slows them all."""

import collections
import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .results import Timing

Call = Callable[[], object]
Turn = Callable[[], object]  # called before each turn of a contestant: a place to be interrupted

STAT = Path("/proc/stat")
SHORTEST = 2e-3  # seconds that a repetition lasts at least, so that it is about the call and not about its start
TURN = 1e-2  # seconds in which shorter repetitions follow one another, as the rest before them takes longer
LONG = 1.0  # seconds from which a call is about itself, whatever state it finds caches and threads in
#: Seconds after which the threads of other libraries sleep; until then they take a core from the next contestant.
#: `spinning` measures 107 ms for OpenBLAS after a product, 5 to 10 ms for GNU OpenMP and Numba, on two cores.
PAUSE = 0.15
#: Seconds without work after which they sleep already: Linux counts other threads' time every 10 ms or less.
QUIET = 0.025
STEP = 2e-3
#: Seconds of calls before one is timed: after a rest a core is slow to speed up, and two threads may wake up on one of
#: them until the scheduler sees it: of ten calls of half a millisecond the first two took 1 to 8.
WARM = 0.02


def _last_work(most: float, quiet: float) -> float:
    """Seconds for which threads of this process go on, watched for `most`, or until they do nothing for `quiet`."""
    start = time.perf_counter()
    last, busy = 0.0, time.process_time()
    while (now := time.perf_counter() - start) < min(most, last + quiet):
        time.sleep(STEP)
        before, busy = busy, time.process_time()
        if busy - before > STEP / 2:
            last = now + STEP
    return last


def spinning(call: Call, wait: float = 0.3) -> float:
    """Seconds for which threads of this process go on after the end of a call, of `wait` that are watched."""
    call()
    return _last_work(wait, math.inf)


def settle(call: Call, pause: float, *, warm: bool = True) -> None:
    """Let the threads of what ran before go to sleep, then have cores, caches and allocator as `call` leaves them."""
    _last_work(pause, QUIET)
    end = time.perf_counter() + WARM
    while warm:
        call()
        warm = time.perf_counter() < end


def _seconds(call: Call, times: int = 1) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def in_turn(names: Iterable[str], *, seconds: float, least: int, most: float = math.inf) -> Iterator[str]:
    """Names, all of them again and again, until some seconds are over; bounded in the number of turns."""
    turning, end = collections.deque(names), time.perf_counter() + seconds
    turns = 0
    while turning and turns < most and (turns < least or time.perf_counter() < end):
        yield from list(turning)
        turning.rotate(-1)  # so that nobody always runs in the caches, at the clock rate, that the same other has left
        turns += 1


def repeated(repetition: Callable[[], float], seconds: float) -> list[float]:
    """The times of as many repetitions as go into some seconds, or of one."""
    end = time.perf_counter() + seconds
    times = [repetition()]
    while time.perf_counter() < end:
        times.append(repetition())
    return times


def _busy() -> float:
    """Seconds that cores have worked, for anybody, or were kept by other machines on the same hardware."""
    user, nice, system, _, _, irq, softirq, steal = map(int, STAT.read_text().split()[1:9])
    return float(user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def watched() -> Iterator[list[float]]:
    """Find out how many cores others take meanwhile, on average: the only number of the list; empty where unknown."""
    known = STAT.exists()
    cores: list[float] = []
    before = (_busy() - time.process_time(), time.perf_counter()) if known else (0.0, 0.0)
    yield cores
    if known:
        work, elapsed = _busy() - time.process_time() - before[0], time.perf_counter() - before[1]
        cores.append(max(0.0, work / elapsed))


def measure(
    calls: dict[str, Call],
    *,
    seconds: float,
    least: int = 3,
    most: int = 200,
    pause: float = 0.0,
    turn: Turn = lambda: None,
) -> dict[str, Timing]:
    """Time calls in turn, again and again.

    Parameters
    ----------
    calls : dict of str to callable
        What to time, by name.  Each is called before it is timed, in every repetition; one that takes longer than a
        second, which is about itself from the start, in the beginning only.
    seconds : float
        How long to go on.
    least, most : int
        Bounds on the number of turns, whatever the time; calls of more than a second get one more.
    pause : float
        Seconds of rest before each turn, at most: it ends when the threads of this process sleep.  `PAUSE` where
        libraries with threads of their own are among the calls.
    turn : callable
        Called before each turn, outside what is timed: a place to be interrupted.

    Returns
    -------
    dict of str to Timing
        The least and the median time of a call, and the number of repetitions, by name.
    """
    first = {}
    for name, call in calls.items():
        turn()
        settle(call, pause)
        first[name] = _seconds(call)
    times = {name: max(1, int(SHORTEST / max(once, 1e-9))) for name, once in first.items()}
    taken = {name: [once] if once >= LONG else [] for name, once in first.items()}
    for name in in_turn(calls, seconds=seconds, least=least, most=most):
        turn()
        settle(calls[name], pause, warm=first[name] < LONG)
        taken[name] += repeated(functools.partial(_seconds, calls[name], times[name]), TURN)
    return {name: Timing.of(seconds_) for name, seconds_ in taken.items()}

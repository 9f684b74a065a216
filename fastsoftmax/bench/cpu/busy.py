"""Calls while others work: processes that keep cores busy, or the threads of another library in the same process."""

import contextlib
import functools
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numba

from ..cases import BUSY_TORCH, HOGS, Case
from ..inputs import inputs
from ..results import INTO, ONE_THREAD, TORCH, Result, Timing
from ..timing import PAUSE, Call, Turn, in_turn, repeated, settle, watched
from .contestants import prepared

ALONE = INTO + ONE_THREAD
LIMIT = 120  # seconds for which a process keeps a core busy, whatever becomes of this one
TURN = 0.05  # seconds of calls, one after the other
WORK = 1 << 20  # numbers that torch adds to before each call, in threads that spin afterwards
_HOG = """
import os, sys, time
end, parent = time.monotonic() + float(sys.argv[1]), int(sys.argv[2])
print("busy", flush=True)
while time.monotonic() < end and os.getppid() == parent:
    pass
"""


@contextlib.contextmanager
def hogs(count: int) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that keep a core busy each, in sessions of their own: Linux shares cores between sessions first."""
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(count):
            hog = subprocess.Popen(
                [sys.executable, "-S", "-c", _HOG, str(LIMIT), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,
            )
            stack.enter_context(hog)  # last of all it is waited for,
            stack.callback(hog.kill)  # and before that it is ended
            started.append(hog)
        for hog in started:
            assert hog.stdout is not None
            hog.stdout.readline()
        yield started


def _nothing() -> None:
    """Before a call, where nothing else works in this process."""


def _torch_works() -> Call:
    """A product by torch, before a call."""
    torch: Any = importlib.import_module("torch")
    return functools.partial(torch.ones(WORK).add_, 1.0)


def _seconds(call: Call, before: Call) -> float:
    """Seconds of a call, without what is done before it."""
    before()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(case: Case, threads: int, *, seconds: float, least: int = 3, turn: Turn = lambda: None) -> Result:
    """Time a case of the group "busy" in all threads and in one, in turn, for `LIMIT` / 2 seconds at most."""
    try:
        before = _torch_works() if case.option == BUSY_TORCH else _nothing
    except ModuleNotFoundError:
        return Result(case, {}, {TORCH: "torch is not installed"})
    plain = case._replace(option="")
    calls, skipped = prepared(plain, [inputs(plain)], [INTO], turn)
    numbers = {INTO: threads, ALONE: 1} if calls else {}
    times: dict[str, list[float]] = {name: [] for name in numbers}
    with watched() as others, hogs(HOGS.get(case.option, 0)) as started:
        for name in in_turn(numbers, seconds=min(seconds, LIMIT / 2), least=least):
            turn()
            numba.set_num_threads(numbers[name])
            settle(calls[INTO], PAUSE)
            times[name] += repeated(functools.partial(_seconds, calls[INTO], before), TURN)
    numba.set_num_threads(threads)
    timings = {name: Timing.of(taken) for name, taken in times.items()}
    strangers = None if started else next(iter(others), None)  # processes of our own take some of the cores, too
    return Result(case, timings, skipped, others=strangers)

"""Calls while others work: processes that keep cores busy, or threads of this process, of other libraries or Python.

Each is timed in all threads and in one, in turn: what threads add must not be lost to those who work beside them.
"""

import contextlib
import functools
import importlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from ...cpu.addresses import address
from ...cpu.threads import launch
from ..cases import AT_ONCE, BUSY_BLAS, BUSY_SKLEARN, BUSY_TORCH, DASK, EMPTY, HOGS, IN_PYTHON, RESTED, Case
from ..inputs import inputs
from ..results import INTO, ONE_THREAD, Result, Timing
from ..timing import PAUSE, Call, Turn, in_turn, repeated, settle, watched
from . import ceilings
from .contestants import prepared

Times = Callable[[int], list[float]]  # the seconds of calls in a number of threads

ALONE = INTO + ONE_THREAD
LIMIT = 120  # seconds for which a process keeps a core busy, whatever becomes of this one
TURN = 0.05  # seconds of calls, one after the other
WORK = 1 << 20  # numbers that torch adds to before each call, in threads that spin afterwards
REST = 1e-3  # seconds after which the threads of a launch sleep
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


def _rests() -> None:
    """Python for a while, before a call."""
    end = time.perf_counter() + REST
    while time.perf_counter() < end:
        pass


def _torch_works() -> Call:
    """A sum by torch, before a call."""
    torch: Any = importlib.import_module("torch")
    return functools.partial(torch.ones(WORK).add_, 1.0)


def _sklearn_works() -> Call:
    """The nearest of some points, by scikit-learn."""
    nearest = importlib.import_module("sklearn.metrics").pairwise_distances_argmin
    points = np.random.default_rng(0).random((2000, 32))
    return functools.partial(nearest, points, points[:16])


def _blas_works() -> Call:
    """A product by NumPy."""
    factor = np.ones((512, 512), np.float32)
    return functools.partial(np.matmul, factor, factor, out=np.empty_like(factor))


BEFORE: dict[str, Callable[[], Call]] = {
    BUSY_TORCH: _torch_works,
    BUSY_SKLEARN: _sklearn_works,
    BUSY_BLAS: _blas_works,
    RESTED: lambda: _rests,
}


def _seconds(call: Call, before: Call) -> float:
    """Seconds of a call, without what is done before it."""
    before()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _in_this_thread(call: Call, before: Call, threads: int) -> list[float]:
    """The seconds of calls, each after some work."""
    numba.set_num_threads(threads)
    settle(call, PAUSE)
    return repeated(functools.partial(_seconds, call, before), TURN)


@contextlib.contextmanager
def _computing(count: int) -> Iterator[None]:
    """Threads that compute in Python."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(100))

    threads = [threading.Thread(target=compute) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


#: The calls of tasks, by number: a task of Dask's is copied with its arguments, and arrays become others.
_of_tasks: list[Call] = []


def _task(number: int, threads: int) -> float:
    """The mean seconds of one of several calls at once: where they outnumber cores, some take long and some do not."""
    numba.set_num_threads(threads)  # of this thread alone
    return statistics.fmean(repeated(functools.partial(_seconds, _of_tasks[number], _nothing), TURN))


def _at_once(executor: Executor, calls: list[Call], threads: int) -> list[float]:
    """The mean seconds of calls in each of several threads."""
    settle(calls[0], PAUSE)
    _of_tasks[:] = calls
    return list(executor.map(_task, range(len(calls)), [threads] * len(calls)))


@contextlib.contextmanager
def _dask(threads: int) -> Iterator[Executor]:
    """The threads of a Dask worker in this process."""
    distributed = importlib.import_module("distributed")
    about = {"n_workers": 1, "threads_per_worker": threads, "dashboard_address": None}
    with distributed.Client(processes=False, **about) as client:
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _beside(option: str, calls: list[Call], threads: int) -> Iterator[Times]:
    """A function that times calls, while others work."""
    with contextlib.ExitStack() as stack:
        if option in AT_ONCE or option == DASK:
            enter: Any = _dask(threads) if option == DASK else ThreadPoolExecutor(len(calls))
            yield functools.partial(_at_once, stack.enter_context(enter), calls)
            return
        before = BEFORE[option]() if option in BEFORE else _nothing
        stack.enter_context(hogs(HOGS.get(option, 0)))
        stack.enter_context(_computing(IN_PYTHON.get(option, 0)))
        yield functools.partial(_in_this_thread, calls[0], before)


def _empty() -> Call:
    """A launch that has nothing to do, in as many threads as there may be."""
    make: Any = ceilings.nothing
    kernel, params = make().address, np.zeros(1, np.int64)

    def call() -> None:
        params[0] = 0
        launch.launch(kernel, address(params), 2, numba.get_num_threads())

    return call


def _calls(case: Case, count: int, turn: Turn) -> tuple[list[Call], dict[str, str]]:
    """So many calls of a case, each with arrays of its own, and why there are none."""
    if case.function == EMPTY:
        return [_empty()], {}
    plain, made = case._replace(option=""), []
    for _ in range(count):
        calls, skipped = prepared(plain, [inputs(plain)], [INTO], turn)
        if not calls:
            return [], skipped
        made.append(calls[INTO])
    return made, {}


def measured(case: Case, threads: int, *, seconds: float, least: int = 3, turn: Turn = lambda: None) -> Result:
    """Time a case of the group "busy" in all threads and in one, in turn, for `LIMIT` / 2 seconds at most."""
    calls, skipped = _calls(case, AT_ONCE.get(case.option, threads if case.option == DASK else 1), turn)
    numbers = {INTO: threads, ALONE: 1} if calls else {}
    times: dict[str, list[float]] = {name: [] for name in numbers}
    try:
        with watched() as others, _beside(case.option, calls, threads) as timed:
            for name in in_turn(numbers, seconds=min(seconds, LIMIT / 2), least=least):
                turn()
                times[name] += timed(numbers[name])
    except ModuleNotFoundError as error:
        return Result(case, {}, {case.option: f"{error.name} is not installed"})
    finally:
        numba.set_num_threads(threads)
    timings = {name: Timing.of(taken) for name, taken in times.items()}
    # Processes of our own take some of the cores, too.
    return Result(case, timings, skipped, others=None if case.option in HOGS else next(iter(others), None))

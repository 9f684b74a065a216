"""How calls on a GPU are timed: by its own events, in turn, with caches flushed before each; and what the host pays."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from ..results import Timing
from ..timing import Call
from .gpu import Gpu

TURN = 2e-2  # seconds of a contestant's turn, about
MOST = 20  # calls in a turn: the GPU is to have work, and not to fall behind for long
WARM = 3  # calls before any is timed: libraries compile, choose and allocate
QUEUED = 50  # calls whose host time is taken together: their kernels are fewer than a GPU's queue holds, so none waits


def _events(gpu: Gpu, call: Call, times: int) -> list[float]:
    """Seconds a call on the GPU; the host runs ahead of it, so that the longer of the two times counts."""
    marks: list[tuple[Any, Any]] = []
    for _ in range(times):
        gpu.flush()
        start = gpu.record()
        call()
        marks.append((start, gpu.record()))
    gpu.synchronize()
    return [gpu.seconds(start, end) for start, end in marks]


def measure(
    gpu: Gpu,
    calls: dict[str, Call],
    *,
    seconds: float,
    least: int = 3,
    most: int = 50,
    turn: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time calls on a GPU in turn, again and again.

    Parameters
    ----------
    gpu : Gpu
        Where.
    calls : dict of str to callable
        What to time, by name.
    seconds : float
        How long to go on, all of them together.
    least, most : int
        Bounds on the number of turns, whatever the time.
    turn : callable
        Called before each turn, outside what is timed: a place to be interrupted.

    Returns
    -------
    dict of str to Timing
        The least and the median time of a call, and the number of repetitions, by name.
    """
    times: dict[str, int] = {}
    for name, call in calls.items():
        turn()
        once = min(_events(gpu, call, WARM))
        times[name] = max(1, min(MOST, int(TURN / max(once, 1e-9))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    names, end = list(calls), time.perf_counter() + seconds
    for turns in range(most):
        if turns >= least and time.perf_counter() >= end:
            break
        for name in names:
            turn()
            found[name] += _events(gpu, calls[name], times[name])
        names.append(names.pop(0))  # so that nobody always runs at the clock rate that the same other has left
    return {name: _timing(taken) for name, taken in found.items()}


def host_times(
    gpu: Gpu,
    calls: dict[str, Call],
    *,
    seconds: float,
    least: int = 5,
    most: int = 50,
    turn: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Seconds until a call returns to the host, whose work on the GPU goes on.

    Parameters
    ----------
    gpu, calls, seconds, least, most, turn
        As for `measure`; a turn is `QUEUED` calls.

    Returns
    -------
    dict of str to Timing
        By name.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for turns in range(most):
        if turns >= least and time.perf_counter() >= end:
            break
        for name, call in calls.items():
            turn()
            found[name].append(_returned(gpu, call))
    return {name: _timing(taken) for name, taken in found.items()}


def _returned(gpu: Gpu, call: Call) -> float:
    """Seconds a call of the host's, with an empty queue before."""
    for _ in range(WARM):
        call()
    gpu.synchronize()
    start = time.perf_counter()
    for _ in range(QUEUED):
        call()
    taken = time.perf_counter() - start
    gpu.synchronize()
    return taken / QUEUED


def _timing(taken: list[float]) -> Timing:
    return Timing(min(taken), statistics.median(taken), len(taken))

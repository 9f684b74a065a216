"""Timing of calls on a GPU: by its own events, in turn, with caches flushed before each; and what the host pays."""

import time
from typing import Any

from ..results import Timing
from ..timing import Call, Turn, in_turn
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
    gpu: Gpu, calls: dict[str, Call], *, seconds: float, least: int = 3, most: int = 50, turn: Turn = lambda: None
) -> dict[str, Timing]:
    """Time calls on a GPU in turn, again and again, as `bench.timing.measure` does on the CPU."""
    times: dict[str, int] = {}
    for name, call in calls.items():
        turn()
        once = min(_events(gpu, call, WARM))
        times[name] = max(1, min(MOST, int(TURN / max(once, 1e-9))))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for name in in_turn(calls, seconds=seconds, least=least, most=most):
        turn()
        taken[name] += _events(gpu, calls[name], times[name])
    return {name: Timing.of(seconds_) for name, seconds_ in taken.items()}


def host_times(
    gpu: Gpu, calls: dict[str, Call], *, seconds: float, least: int = 5, most: int = 50, turn: Turn = lambda: None
) -> dict[str, Timing]:
    """Seconds until a call returns to the host, whose work on the GPU goes on; a turn is `QUEUED` calls."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for name in in_turn(calls, seconds=seconds, least=least, most=most):
        turn()
        taken[name].append(_returned(gpu, calls[name]))
    return {name: Timing.of(seconds_) for name, seconds_ in taken.items()}


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

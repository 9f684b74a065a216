"""Linear cases are timed beside two floors, and what the timed calls have returned is compared."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.bench import timing
from fastsoftmax.bench.results import Timing
from fastsoftmax.bench.timing import Call

from . import cases, check, contestants
from .cases import FIT, LOSS, MEMORY, PREDICT, Case
from .contestants import CHUNKED, EAGER, NUMPY, OURS, PRODUCTS, SKLEARN, SKLEARN_1, THROUGH_TORCH, TIGHTER

READ, PEAK = "read", "peak"
READ_BYTES, PEAK_SIZE = 1 << 28, 2048
LEAST = 1  # repetition after the first of those that take seconds, so that they do not take all of the time

#: The peers of each operation that is timed, in the order of the columns.
PEERS = {
    LOSS: (SKLEARN, SKLEARN_1, CHUNKED, EAGER, THROUGH_TORCH, NUMPY, PRODUCTS),
    PREDICT: (SKLEARN, EAGER, NUMPY, PRODUCTS),
    FIT: (TIGHTER, SKLEARN),
}


class Result(NamedTuple):
    """The results of a case."""

    case: Case
    date: str
    seconds: dict[str, Timing]  # of contestants that are right, and of the floors
    absent: dict[str, str]  # why a contestant has no time
    extra_bytes: dict[str, int]  # of a fit's memory
    excess: dict[str, float]  # of a fit's objective over scikit-learn's, as a part of that
    spinning: float  # seconds that threads went on after a call, at most
    others: float | None  # cores that other processes and machines took meanwhile, on average; None if unknown

    @property
    def bandwidth(self) -> float:
        """Bytes a second that were read, at best."""
        return READ_BYTES / self.seconds[READ].least

    @property
    def peak(self) -> float:
        """Operations a second of the two products, at best."""
        return 4 * PEAK_SIZE**3 / self.seconds[PEAK].least

    @property
    def floors(self) -> tuple[float, float]:
        """Seconds that reading the features and computing the products take at least."""
        return self.case.nbytes / self.bandwidth, self.case.flops / self.peak

    @property
    def ours(self) -> str:
        """The contestant that others are compared with: ours, by default as it comes."""
        return TIGHTER if OURS not in self.seconds and TIGHTER in self.seconds else OURS

    def ratio(self, name: str) -> float | None:
        """A peer's time, as a multiple of ours."""
        if self.ours not in self.seconds or name not in self.seconds:
            return None
        return self.seconds[name].median / self.seconds[self.ours].median


def floor_calls(pool: ThreadPoolExecutor, threads: int) -> dict[str, Call]:
    """Reading memory, and computing products."""
    numbers = np.ones(READ_BYTES // 4, np.float32).reshape(threads, -1)
    a, b, c, d = np.ones((4, PEAK_SIZE, PEAK_SIZE), np.float32)

    def products() -> None:
        np.matmul(a, b.T, out=c)
        np.matmul(c.T, a, out=d)

    return {READ: lambda: list(pool.map(np.max, numbers)), PEAK: products}


def _keeping(calls: dict[str, Call], results: dict[str, Any]) -> dict[str, Call]:
    """The same calls, whose last results are kept."""

    def keeping(name: str) -> Call:
        return lambda: results.update({name: calls[name]()})

    return {name: keeping(name) for name in calls}


def timed(case: Case, date: str, seconds: float, floors: dict[str, Call]) -> Result:
    """Time a case; those whose results differ from an independent one's are left out."""
    data = cases.data(case)
    calls, absent = contestants.calls_on(case, data)
    results: dict[str, Any] = {}
    calls = _keeping(calls, results)
    if case.operation != FIT:
        calls |= floors
    with timing.watched() as others:
        times = timing.measure(calls, seconds=seconds, least=LEAST, pause=timing.PAUSE)
    names = [name for name in results if name != PRODUCTS]
    expected = next((results[name] for name in names if name not in {OURS, THROUGH_TORCH, TIGHTER}), None)
    for name in names:
        if wrong := check.disagreement(case, data, results[name], expected):
            absent[name] = wrong
            print(f"{case.name}: {name} {wrong}", file=sys.stderr)
    fits = names if case.operation == FIT else []
    excess = {name: check.excess(data, results[name], expected) for name in fits}
    spinning = [timing.spinning(calls[name]) for name in results if times[name].median < timing.LONG]
    right = {name: time for name, time in times.items() if name not in absent}
    busy = next(iter(others), None)
    return Result(case, date, right, absent, {}, excess, max(spinning, default=0.0), busy)


def weighed(case: Case, date: str) -> Result:
    """Measure the memory of a case's fits."""
    data = cases.data(case)
    calls, absent = contestants.calls_on(case, data)
    extra = {name: check.extra_memory(case, data, name) for name in calls}
    return Result(case, date, {}, absent, extra, {}, 0.0, None)


def run(chosen: list[Case], date: str, seconds: float) -> list[Result]:
    """Measure the cases one after the other, saying so on standard error."""
    measured: list[Result] = []
    with contestants.same_threads() as threads, ThreadPoolExecutor(threads) as pool:
        floors = floor_calls(pool, threads)
        for case in chosen:
            print(f"{len(measured) + 1}/{len(chosen)} {case.name}", file=sys.stderr)
            try:
                result = weighed(case, date) if case.operation == MEMORY else timed(case, date, seconds, floors)
            except cases.Missing as reason:
                result = Result(case, date, {}, {OURS: str(reason)}, {}, {}, 0.0, None)
            measured.append(result)
    return measured

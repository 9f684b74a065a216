"""Ceilings of the machine and floors of cases, measured with kernels of the library's own in its own threads.

A case whose arrays no cache holds cannot beat moving its bytes: a copy past the caches where the result goes elsewhere,
an update in place, a sum where nothing is written.  One that the caches hold cannot beat its exponentials.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.dtypes import FLOAT32, FLOAT64
from ...cpu.addresses import address
from ...cpu.threads import launch
from .. import results
from ..cases import DRAM, WRITERS, Case
from ..inputs import last_level
from ..timing import Call, measure
from . import ceilings

COPY, UPDATE, SUM, EXP = ceilings.COPY, ceilings.UPDATE, ceilings.SUM, ceilings.EXP
AHEAD = (0, 1024)  # elements that are prefetched ahead: some machines need it, on others it is in the way
CHUNK = 1 << 17  # bytes that a thread takes at a time: as many as the kernels' pieces of work have
MOST = 1 << 28  # bytes of an array; larger ones go no faster, and need not exist
IN_CACHE = 1 << 13  # bytes of exponents: a quarter of a first-level cache
LINES = 256  # bytes that all sizes are multiples of

_FACTOR = {COPY: 2, UPDATE: 2, SUM: 1}  # bytes moved for each that is read


@functools.cache
def _kernel(name: str, kind: int, ahead: int) -> int:
    """The address of a kernel, compiled."""
    make: Any = ceilings.MAKE[name]
    return int(make(kind, ahead).address)


def _aligned(size: int, value: float, dtype: Any = np.float32) -> NDArray[Any]:
    """`size` bytes from the beginning of a page on, all of them written to."""
    room = np.empty(size + 4096, np.uint8)
    start = -address(room) % 4096
    array: NDArray[Any] = room[start : start + size].view(dtype)
    array[:] = value
    return array


@functools.lru_cache(maxsize=1)
def _arrays(size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The arrays that all floors of a size read and write."""
    return _aligned(size, 1.0), _aligned(size, 0.0)


class Mover:
    """A floor as a call: COPY, UPDATE or SUM of `size` bytes, other ones each time, of arrays that no cache holds."""

    def __init__(self, name: str, size: int, threads: int, ahead: int) -> None:
        self.size = max(LINES, min(size, MOST) // LINES * LINES)
        room = max(self.size, -(-4 * last_level() // LINES) * LINES)
        self._read, self._written = _arrays(room)
        self._kernel, self._threads, self._next = _kernel(name, FLOAT32, ahead), threads, 0
        self._chunks = -(-self.size // CHUNK)
        self._results = np.zeros(self._chunks)

    def __call__(self) -> None:
        """Move the next bytes."""
        start = self._next
        self._next = start + self.size if start + 2 * self.size <= self._read.nbytes else 0
        bases = (address(self._read) + start, address(self._written) + start)
        params = np.array([0, *bases, self.size, CHUNK, address(self._results)], np.int64)
        launch.launch(self._kernel, address(params), self._chunks, min(self._threads, self._chunks))


def movers(names: tuple[str, ...], size: int, threads: int) -> dict[str, Mover]:
    """The calls of some floors, in all variants, by ``name`` and, beginning with a blank, the variant."""
    return {f"{name} {ahead}": Mover(name, size, threads, ahead) for name in names for ahead in AHEAD}


def best(timings: dict[str, results.Timing], calls: dict[str, Mover]) -> dict[str, float]:
    """Seconds for each byte that is read, by the best variant's median, for each floor."""
    paces: dict[str, float] = {}
    for key, mover in calls.items():
        name = key.partition(" ")[0]
        paces[name] = min(timings[key].median / mover.size, paces.get(name, np.inf))
    return paces


def exponentials(dtype: str = "float32") -> float:
    """Exponentials a second of one core, from the first-level cache, at best."""
    kind = FLOAT64 if dtype == "float64" else FLOAT32
    x, result = _aligned(IN_CACHE, -1.0, np.float64 if kind == FLOAT64 else np.float32), np.zeros(1)
    params = np.array([0, address(x), 0, x.nbytes, x.nbytes, address(result)], np.int64)
    kernel = _kernel(EXP, kind, 0)
    timing = measure({EXP: lambda: launch.launch(kernel, address(params), 1, 1)}, seconds=0.1, least=5)[EXP]
    return len(x) * ceilings.REPEATS / timing.least


def zeroed(threads: int, size: int = MOST) -> float:
    """Bytes a second of a new array that the system zeroes for so many threads, each of which touches a part of it."""

    def touched() -> None:
        pages = np.empty(size, np.uint8)[::4096]
        list(pool.map(lambda part: part.fill(1), np.array_split(pages, threads)))

    with ThreadPoolExecutor(threads) as pool:
        return size / measure({"touched": touched}, seconds=0.2, least=3)["touched"].median


def measured(threads: int, seconds: float) -> dict[str, float]:
    """The ceilings: gigabytes a second of all threads and of one, and exponentials of one core."""
    speeds: dict[str, float] = {}
    keys = {COPY: results.COPY, UPDATE: results.UPDATE, SUM: results.SUM}
    for count, suffix in {threads: "", 1: results.ONE_THREAD}.items():
        calls = movers((COPY, UPDATE, SUM), MOST, count)
        pace = best(measure(dict(calls), seconds=seconds / 2, least=3), calls)
        speeds |= {keys[name] + suffix: _FACTOR[name] / value / 1e9 for name, value in pace.items()}
    if threads == 1:
        speeds |= {key: speeds[key + results.ONE_THREAD] for key in keys.values()}
    speeds[results.ZEROED] = zeroed(threads) / 1e9
    speeds[results.EXP] = exponentials() / 1e9
    speeds[results.EXP64] = exponentials("float64") / 1e9
    return speeds


def calls_for(case: Case, threads: int) -> dict[str, Call]:
    """The floors to time in turn with a case's contestants; none where arithmetic is its floor."""
    if case.memory != DRAM:
        return {}
    names = (COPY, UPDATE) if case.function in WRITERS else (SUM,)
    read = case.nbytes // _FACTOR[names[0]]
    return dict(movers(names, read, threads))


def of_case(
    case: Case, timings: dict[str, results.Timing], calls: dict[str, Any], ceilings_: dict[str, float], threads: int
) -> tuple[tuple[str, float] | None, tuple[str, float] | None]:
    """The floor of a case, and the one of what works in place: names and seconds."""
    if not calls:
        rate = ceilings_[results.EXP64 if case.dtype == "float64" else results.EXP] * 1e9
        floor = (results.EXP_FLOOR, case.elements / rate / threads)
        return floor, floor if case.function in WRITERS else None
    pace = best(timings, calls)
    seconds = {name: case.nbytes / _FACTOR[name] * value for name, value in pace.items()}
    if case.function not in WRITERS:
        return (results.SUM_FLOOR, seconds[SUM]), None
    return (results.COPY_FLOOR, seconds[COPY]), (results.UPDATE_FLOOR, seconds[UPDATE])

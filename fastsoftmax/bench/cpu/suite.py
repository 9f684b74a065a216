"""Running cases."""

import fnmatch
import functools
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numba
from numba.core import config

from .. import machine
from ..cases import BUSY, CASES, LOSS_AND_GRAD, SHAPES, SOFTMAX, START, Case, is_quick
from ..inputs import available, native, ring
from ..results import COMPILED, INTO, NUMPY, OURS, SCIPY, Result, Run
from ..timing import PAUSE, Turn, measure, watched
from . import busy, floors, starts
from .contestants import LIBRARIES, MOST_OF_OTHERS, SPINNING, prepared, same_threads, wanted

Advance = Callable[[int, int, str], object]  # done, of how many, what comes next

QUICK_WITHOUT = {
    COMPILED: "left out of a quick run: it compiles for seconds a case",
    SCIPY: "left out of a quick run: NumPy is the faster of the two",
}
#: The cases and contestants that the main job shows.
SHOWN = tuple(
    case
    for case in CASES
    if case.group == SHAPES
    and case.function in {LOSS_AND_GRAD, SOFTMAX}
    and case.shape in {(64, 10), (65536, 10), (4096, 1008), (1024, 32000)}
)
OF_SHOWN = (OURS, INTO, NUMPY, SCIPY)


class Settings(NamedTuple):
    """The settings of a run."""

    quick: bool = False
    seconds: float | None = None  # to go on with a case; by default 4, or 1 of a quick run
    threads: int = 0  # all

    @property
    def time(self) -> float:
        """Seconds to go on with a case."""
        return self.seconds if self.seconds is not None else 1.0 if self.quick else 4.0

    @property
    def least(self) -> int:
        """Repetitions, at least."""
        return 3 if self.quick else 5


def chosen(pattern: str = "*", *, quick: bool = False) -> list[Case]:
    """The cases whose names match a pattern of `fnmatch`, of all or of the quick ones."""
    return [case for case in CASES if fnmatch.fnmatchcase(case.name, pattern) and (is_quick(case) or not quick)]


def facts(threads: int = 0) -> dict[str, str]:
    """The machine, the versions and the date of a run."""
    return machine.facts(*LIBRARIES) | {
        "threads": f"{threads or numba.get_num_threads()} of {config.NUMBA_NUM_THREADS}"
    }


def begun(settings: Settings) -> Run:
    """A run of no cases: the machine, and its ceilings."""
    with same_threads(settings.threads, ()) as threads:
        return Run(facts(threads), floors.measured(threads, settings.time), [])


def measured(
    case: Case, names: Collection[str], *, seconds: float, least: int = 3, turn: Turn = lambda: None
) -> Result:
    """Time some contestants of a case in turn, without floors, in the threads that there are."""
    calls, skipped = prepared(case, ring(case), names, turn)
    pause = PAUSE if SPINNING & set(calls) else 0.0
    return Result(case, measure(calls, seconds=seconds, least=least, pause=pause, turn=turn), skipped)


def _with_floors(case: Case, names: Collection[str], run: Run, settings: Settings, turn: Turn) -> Result:
    """Time a case's contestants and its floors in turn."""
    with same_threads(case.threads or settings.threads, names) as threads:
        calls, skipped = prepared(case, ring(case), names, turn)
        movers = floors.calls_for(case, threads)
        pause = PAUSE if SPINNING & set(calls) else 0.0
        with watched() as others:
            timings = measure({**calls, **movers}, seconds=settings.time, least=settings.least, pause=pause, turn=turn)
        floor, in_place = floors.of_case(case, timings, movers, run.ceilings, threads)
    return Result(case, {name: timings[name] for name in calls}, skipped, floor, in_place, next(iter(others), None))


def room(case: Case) -> int:
    """Bytes that a case takes, at most: logits and two results of ours, and as much for each of the others."""
    arrays = 3.5 if case.elements > MOST_OF_OTHERS else 12
    return int(arrays * case.elements * native(case.dtype).itemsize)


def _result(case: Case, run: Run, settings: Settings, turn: Turn) -> Result:
    """Measure a case, or say why not."""
    everybody = starts.wanted(case) if case.group == START else wanted(case)
    without = {name: why for name, why in QUICK_WITHOUT.items() if settings.quick and name in everybody}
    names = [name for name in everybody if name not in without]
    if case.group == START:
        result = starts.measured(case, names, settings.least if not settings.quick else 1, turn)
        return result._replace(skipped=result.skipped | without)
    try:
        if (needed := room(case)) > (free := available()):
            raise MemoryError(f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free")
        if case.group == BUSY:
            with same_threads(settings.threads, names) as threads:
                return busy.measured(case, threads, seconds=settings.time, least=settings.least, turn=turn)
        result = _with_floors(case, names, run, settings, turn)
    except MemoryError as error:
        return Result(case, {}, dict.fromkeys(names, str(error) or "not enough memory"))
    except ModuleNotFoundError as error:  # of ml_dtypes: without it there are no inputs
        return Result(case, {}, dict.fromkeys(names, f"{error.name} is not installed"))
    return result._replace(skipped=result.skipped | without)


def add(run: Run, cases: Iterable[Case], settings: Settings, advance: Advance = lambda done, total, name: None) -> None:
    """Measure cases one after the other, and add their results to a run as they come.

    `advance` is called with the number of cases that are done, of all, and the name of the next: before each turn of a
    contestant, so that it is a place to be interrupted too.
    """
    todo = list(cases)
    for done, case in enumerate(todo):
        turn = functools.partial(advance, done, len(todo), case.name)
        turn()
        run.results.append(_result(case, run, settings, turn))

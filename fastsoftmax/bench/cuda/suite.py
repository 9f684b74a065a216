"""Running the cases on a GPU, all of them within a budget of time."""

import fnmatch
import functools
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from .. import machine
from ..cases import LAUNCH, LINEAR, Case
from ..cpu.suite import Advance
from ..results import COMPILED, GPU_COPY, GPU_FLOOR, PRODUCTS_FLOOR, Result, Run
from ..timing import Call, Turn
from ..unable import Unable, one_line
from . import arrays, linear, memcheck
from .cases import CASES, MOST, copied, fitted, is_quick, room, wanted
from .contestants import Drawn, drawn, prepared
from .gpu import PACKAGES, Gpu
from .timing import host_times, measure

BUDGET, QUICK_BUDGET = 440.0, 120.0  # seconds for everything
FACTS = ("fastsoftmax", "Python", "NumPy", "Numba", "CPU")
QUICK_WITHOUT = {COMPILED: "left out of a quick run: it compiles for seconds a case"}
OVER = "the {:.0f} s for the whole run were over"
COPIED, PRODUCTS = "copy", "products"  # among the calls of a case


class Settings(NamedTuple):
    """The settings of a run."""

    quick: bool = False
    seconds: float | None = None  # to go on with a case; by default 1, or 0.5 of a quick run
    budget: float | None = None  # seconds for everything, preparations too

    @property
    def time(self) -> float:
        """Seconds to go on with a case, at most."""
        return self.seconds if self.seconds is not None else 0.5 if self.quick else 1.0

    @property
    def whole(self) -> float:
        """Seconds for everything."""
        return self.budget if self.budget is not None else QUICK_BUDGET if self.quick else BUDGET


class Clock:
    """The rest of a budget of seconds from now on, shared out among the cases that are left."""

    def __init__(self, budget: float) -> None:
        self.budget, self._end = budget, time.perf_counter() + budget
        self._share = self._end

    @property
    def left(self) -> float:
        """Seconds for everything that is left."""
        return self._end - time.perf_counter()

    def share(self, cases: int) -> None:
        """Begin a case, with its part of what is left for some."""
        self._share = time.perf_counter() + self.left / cases

    @property
    def of_case(self) -> float:
        """Seconds that are left of the share."""
        return self._share - time.perf_counter()


def chosen(pattern: str = "*", *, quick: bool = False) -> list[Case]:
    """The cases whose names match a pattern of `fnmatch`, of all or of the quick ones."""
    return [case for case in CASES if fnmatch.fnmatchcase(case.name, pattern) and (is_quick(case) or not quick)]


def facts(gpu: Gpu) -> dict[str, str]:
    """The machine, the versions and the date of a run."""
    known = machine.facts(*PACKAGES)
    return gpu.facts() | {name: known[name] for name in (*FACTS, *PACKAGES, "date") if name in known}


def begun(settings: Settings, *, sanitize: bool = True) -> tuple[Run, Clock]:
    """A run of no cases: the machine, its memory's check, and its copy; and the time that is left for cases."""
    gpu, clock = arrays.first_gpu(), Clock(settings.whole)
    machine = facts(gpu)
    machine["compute-sanitizer"] = memcheck.verdict(min(clock.left / 4, memcheck.LONGEST)) if sanitize else "not run"
    return Run(machine, {GPU_COPY: copy_speed(gpu, settings.time)}, []), clock


def copy_speed(gpu: Gpu, seconds: float) -> float:
    """Gigabytes a second that a copy on the GPU reads and writes, both counted."""
    size = int(min(4 * MOST, gpu.free() / 4)) // 1024 * 1024
    timing = measure(gpu, {COPIED: _copy(gpu, size)}, seconds=seconds)[COPIED]
    gpu.trim()
    return 2 * size / timing.median / 1e9


def _copy(gpu: Gpu, size: int) -> Call:
    """The copy of some bytes."""
    block = gpu.array(np.zeros((1024, 64), np.float32))
    source = gpu.empty(block, size // 256)
    to = gpu.empty(block, size // 256)
    gpu.copy(source, to)
    return functools.partial(gpu.copy, to, source)


def _timed(case: Case, d: Drawn, calls: dict[str, Call], seconds: float, turn: Turn) -> Result:
    """Time a case's contestants, and the copy of as many bytes, in turn."""
    if case.group == LAUNCH:
        return Result(case, host_times(d.gpu, calls, seconds=seconds, turn=turn), {})
    size = max(copied(case) // 1024 * 1024, 1024)
    timings = measure(d.gpu, {**calls, COPIED: _copy(d.gpu, size)}, seconds=seconds, turn=turn)
    floor = GPU_FLOOR, timings.pop(COPIED).median * case.nbytes / (2 * size)
    return Result(case, timings, {}, floor, floor)


def _linear(case: Case, d: linear.Drawn, calls: dict[str, Call], seconds: float, turn: Turn) -> Result:
    """Time a linear pass's contestants, and its products, in turn."""
    timings = measure(d.gpu, {**calls, PRODUCTS: linear.products(d)}, seconds=seconds, turn=turn)
    floor = PRODUCTS_FLOOR, timings.pop(PRODUCTS).median
    return Result(case, timings, {}, floor, floor)


def measured(case: Case, names: Collection[str], gpu: Gpu, clock: Clock, settings: Settings, turn: Turn) -> Result:
    """Check and time some contestants of a case; or say why not."""
    of_features = case.group == LINEAR
    needed = linear.room(case) if of_features else room(case)
    if needed > (free := gpu.free()):
        raise Unable(f"needs {needed / 1e9:.1f} GB on the GPU, {free / 1e9:.1f} are free")
    if of_features:
        features = linear.drawn(gpu, case)
        calls, skipped = linear.prepared(case, features, names, turn, lambda: clock.of_case <= 0)
        if not calls:
            return Result(case, {}, skipped)
        result = _linear(case, features, calls, max(0.2, min(settings.time, clock.of_case)), turn)
        return result._replace(skipped=skipped)
    d = drawn(gpu, case)
    # Launches come first, and with them what each library takes to be imported: that is nobody's share.
    calls, skipped = prepared(case, d, names, turn, lambda: case.group != LAUNCH and clock.of_case <= 0)
    if not calls:
        return Result(case, {}, skipped)
    seconds = max(0.2, min(settings.time, clock.of_case))
    return _timed(case, d, calls, seconds, turn)._replace(skipped=skipped)


def _result(case: Case, gpu: Gpu, clock: Clock, settings: Settings, turn: Turn) -> Result:
    """Measure a case in what memory and time there are, or say why not."""
    names, without = wanted(case), QUICK_WITHOUT if settings.quick else {}
    without = {name: why for name, why in without.items() if name in names}
    names = [name for name in names if name not in without]
    if clock.left <= 0:
        return Result(case, {}, dict.fromkeys([*names, *without], OVER.format(clock.budget)))
    case = case if case.group in {LAUNCH, LINEAR} else fitted(case, gpu.free())
    try:
        result = measured(case, names, gpu, clock, settings, turn)
    except Unable as reason:
        result = Result(case, {}, dict.fromkeys(names, str(reason)))
    except Exception as error:  # of a library's, out of memory for one: the other cases go on
        result = Result(case, {}, dict.fromkeys(names, one_line(error)))
    finally:
        gpu.trim()
    return result._replace(skipped=result.skipped | without)


def add(
    run: Run,
    clock: Clock,
    cases: Iterable[Case],
    settings: Settings,
    advance: Advance = lambda done, total, name: None,
) -> None:
    """Measure cases one after the other, and add their results to a run as they come, as the CPU's suite does."""
    todo, gpu = list(cases), arrays.first_gpu()
    for done, case in enumerate(todo):
        clock.share(len(todo) - done)
        turn = functools.partial(advance, done, len(todo), case.name)
        turn()
        run.results.append(_result(case, gpu, clock, settings, turn))

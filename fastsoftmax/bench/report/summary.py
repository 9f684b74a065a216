"""The few figures of a run that the report and the README share."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from ..cases import LOSS_AND_GRAD, SHAPES
from ..results import Result, Run

NONE = "–"  # where there is no number


class Summary(NamedTuple):
    """The time of the fastest of the others as a multiple of ours, over some cases."""

    shapes: int
    mean: float  # geometric
    least: Result
    behind: list[Result]  # where another is faster


def number(value: float) -> str:
    """Three digits, and those before the point in any case."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return number(seconds * 1e3)


def share(value: float | None) -> str:
    """A part of a whole, where it is known."""
    return NONE if value is None else f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def thread_count(run: Run) -> int:
    """The number of threads of a run."""
    return int(run.machine.get("threads", "1").split()[0])


def headline(run: Run, function: str = LOSS_AND_GRAD) -> list[Result]:
    """The cases of a function over the shapes, as far as they are in the run."""
    return [f for f in run.results if f.case.group == SHAPES and f.case.function == function]


def summary(results: Iterable[Result]) -> Summary | None:
    """The figures over the cases that have a ratio; None where none has."""
    ratios = {f.case.name: (f, f.ratio) for f in results if f.ratio is not None}
    if not ratios:
        return None
    values = [ratio for _, ratio in ratios.values()]
    least = min(ratios.values(), key=lambda pair: pair[1])[0]
    behind = [f for f, ratio in ratios.values() if ratio < 1]
    return Summary(len(values), statistics.geometric_mean(values), least, behind)


def shape(result: Result) -> str:
    """The shape of a case as text has it."""
    return "×".join(map(str, result.case.shape))


def brief(figures: Summary) -> str:
    """The figures of a summary in a few words."""
    return f"{figures.mean:.1f} times, at the least {figures.least.ratio or 0:.2f} ({shape(figures.least)})"


def sentence(figures: Summary) -> str:
    """A summary in a sentence, also where it is bad."""
    peer = figures.least.peer[0] if figures.least.peer else ""
    text = (
        f"Against the fastest of the others at each of the {figures.shapes} shapes, fastsoftmax is {figures.mean:.1f} "
        f"times as fast in the geometric mean, and {figures.least.ratio or 0:.2f} times at the least "
        f"({shape(figures.least)}, {peer})."
    )
    behind = ", ".join(f"{shape(f)} ({f.peer[0]})" for f in figures.behind if f.peer)
    return f"{text} Another is faster at {behind}." if behind else text

"""The few figures of a run that the report and the README share."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from ..cases import LOSS_AND_GRAD, SHAPES
from ..results import Found, Run

NONE = "–"  # where there is no number


class Summary(NamedTuple):
    """The time of the fastest of the others over ours, in some cases."""

    shapes: int
    mean: float  # geometric
    least: Found
    behind: list[Found]  # where another is faster


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
    """The number of threads of the run."""
    return int(run.machine.get("threads", "1").split()[0])


def headline(run: Run, function: str = LOSS_AND_GRAD) -> list[Found]:
    """The cases of a function over the shapes, as far as they are in the run."""
    return [f for f in run.found if f.case.group == SHAPES and f.case.function == function]


def summary(found: Iterable[Found]) -> Summary | None:
    """The figures over the cases that have a ratio; None where none has."""
    ratios = {f.case.name: (f, f.ratio) for f in found if f.ratio is not None}
    if not ratios:
        return None
    values = [ratio for _, ratio in ratios.values()]
    least = min(ratios.values(), key=lambda pair: pair[1])[0]
    behind = [f for f, ratio in ratios.values() if ratio < 1]
    return Summary(len(values), statistics.geometric_mean(values), least, behind)


def shape(found: Found) -> str:
    """The shape of a case as text has it."""
    return "×".join(map(str, found.case.shape))


def brief(found: Summary) -> str:
    """The figures of a summary in a few words."""
    return f"{found.mean:.1f} times, at the least {found.least.ratio or 0:.2f} ({shape(found.least)})"


def sentence(found: Summary) -> str:
    """A summary in a sentence, also where it is bad."""
    peer = found.least.peer[0] if found.least.peer else ""
    text = (
        f"Against the fastest of the others at each of the {found.shapes} shapes, fastsoftmax is {found.mean:.1f} "
        f"times as fast in the geometric mean, and {found.least.ratio or 0:.2f} times at the least "
        f"({shape(found.least)}, {peer})."
    )
    behind = ", ".join(f"{shape(f)} ({f.peer[0]})" for f in found.behind if f.peer)
    return f"{text} Another is faster at {behind}." if behind else text

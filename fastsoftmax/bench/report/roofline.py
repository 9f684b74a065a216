"""The chart of what the machine can do at most, and of how near to it the cases come."""

from collections.abc import Mapping
from typing import Any

from ..cases import DRAM, DTYPES, FUNCTIONS, SHAPES
from ..results import COPY, EXP, EXP64, INTO, OURS, SUM, UPDATE, Result, Run
from .figure import EDGE, FAINT, GUIDE, STYLES, Drawn, Style, above, legend, logarithmic, panels
from .summary import thread_count

_LEAST = 100_000  # logits, below which a case is about the cost of a call


def _ceilings(axes: Any, run: Run, low: float, high: float) -> list[str]:
    """Lines that bound the points: bytes a second, as exponentials a second, and exponentials themselves."""
    threads, drawn = thread_count(run), []

    def line(label: str, x: tuple[float, float], y: tuple[float, float], style: Any) -> None:
        axes.plot(x, y, color=GUIDE, linestyle=style, linewidth=1.2, label=label)
        drawn.append(label)

    for name, text, style in ((SUM, "sum", ":"), (UPDATE, "update", "--"), (COPY, "copy", "-")):
        if name in run.ceilings:
            speed = run.ceilings[name]
            line(f"{text}, {speed:.3g} GB/s", (low, high), (speed * low, speed * high), style)
    for name, text, end, dashes in ((EXP, "exp", high, (0, (1, 1))), (EXP64, "float64 exp", 0.09, (0, (4, 1, 1, 1)))):
        if name in run.ceilings:
            peak = run.ceilings[name]
            line(f"{text}, {threads} × {peak:.3g} × 10⁹/s", (low, end), (peak * threads, peak * threads), dashes)
    return drawn


def _point(result: Result) -> tuple[float, float]:
    """Exponentials a necessary byte, and 10⁹ of them a second in the faster of a new result and `out=`."""
    seconds = min(result.timings[name].median for name in (OURS, INTO) if name in result.timings)
    return result.case.elements / result.case.nbytes, result.case.elements / seconds / 1e9


def _points(axes: Any, results: list[Result], style: Style, spread: Mapping[tuple[int, int], float], name: str) -> None:
    """The cases of a function, those past the caches filled, the others outlined."""
    axes.plot([], [], linestyle="none", marker=style.marker, color=style.colour, markeredgecolor=EDGE, label=name)
    for outlined in (False, True):
        some = [f for f in results if (f.case.memory != DRAM) == outlined]
        axes.plot(
            [_point(f)[0] * spread[f.case.shape] for f in some], [_point(f)[1] for f in some],
            linestyle="none", marker=style.marker, markersize=6.5, color=style.colour,
            markerfacecolor="none" if outlined else style.colour, markeredgecolor=style.colour if outlined else EDGE,
            markeredgewidth=1.3 if outlined else 0.6,
        )  # fmt: skip


def roofline(run: Run) -> Drawn | None:
    """Exponentials a second against exponentials a necessary byte, below the measured ceilings."""
    cases = [f for f in run.results if f.case.group in {SHAPES, DTYPES} and OURS in f.timings]
    cases = [f for f in cases if f.case.elements >= _LEAST]
    if not cases or not run.ceilings:
        return None
    figure, ((axes,),) = panels(4.6)
    shapes = list(dict.fromkeys(f.case.shape for f in cases))
    spread = {shape: 1 + 0.04 * (place - (len(shapes) - 1) / 2) for place, shape in enumerate(shapes)}
    for name, style in zip(FUNCTIONS, STYLES, strict=False):
        if some := [f for f in cases if f.case.function == name]:
            _points(axes, some, style, spread, name)
    low, high = 0.045, 0.4
    drawn = _ceilings(axes, run, low, high)
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.set(xlabel="exponentials a byte that must be moved", ylabel="exponentials a second, 10⁹")
    for place, text in ((1 / 16, "float64"), (1 / 8, "float32"), (1 / 4, "float32, read only; 16 bits")):
        above(axes, place, text, place="center")
    logarithmic(axes.xaxis)
    logarithmic(axes.yaxis)
    axes.grid(color=FAINT, linewidth=0.6)
    legend(figure, [axes], 3)
    speeds = [_point(f)[1] for f in cases]
    return figure, (
        f"Roofline: {len(cases)} cases between {min(speeds):.2g} and {max(speeds):.2g} thousand million exponentials a "
        f"second, and the ceilings {'; '.join(drawn)}."
    )

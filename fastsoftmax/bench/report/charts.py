"""The charts of a run: each is drawn from cases that are in the run, or says which are not.

The numbers of every chart are in the tables of the page too.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..cases import DTYPES, FUNCTIONS, LAYOUTS, LOSS_AND_GRAD, OPTIONS, SHAPES, SIZE, THREADS, Case
from ..results import CONTIGUOUS, FLOAT32, OURS, PLAIN, Result, Run
from .figure import (
    CONTESTANTS,
    EDGE,
    FAINT,
    GUIDE,
    STYLES,
    Drawn,
    above,
    dots,
    guide,
    legend,
    logarithmic,
    panels,
    subtitle,
    svg,
)
from .roofline import roofline
from .summary import headline, shape, thread_count

_K = 1000  # the number of classes for which the cost is drawn against the number of logits
Values = dict[str, dict[str, float]]  # of series, then of rows


class Chart(NamedTuple):
    """A chart, or why there is none."""

    key: str
    title: str
    caption: str
    svg: str = ""
    alt: str = ""
    missing: str = ""


def _relative(result: Result) -> dict[str, float]:
    """The times of the others, as multiples of ours."""
    return {
        name: timing.median / result.ours.median
        for name, timing in result.timings.items()
        if OURS in result.timings and not name.startswith(OURS)
    }


def _by_series(rows: Mapping[str, Mapping[str, float]], order: Iterable[str]) -> Values:
    """Values of rows and their series, the other way round."""
    turned = {name: {row: values[name] for row, values in rows.items() if name in values} for name in order}
    return {name: values for name, values in turned.items() if values}


def _ratios_of(results: list[Result]) -> tuple[list[str], Values]:
    rows = {shape(f): _relative(f) for f in results}
    return list(rows), _by_series(rows, CONTESTANTS)


def _ends(series: Values) -> str:
    """The least and the greatest of the values, in words."""
    pairs = [(value, name, row) for name, values in series.items() for row, value in values.items()]
    (low, low_name, low_row), (high, high_name, high_row) = min(pairs), max(pairs)
    return f"Least {low:.2g} ({low_name}, {low_row}), greatest {high:.3g} ({high_name}, {high_row})."


def ratio(run: Run) -> Drawn | None:
    """Loss and gradient: how many times as long each of the others takes, shape by shape."""
    results = headline(run)
    rows, series = _ratios_of(results)
    if not series:
        return None
    figure, ((axes,),) = panels(1.3 + 0.46 * len(rows))
    dots(axes, rows, series, CONTESTANTS)
    axes.set_xlim(left=min(axes.get_xlim()[0], 0.7))
    guide(axes, 1, "fastsoftmax")
    axes.axvspan(axes.get_xlim()[0], 1, color=FAINT, alpha=0.45, linewidth=0)
    axes.set(xlabel="time, as a multiple of fastsoftmax's (further right: slower)", ylabel="rows × classes")
    fastest = axes.secondary_yaxis("right")
    texts = [f"{f.ratio:.2f}×  {f.peer[0]}" if f.peer and f.ratio else "" for f in results]
    fastest.set_yticks(range(len(results)), texts)
    fastest.tick_params(length=0, labelsize=9)
    fastest.spines["right"].set_visible(False)
    above(axes, axes.get_xlim()[1], "the fastest of the others", 7)
    legend(figure, [axes], 6)
    kind = "Dot plot of the time of each other contestant over that of fastsoftmax, loss and gradient"
    return figure, f"{kind}, {len(rows)} shapes. {_ends(series)}"


def functions(run: Run) -> Drawn | None:
    """The same for the other functions, each in a panel."""
    charts = {name: _ratios_of(headline(run, name)) for name in FUNCTIONS if name != LOSS_AND_GRAD}
    charts = {name: (rows, series) for name, (rows, series) in charts.items() if series}
    if not charts:
        return None
    shapes = list(dict.fromkeys(row for rows, _ in charts.values() for row in rows))
    lines, columns = (len(charts) + 1) // 2, min(2, len(charts))
    figure, grid = panels(0.9 + lines * (0.6 + 0.36 * len(shapes)), lines, columns, sharex=True, sharey=True)
    for axes, (name, (_, series)) in zip(grid.flat, charts.items(), strict=False):
        dots(axes, shapes, series, CONTESTANTS)
        guide(axes, 1)
        subtitle(axes, name)
    for axes in grid.flat[len(charts) :]:
        axes.set_visible(False)
    figure.supxlabel("time, as a multiple of fastsoftmax's (further right: slower)", fontsize=9)
    legend(figure, grid.flat, 6)
    words = " ".join(f"{name}: {_ends(series)}" for name, (_, series) in charts.items())
    return figure, f"Dot plots of the time of each other contestant over that of fastsoftmax. {words}"


def _cost(axes: Any, results: list[Result], x: Callable[[Case], int]) -> None:
    """Nanoseconds a logit, a line for each contestant and one for the floor."""
    results = sorted(results, key=lambda f: x(f.case))
    for name, style in CONTESTANTS.items():
        some = [f for f in results if name in f.timings]
        if some:
            axes.plot(
                [x(f.case) for f in some], [f.timings[name].median / f.case.elements * 1e9 for f in some],
                color=style.colour, marker=style.marker, linestyle=style.line, markeredgecolor=EDGE,
                markeredgewidth=0.6, markersize=5.5, linewidth=1.4, label=name,
            )  # fmt: skip
    floors = [(x(f.case), f.floor[1] / f.case.elements * 1e9) for f in results if f.floor]
    if floors:
        axes.plot(*zip(*floors, strict=True), color=GUIDE, linewidth=1, linestyle=(0, (2, 2)), label="floor")
    axes.set(xscale="log", yscale="log")
    axes.grid(color=FAINT, linewidth=0.6)


def size(run: Run) -> Drawn | None:
    """The cost of a logit by the number of logits, and by the number of classes."""
    results = [f for f in run.results if f.case.group == SIZE and OURS in f.timings]
    sides = [[f for f in results if f.case.shape[1] == _K], [f for f in results if f.case.shape[1] != _K]]
    if not results:
        return None
    figure, ((left, right),) = panels(3.7, 1, 2, sharey=True)
    _cost(left, sides[0], lambda case: case.elements)
    _cost(right, sides[1], lambda case: case.shape[1])
    left.set(xlabel="logits", ylabel="nanoseconds a logit")
    right.set(xlabel="classes")
    subtitle(left, f"{_K} classes, more and more rows")
    subtitle(right, "2²⁴ logits, more and more classes")
    for axes in (left, right):
        logarithmic(axes.yaxis)
    legend(figure, (left, right), 5)
    words = []
    for name, side in zip(("more logits", "more classes"), sides, strict=True):
        cost = [f.ours.median / f.case.elements * 1e9 for f in side]
        if cost:
            words.append(f"over {name}, fastsoftmax takes {min(cost):.2g} to {max(cost):.2g} ns a logit")
    return figure, f"Time a logit against size, logarithmic axes: {'; '.join(words)}."


def threads(run: Run) -> Drawn | None:
    """The speed of all threads, as a multiple of that of one."""
    pairs: dict[str, dict[int, Result]] = {}
    for f in run.results:
        if f.case.group == THREADS:
            pairs.setdefault(shape(f), {})[f.case.threads] = f
    rows = {
        row: {name: pair[1].timings[name].median / timing.median for name, timing in pair[0].timings.items()
              if name in pair[1].timings}
        for row, pair in pairs.items() if {0, 1} <= set(pair)
    }  # fmt: skip
    series = _by_series(rows, CONTESTANTS)
    if not series:
        return None
    count = thread_count(run)
    figure, ((axes,),) = panels(1.4 + 0.55 * len(rows))
    dots(axes, list(rows), series, CONTESTANTS)
    guide(axes, 1, "as one")
    guide(axes, count, f"{count} times", solid=False)
    axes.set(xlabel=f"speed of {count} threads, as a multiple of one thread's", ylabel="rows × classes")
    legend(figure, [axes], 5)
    return figure, f"Dot plot of the speed of {count} threads over that of one. {_ends(series)}"


def _against(run: Run, group: str, label: Callable[[Case], str], base: str) -> Values:
    """Our times over those of ours that is the base: a series for each shape, a row for each label."""
    series: Values = {}
    for f in run.results:
        if f.case.group == group and {OURS, base} <= set(f.timings):
            series.setdefault(shape(f), {})[label(f.case)] = f.ours.median / f.timings[base].median
    return series


def _multiples(series: Values, xlabel: str, bound: float, text: str, what: str) -> Drawn | None:
    """Dots for what costs a multiple of something plain, and a line for how much it may."""
    rows = list(dict.fromkeys(row for values in series.values() for row in values))
    if not rows:
        return None
    figure, ((axes,),) = panels(1.3 + 0.34 * len(rows))
    dots(axes, rows, series, dict(zip(series, STYLES, strict=False)))
    guide(axes, 1)
    guide(axes, bound, text, solid=False)
    axes.set(xlabel=xlabel)
    legend(figure, [axes], 3)
    return figure, f"Dot plot of {what}, by rows × classes. {_ends(series)}"


def dtypes(run: Run) -> Drawn | None:
    """The cost of half precision."""
    series = _against(run, DTYPES, lambda case: f"{case.dtype}, {case.function}", FLOAT32)
    axis = "time of fastsoftmax, as a multiple of that in float32 (further left: faster)"
    what = "the time in half precision over that in float32"
    return _multiples(series, axis, 0.5, "half the bytes", what)


def options(run: Run) -> Drawn | None:
    """The cost of the loss's options."""
    series = _against(run, OPTIONS, lambda case: case.option or "plain", PLAIN)
    axis = "time of fastsoftmax with the option, as a multiple of the plain loss's"
    return _multiples(series, axis, 1.1, "10 % more", "the time with each option over that of the plain loss")


def layouts(run: Run) -> Drawn | None:
    """The cost of layouts other than contiguous rows."""
    series = _against(run, LAYOUTS, lambda case: case.layout, CONTIGUOUS)
    axis = "time of fastsoftmax, as a multiple of that for contiguous rows"
    return _multiples(series, axis, 1.5, "1.5 times", "the time for each layout over that for contiguous rows")


DRAWINGS: tuple[tuple[Callable[[Run], Drawn | None], str, str, str], ...] = (
    (
        ratio,
        "Loss and gradient against the others",
        "Medians of `cross_entropy_and_grad` in float32. Each contestant allocates its result. In the grey on the "
        "left: faster than fastsoftmax. Beside each row: the fastest of the others.",
        f"{SHAPES}/{LOSS_AND_GRAD}/*",
    ),
    (
        functions,
        "The other functions against the others",
        "The same for the other functions. `cross_entropy` and `logsumexp` read the logits and write next to nothing.",
        f"{SHAPES}/*",
    ),
    (
        roofline,
        "Roofline",
        "Each logit takes one exponential, so a case's place from left to right is that of the bytes that a logit "
        "takes, read and written; there, the shapes are set a little apart, from few classes on the left to many. "
        "Filled: past the caches, where the lines of the memory bound it. Outlined: in the caches. All lines are "
        "measured in the same run; that of exp is one core's, times the threads (the short line: in float64). Times "
        "are those of the faster of a new result and `out=`. Cases below 100 000 logits, which are about the cost of a "
        "call, are left out.",
        f"{SHAPES}/*",
    ),
    (
        size,
        "How the cost grows",
        "Loss and gradient in float32, nanoseconds a logit: a level line is a cost in proportion to the work.",
        f"{SIZE}/*",
    ),
    (threads, "Threads", "Loss and gradient in float32, in all threads and in one.", f"{THREADS}/*"),
    (
        dtypes,
        "What half precision costs",
        "Loss and gradient and softmax, against float32 of the same shape. Where memory is the bound, half the bytes "
        "take half the time.",
        f"{DTYPES}/*",
    ),
    (
        options,
        "What options cost",
        "Loss and gradient with one option on, against the plain loss of the same shape.",
        f"{OPTIONS}/*",
    ),
    (layouts, "What layouts cost", "Loss and gradient of the same numbers, laid out otherwise.", f"{LAYOUTS}/*"),
)


def charts(run: Run, *, standalone: bool = False) -> list[Chart]:
    """All charts, as files of their own if `standalone`; where none of its cases is in the run, a chart says so."""
    charts = []
    for draw, title, caption, cases in DRAWINGS:
        key, drawn = draw.__name__, draw(run)
        if drawn is None:
            missing = f"Left out: its cases, {cases}, are not in this run, or have no times to compare."
            charts.append(Chart(key, title, caption, missing=missing))
        else:
            figure, alt = drawn
            charts.append(Chart(key, title, caption, svg(figure, key, alt, standalone=standalone), alt))
    return charts

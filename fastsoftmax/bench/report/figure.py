"""The parts that all charts share: colours and markers, dots in rows, and figures as SVG without a display.

Colours are those of Okabe and Ito, "Color Universal Design" (2008, https://jfly.uni-koeln.de/color/), made to be told
apart without normal colour vision; each series has a marker and a line of its own besides.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ..results import COMPILED, INTO, JAX, NUMPY, OURS, SCIPY, SKLEARN, TORCH

Drawn = tuple[Any, str]  # a figure, and what it shows in words


class Style(NamedTuple):
    """The style of a series."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


#: For series in general, the most different first.
STYLES = (
    Style("#000000", "o", "-"),
    Style("#d55e00", "s", "--"),
    Style("#56b4e9", "D", "-."),
    Style("#009e73", "^", ":"),
    Style("#e69f00", "v", (0, (5, 1))),
    Style("#cc79a7", "P", (0, (3, 1, 1, 1))),
    Style("#0072b2", "X", (0, (1, 1))),
    Style("#f0e442", "p", (0, (8, 2))),
)
#: For contestants, the same in every chart, in the order of legends.
CONTESTANTS = {
    OURS: STYLES[0],
    INTO: STYLES[6],
    JAX: STYLES[3],
    COMPILED: STYLES[4],
    TORCH: STYLES[1],
    SKLEARN: STYLES[5],
    NUMPY: STYLES[7],
    SCIPY: STYLES[2],
}
EDGE, FAINT, GUIDE = "#222222", "#d9d9d9", "#555555"
WIDTH = 7.2  # inches: text of 9 points in them is still read where the page gives a chart 35 em

_SETTINGS = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GUIDE,
    "axes.axisbelow": True,
}


def panels(height: float, rows: int = 1, columns: int = 1, **shared: bool) -> tuple[Any, Any]:
    """A figure that needs no display, and its axes in an array of two dimensions."""
    import matplotlib as mpl  # noqa: PLC0415  an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def subtitle(axes: Any, text: str) -> None:
    """A heading of a panel."""
    axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold")


def logarithmic(axis: Any, unit: str = "") -> None:
    """Ticks written as numbers, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator  # noqa: PLC0415  an extra

    low, high = axis.get_view_interval()
    if high / low < 6:
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        subs = (1, 2, 5) if high / low < 80 else (1, 3) if high / low < 3000 else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def dots(
    axes: Any, rows: Sequence[str], series: Mapping[str, Mapping[str, float]], styles: Mapping[str, Style]
) -> None:
    """A row for each name, with a dot for each series that has a value there; on a logarithmic axis.

    Dots of a row lie a little above one another, so that none covers another of the same value.
    """
    for number, (name, values) in enumerate(series.items()):
        style, shift = styles[name], 0.64 * ((number + 0.5) / len(series) - 0.5)
        places = [row + shift for row, label in enumerate(rows) if label in values]
        numbers = [values[label] for label in rows if label in values]
        axes.plot(
            numbers, places, linestyle="none", marker=style.marker, color=style.colour, markeredgecolor=EDGE,
            markeredgewidth=0.6, markersize=6.5, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.06)
    logarithmic(axes.xaxis, "×")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    for border in range(1, len(rows)):
        axes.axhline(border - 0.5, color=FAINT, linewidth=0.6)


def guide(axes: Any, value: float, text: str = "", *, solid: bool = True) -> None:
    """A vertical line with a few words above it."""
    axes.axvline(value, color=GUIDE, linewidth=1.2, linestyle="-" if solid else (0, (4, 3)), zorder=1)
    above(axes, value, text, 2)


def above(axes: Any, value: float, text: str, right: float = 0, place: str = "left") -> None:
    """A few small words above a place of the horizontal axis."""
    axes.annotate(
        text, (value, 1), (right, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha=place,
        fontsize=8, color=GUIDE,
    )  # fmt: skip


def legend(figure: Any, axes: Iterable[Any], columns: int) -> None:
    """One legend above all axes, each series once."""
    named = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def svg(figure: Any, key: str, alt: str, *, standalone: bool = False) -> str:
    """A figure as SVG, the same bytes every time; `alt` is for those who do not see it.

    Identifiers begin with `key`, so that those of several figures in one document differ.  A standalone figure, rather
    than a part of a page, has its text as outlines.
    """
    import matplotlib as mpl  # noqa: PLC0415  an extra

    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": key, "svg.fonttype": "path" if standalone else "none"}):
        figure.savefig(drawn, format="svg", metadata=nothing)
    head, _, body = drawn.getvalue().partition("<svg ")
    attributes, _, inside = body.partition(">")
    role = f' role="img" aria-label="{escape(alt)}"><title>{escape(alt)}</title>'
    if standalone:
        return f"{head}<svg {attributes}{role}{inside}"
    attributes = re.sub(r'\s*(xmlns(:\w+)?|version)="[^"]*"', "", attributes)
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", inside.replace("xlink:href", "href"))
    inside = re.sub(r" ?font-family: [^;\"]*;?", "", inside)  # the page's, which is no wider than what was laid out
    return f"<svg {attributes}{role}{inside}".strip()

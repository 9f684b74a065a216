"""A run as one HTML file that needs nothing else: no network, no scripts, no fonts.

Everything that comes from a run passes through `escape`, since it may have been read from a file of somebody else's.
"""

import re
from collections.abc import Iterable
from html import escape
from importlib import resources

from ..cases import (
    ANSWERS,
    AUTOGRAD,
    BUSY,
    DTYPES,
    FUNCTIONS,
    GROUPS,
    LAYOUTS,
    LOSS_AND_GRAD,
    OPTIONS,
    SHAPES,
    SIZE,
    START,
    THREADS,
)
from ..results import INTO, OURS, Result, Run
from . import summary
from .charts import Chart, charts
from .summary import NONE, ms, number, share

HEADINGS = {
    SHAPES: ("Shapes", "Every function in float32, from a mini-batch of digits to a large vocabulary."),
    DTYPES: ("Dtypes", "Loss and gradient and softmax in half and in double precision."),
    LAYOUTS: ("Layouts", "Loss and gradient of arrays whose classes do not lie one after the other."),
    OPTIONS: ("Options", "Loss and gradient with one option of the loss on."),
    ANSWERS: ("Answers", "Statistics of rows, gradient and Hessian, and divergences; what is held against a loss."),
    AUTOGRAD: ("Autograd", "Loss and backward pass of torch's tensors; fastsoftmax by itself takes arrays."),
    SIZE: ("Size", "Loss and gradient, from few logits to very many, and from two classes to a million."),
    THREADS: ("Threads", "Loss and gradient in one thread and in all."),
    BUSY: ("Busy", "Softmax with out= beside others that keep cores, or the interpreter, busy."),
    START: ("Start", "What a process pays once, in milliseconds: the import, and first calls."),
}


def _cells(cells: Iterable[str], kind: str = "") -> str:
    """A row of a table, the first cell of which is text."""
    first, *rest = (escape(cell) for cell in cells)
    return f"<tr{kind}><td>{first}</td>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"


def _table(label: str, head: Iterable[str], body: str) -> str:
    """A table that scrolls by itself where the page is narrow, also by the keys."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    table = f"<table>{f'<thead><tr>{columns}</tr></thead>' if columns else ''}<tbody>{body}</tbody></table>"
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'


def _facts(caption: str, facts: dict[str, str]) -> str:
    rows = "".join(f'<tr><td>{escape(k)}</td><td class="word wrap">{escape(v)}</td></tr>' for k, v in facts.items())
    return f"<div><h3>{escape(caption)}</h3>{_table(caption, [], rows)}</div>"


def _headline(run: Run) -> str:
    """Three figures to begin with."""
    figures = summary.summary(summary.headline(run))
    if figures is None:
        return "<p>Loss and gradient have not been measured beside another contestant in this run.</p>"
    peer = figures.least.peer[0] if figures.least.peer else ""
    ratio, behind = figures.least.ratio or 0.0, len(figures.behind)
    texts = (
        (
            f"{figures.mean:.1f}×",
            f"as fast as the fastest other, geometric mean over {figures.shapes} shapes",
            figures.mean < 1,
        ),
        (f"{ratio:.2f}×", f"at the worst of them, {summary.shape(figures.least)} against {peer}", ratio < 1),
        (f"{behind} of {figures.shapes}", "shapes at which another is faster", behind > 0),
    )
    boxes = "".join(
        f'<div><b class="{"bad" if bad else "good"}">{escape(figure)}</b><span>{escape(text)}</span></div>'
        for figure, text, bad in texts
    )
    return f'<p>Loss and gradient (<code>{LOSS_AND_GRAD}</code>) in float32:</p><div class="figures">{boxes}</div>'


def _shapes_table(run: Run) -> str:
    rows = []
    for result in summary.headline(run):
        if OURS in result.timings:
            peer, timing = result.peer or (NONE, None)
            into = result.timings.get(INTO)
            ours = [ms(result.ours.median), ms(into.median) if into else NONE, share(result.fraction(INTO))]
            theirs = [peer, ms(timing.median) if timing else NONE, f"{result.ratio:.2f}" if result.ratio else NONE]
            rows.append(_cells([summary.shape(result), *ours, *theirs]))
    head = ("rows × classes", "fastsoftmax, ms", "with out=, ms", "of the floor", "fastest other", "ms", "ratio")
    return _table("Loss and gradient by shape", head, "".join(rows)) if rows else ""


def _functions_table(run: Run) -> str:
    """The speed of each function over the shapes, and the shapes at which another is faster."""
    rows = []
    for name in FUNCTIONS:
        figures = summary.summary(summary.headline(run, name))
        if figures:
            least = f"{figures.least.ratio or 0:.2f}, {summary.shape(figures.least)}"
            cells = _cells([name, f"{figures.mean:.2f}", least])
            behind = ", ".join(f"{summary.shape(f)} ({f.peer[0]})" for f in figures.behind if f.peer)
            last = f'<td class="wrap bad">{escape(behind)}</td>' if behind else "<td>none</td>"
            rows.append(cells.replace("</tr>", f"{last}</tr>"))
    head = ("function", "geometric mean", "least", "another is faster at")
    text = "<p>How many times as long the fastest of the others takes, over the same shapes:</p>"
    return text + _table("All functions", head, "".join(rows)) if rows else ""


def _summary(run: Run) -> str:
    """The speed, stated plainly, also where others are faster."""
    return f"{_headline(run)}{_shapes_table(run)}{_functions_table(run)}"


def _chart(chart: Chart) -> str:
    title = f'<h3 id="chart-{chart.key}">{escape(chart.title)}</h3>'
    if chart.missing:
        return f'{title}<p class="soft">{escape(chart.missing)}</p>'
    caption = re.sub("`([^`]+)`", r"<code>\1</code>", escape(chart.caption))
    drawing = (
        f'<div class="scroll chart" role="region" tabindex="0" aria-label="{escape(chart.title)}">{chart.svg}</div>'
    )
    return f"{title}<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _shared(results: list[Result]) -> dict[str, str]:
    """The contestants without a time in any case, for the same reason in each."""
    first, *rest = (f.skipped for f in results)
    return {name: why for name, why in first.items() if all(other.get(name) == why for other in rest)}


def _case(result: Result, shared: dict[str, str]) -> str:
    """A case: its name and reason, and below them a row for each contestant."""
    case = result.case
    floor = f" Floor: {result.floor[0]}, {ms(result.floor[1])} ms." if result.floor else ""
    about = f"{case.reason}.{floor} Inputs in {'memory' if case.memory == 'DRAM' else 'the caches'}."
    title = f"<div><code>{escape(case.name)}</code><span>{escape(about)}</span></div>"
    rows = [f'<tr class="case"><th colspan="6" scope="rowgroup">{title}</th></tr>']
    for name, timing in result.timings.items():
        speed, ours = result.gbps(name), result.timings.get(OURS)
        cells = [
            name,
            ms(timing.median),
            ms(timing.least),
            number(speed) if speed else NONE,
            share(result.fraction(name)),
        ]
        cells.append(f"{timing.median / ours.median:.2f}" if ours else NONE)
        rows.append(_cells(cells, ' class="ours"' if name.startswith(OURS) else ""))
    rest = [f"{name}: {why}" for name, why in result.skipped.items() if name not in shared]
    if rest:
        rows.append(f'<tr class="note"><td colspan="6"><div>Not timed: {escape("; ".join(rest))}.</div></td></tr>')
    return "".join(rows)


def _group(name: str, results: list[Result]) -> str:
    heading, text = HEADINGS.get(name, (name, ""))
    shared = _shared(results)
    note = "".join(f"<li>{escape(who)}: {escape(why)}</li>" for who, why in shared.items())
    absent = f"<p>Not timed in any of these cases:</p><ul>{note}</ul>" if note else ""
    head = ("contestant", "median, ms", "least, ms", "GB/s", "of the floor", "time / fastsoftmax's")
    table = _table(heading, head, "".join(_case(f, shared) for f in results))
    return f'<h3 id="group-{escape(name)}">{escape(heading)}</h3><p>{escape(text)}</p>{absent}{table}'


def _groups(run: Run) -> dict[str, list[Result]]:
    """The cases that were run, by group, in the order of the table of cases."""
    groups: dict[str, list[Result]] = {name: [] for name in GROUPS}
    for result in run.results:
        groups.setdefault(result.case.group, []).append(result)
    return {name: results for name, results in groups.items() if results}


def _contents(drawn: list[Chart], groups: Iterable[str]) -> str:
    places = {"summary": "Summary", "machine": "Machine and ceilings"}
    places |= {f"chart-{chart.key}": chart.title for chart in drawn}
    places |= {f"group-{name}": f"Results: {HEADINGS.get(name, (name, ''))[0].lower()}" for name in groups}
    items = "".join(f'<li><a href="#{escape(place)}">{escape(title)}</a></li>' for place, title in places.items())
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


_EXPLAINED = """<p>Times are medians of repetitions in which all contestants take turns, with the same number of
threads. GB/s count the bytes that any implementation must move: logits and targets read once, the result written once.
The floor is the time that those bytes, or the exponentials, take at the best speed that was measured in the same run;
<em>of the floor</em> is that time as a part of the contestant's.</p>"""


def html(run: Run) -> str:
    """The whole page; Matplotlib draws its charts (``pip install matplotlib``)."""
    drawn, groups = charts(run), _groups(run)
    css = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    facts = run.machine
    ceilings = {name: number(value) for name, value in run.ceilings.items()}
    about = " · ".join(facts[name] for name in ("CPU", "date") if name in facts)
    threads = f" · {facts['threads']} threads" if "threads" in facts else ""
    tables = "".join(_group(name, results) for name, results in groups.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastsoftmax benchmarks: {escape(about)}</title>
<style>
{css}</style>
</head>
<body>
<main>
<h1>fastsoftmax benchmarks</h1>
<p class="soft">{escape(about)}{escape(threads)} · {len(run.results)} cases</p>
{_contents(drawn, groups)}
<h2 id="summary">Summary</h2>
{_summary(run)}
<h2 id="machine">Machine and ceilings</h2>
<div class="two">{_facts("Machine and versions", facts)}{_facts("Ceilings, measured in the same run", ceilings)}</div>
<h2 id="charts">Charts</h2>
{"".join(map(_chart, drawn))}
<h2 id="results">Results</h2>
{_EXPLAINED}
{tables}
</main>
</body>
</html>
"""

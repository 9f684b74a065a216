"""The results of a run as plain text for the terminal, at most 120 columns wide."""

from collections.abc import Callable, Iterable

from ..cases import AUTOGRAD, BUSY, DERIVED, EMPTY, FUNCTIONS, GROUPS, OPTIONS, ROWS, START, THREADS, Case
from ..results import CONTIGUOUS, FLOAT32, IN_PLACE, INTO, NUMPY, OURS, PLAIN, SCIPY, YARDSTICK, Result, Run

WIDTH = 120
DISTURBED = 0.2  # cores that others take, from which a case says more about them
HEADINGS = {
    "shapes": "Shapes",
    "dtypes": "Dtypes",
    "layouts": "Layouts; x ours: times the contiguous array",
    "options": "Options; x ours: times the plain loss",
    "answers": "Answers; x ours: a loss alone, or the gradient of twice the rows",
    "autograd": "Loss and backward pass of torch's tensors; fastsoftmax alone: of arrays",
    "size": "Sizes; ns: nanoseconds a logit",
    "threads": "Threads",
    "busy": "Beside others that work, with out=, in all threads and in one",
    "start": "Before the first result, seconds, in processes of their own",
}
#: What ours is held against in a case of its kind.
_HELD = (CONTIGUOUS, PLAIN, FLOAT32, YARDSTICK)


def number(value: float | None, unit: float = 1.0) -> str:
    """Three digits."""
    if value is None:
        return "-"
    scaled = value * unit
    return f"{scaled:.3g}" if scaled < 1000 else f"{scaled:.0f}"


def times(result: Result, name: str, unit: float = 1e3) -> str:
    """The median time of a contestant, in milliseconds unless told."""
    return number(result.timings[name].median, unit) if name in result.timings else "-"


def percent(value: float | None) -> str:
    """A part of a whole."""
    return "-" if value is None else f"{value:.0%}"


def _title(case: Case) -> str:
    """A case in the table of its group."""
    rows, classes = case.shape
    unusual = [case.option or "plain"] * (case.group in {OPTIONS, BUSY}) + [case.layout] * (case.layout != ROWS)
    unusual += [case.dtype] * (case.dtype != "float32")
    if case.function == EMPTY:
        return " ".join(["empty launch", *unusual])
    if case.group == THREADS:
        unusual.append(f"{case.threads or 'all'} thread{'s' * (case.threads != 1)}")
    return " ".join([f"{rows}x{classes}", *unusual])


def _held(result: Result) -> str:
    """Our time, as a multiple of that of what it is held against."""
    held = next((name for name in _HELD if name in result.timings), None)
    if held is None or OURS not in result.timings:
        return "-"
    return f"{result.ours.median / result.timings[held].median:.2f}"


def _cells(result: Result) -> list[str]:
    """The columns of a case."""
    peer, ratio = result.peer, result.ratio
    nanoseconds = result.ours.median / result.case.elements * 1e9 if OURS in result.timings else None
    return [
        _title(result.case),
        *(times(result, name) for name in (OURS, INTO, IN_PLACE)),
        number(nanoseconds),
        *(number(result.gbps(OURS)), percent(result.fraction(OURS)), percent(result.fraction(INTO))),
        percent(result.fraction(IN_PLACE)),
        _held(result),
        *(("-", "-") if peer is None else (peer[0], number(peer[1].median, 1e3))),
        "-" if ratio is None else f"{ratio:.2f}",
    ]


_HEAD = [
    "",
    "ours ms",
    "out=",
    "in place",
    "ns",
    "GB/s",
    "of floor",
    "out=",
    "in place",
    "x ours",
    "peer",
    "ms",
    "ratio",
]


def laid_out(rows: list[list[str]]) -> list[str]:
    """Columns as wide as they must be, without those that say nothing."""
    kept = [i for i in range(len(rows[0])) if i == 0 or any(row[i] != "-" for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in kept]
    lines = []
    for row in rows:
        cells = [
            f"{row[i]:<{w}}" if n == 0 else f"{row[i]:>{w}}" for n, (i, w) in enumerate(zip(kept, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _by_contestant(results: list[Result], title: Callable[[Case], str], unit: float) -> list[str]:
    """The time of each contestant in a column of its own."""
    names = list(dict.fromkeys(name for one in results for name in one.timings))
    return laid_out(
        [["", *names], *([title(one.case), *(times(one, name, unit) for name in names)] for one in results)]
    )


def _group(run: Run, group: str) -> list[str]:
    """The tables of a group: one for each function."""
    some = [result for result in run.results if result.case.group == group]
    if not some:
        return []
    lines = ["", HEADINGS[group]]
    if group == START:
        return lines + _by_contestant(some, lambda case: case.function, 1.0)
    if group in {AUTOGRAD, BUSY}:
        return lines + _by_contestant(some, _title, 1e3)
    for function in (*FUNCTIONS, *DERIVED):
        if cases := [result for result in some if result.case.function == function]:
            lines += laid_out([[function, *_HEAD[1:]], *map(_cells, cases)])
    return lines


def skipped(run: Run) -> list[str]:
    """The contestants that were left out and the reasons, each pair once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in run.results:
        for name, why in result.skipped.items():
            reasons.setdefault((name, why), []).append(result.case.name)
    lines = []
    for (name, why), cases in reasons.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        lines.append(cut(f"  {name}: {why} ({cases[0]}{more})"))
    return ["", "Left out", *lines] if lines else []


def cut(line: str) -> str:
    """A line that fits."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def text(run: Run) -> str:
    """All tables of a run.

    Times are medians in milliseconds.  "of floor" is the part of the time that the case's bytes or exponentials take at
    least, for a fresh result, with ``out=`` and in place; "ratio" is how many times as long the fastest of the others,
    "peer", takes.
    """
    machine = run.machine
    head = [
        cut(f"{machine['CPU']}, {machine['threads']} threads, {machine['date']}"),
        *(f"  {name:<40} {value:6.2f}" for name, value in run.ceilings.items()),
        "",
        "Milliseconds a call, medians; of floor: what part of the time its bytes or exponentials take at least;",
        "ratio: how many times as long the fastest of the others (peer) takes as ours with a fresh result.",
    ]
    busy = [result for result in run.results if result.others is not None and result.others > DISTURBED]
    if busy:
        most = max(busy, key=lambda result: result.others or 0.0)
        head.append(f"Other processes took up to {most.others:.1f} cores in {len(busy)} cases: {most.case.name}.")
    groups = [line for group in GROUPS for line in _group(run, group)]
    return "\n".join([*head, *groups, *skipped(run)])


def demonstration(measured: Iterable[Result]) -> str:
    """The short table of the main job, 60 columns wide."""
    lines = [
        "Kernel speed: float32, milliseconds a call, best of turns",
        f"  {'':<12}{OURS:>12}{NUMPY:>8}{SCIPY:>8}{'/ ' + NUMPY:>9}{'/ ' + SCIPY:>9}",
    ]
    function = None
    for result in measured:
        if result.case.function != function:
            function = result.case.function
            lines.append(f"  {function}")
        ours, numpy, scipy = (result.timings[name].least for name in (OURS, NUMPY, SCIPY))
        ratios = "".join(f"{value / ours:>8.1f}x" for value in (numpy, scipy))
        shape = "x".join(map(str, result.case.shape))
        lines.append(f"  {shape:>12}{number(ours, 1e3):>12}{number(numpy, 1e3):>8}{number(scipy, 1e3):>8}{ratios}")
    return "\n".join(lines)

"""Write a run of the benchmark suite down: ``benchmarks/results/NAME.md`` and its charts, ``NAME-*.svg``.

    python -m fastsoftmax bench --json benchmarks/results/NAME.json
    python -m benchmarks.report benchmarks/results/NAME.json ... [--readme]

Nothing is measured here, and everything in those files is generated from the JSON. ``--readme`` rewrites what README.md
says between its two comments: a table of the first file that is named, and a line for each of the others. Runs on a GPU
have no charts, and a place of their own.
"""

import argparse
import json
import math
from pathlib import Path

from fastsoftmax.bench.cases import FUNCTIONS, GROUPS, LOSS_AND_GRAD, Case
from fastsoftmax.bench.report import charts, summary
from fastsoftmax.bench.report.cuda_table import is_of_gpu
from fastsoftmax.bench.report.summary import NONE, ms, share
from fastsoftmax.bench.results import INTO, NUMPY, OURS, SCIPY, Result, Run, from_json

from . import files, report_cuda

BEGIN, END = "<!-- results: begin (benchmarks/report.py writes what follows) -->", "<!-- results: end -->"


def load(path: Path) -> Run:
    """The run that a file of ``python -m fastsoftmax bench --json`` holds."""
    return from_json(json.loads(path.read_text("utf-8")))


def _median(result: Result, name: str) -> str:
    return ms(result.timings[name].median) if name in result.timings else NONE


def _ratio(result: Result, name: str) -> str:
    """A contestant's time, as a multiple of ours."""
    if not {name, OURS} <= set(result.timings):
        return NONE
    return f"{result.timings[name].median / result.ours.median:.2f}"


def _short(case: Case) -> str:
    """A case in a table of its group and function."""
    return case.name.removeprefix(f"{case.group}/{case.function}/").replace("|", r"\|")


def table(results: list[Result]) -> list[str]:
    """Cases of a group and function as rows of Markdown, with a column for each contestant of any of them."""
    names = list(dict.fromkeys(name for f in results for name in f.timings))
    head = ["case", *(name.replace(OURS, "ours") for name in names), "GB/s", "of the floor", "floor", "× fastest other"]
    lines = files.head(head)
    for f in results:
        best = min((OURS, INTO), key=lambda name: f.timings[name].median if name in f.timings else math.inf)
        speed = f.gbps(best)
        ratio = f"{f.ratio:.2f} ({f.peer[0]})" if f.ratio is not None and f.peer else NONE
        floor = f"{f.floor[0]}, {ms(f.floor[1])}" if f.floor else NONE
        cells = [_short(f.case), *(_median(f, name) for name in names), f"{speed:.3g}" if speed else NONE]
        lines.append(files.row([*cells, share(f.fraction(best)), floor, ratio]))
    return lines


def _absent(results: list[Result]) -> list[str]:
    """Contestants without a time, the reasons, and the number of cases."""
    reasons = [(name, why) for f in results for name, why in f.skipped.items()]
    return [f"- without a time in {reasons.count(r)} of {len(results)}: {r[0]}: {r[1]}" for r in dict.fromkeys(reasons)]


def _reasons(results: list[Result]) -> list[str]:
    return [f"- {_short(f.case)}: {f.case.reason}" for f in results]


def markdown(name: str, run: Run) -> str:
    """The report for people."""
    lines = [f"# Kernel speed on {run.machine['CPU']}", "", "Written by `benchmarks/report.py`; do not edit.", ""]
    lines += files.listed(run.machine)
    lines += ["", "Ceilings, measured in the same run:", ""]
    lines += [f"- {ceiling}: {summary.number(speed)}" for ceiling, speed in run.ceilings.items()]
    lines += ["", *_summaries(run), "", "## Charts", ""]
    for chart in charts.charts(run):
        lines += [f"![{chart.alt}]({name}-{chart.key}.svg)", "", chart.caption, ""] if chart.svg else []
    lines += [
        "## Results",
        "",
        "Milliseconds a call, medians of repetitions taken in turn. GB/s of the bytes that must be moved, and the part "
        "of the time that the floor takes, are those of the faster of ours with a new result and with `out=`.",
    ]
    for group in GROUPS:
        for function in dict.fromkeys(f.case.function for f in run.results if f.case.group == group):
            some = [f for f in run.results if (f.case.group, f.case.function) == (group, function)]
            lines += ["", f"### {group}: `{function}`", "", *table(some), "", *_absent(some), *_reasons(some)]
    return "\n".join(lines) + "\n"


def _summaries(run: Run) -> list[str]:
    """The run in a paragraph."""
    figures = {name: summary.summary(summary.headline(run, name)) for name in FUNCTIONS}
    known = {name: numbers for name, numbers in figures.items() if numbers}
    loss = known.pop(LOSS_AND_GRAD, None)
    lines = [summary.sentence(loss)] if loss else []
    others = [f"`{name}` {summary.brief(figures)}" for name, figures in known.items()]
    return [*lines, f"The other functions likewise: {'; '.join(others)}."] if others else lines


def _row(result: Result) -> str:
    """A row of the README's table."""
    peer = result.peer[0] if result.peer else NONE
    cells = [summary.shape(result), _median(result, OURS), _median(result, INTO), peer, _median(result, peer)]
    return files.row([*cells, f"**{_ratio(result, peer)}**", _ratio(result, NUMPY), _ratio(result, SCIPY)])


def _where(name: str, run: Run) -> str:
    """The machine of a run, its date, and a link to all of it."""
    facts = run.machine
    return f"{facts['CPU']}, {facts['threads']} threads ({facts['date']}; [all of it](benchmarks/results/{name}.md))"


def readme_table(name: str, run: Run) -> str:
    """The table of the README, and the run in a few figures."""
    head = ["rows × classes", OURS, "with `out=`", "fastest other", "its time", "× fastest", "× NumPy", "× SciPy"]
    lines = [
        f"Loss and gradient (`{LOSS_AND_GRAD}`) in float32, milliseconds. {_where(name, run)}:",
        "",
        *files.head(head),
        *(_row(result) for result in summary.headline(run)),
        "",
        *_summaries(run),
    ]
    return "\n".join(lines)


def _line(name: str, run: Run) -> str:
    """One line about a run on another machine."""
    loss = summary.summary(summary.headline(run))
    figures = f" {summary.brief(loss)}" if loss else ""
    return f"Also on {_where(name, run)}:{figures or ' no shape has a time'}."


def readme_block(runs: dict[str, Run]) -> str:
    """A table of the first of some runs, and a line for each of the others."""
    first, *others = runs.items()
    return "\n".join([readme_table(*first), *(_line(*other) for other in others)])


def write(path: Path, run: Run) -> None:
    """Write the report for people and its charts beside the JSON; what an earlier run drew and this one cannot goes."""
    for chart in charts.charts(run, standalone=True):
        drawing = path.with_name(f"{path.stem}-{chart.key}.svg")
        if chart.svg:
            drawing.write_text(chart.svg, encoding="utf-8")
        else:
            drawing.unlink(missing_ok=True)
    path.with_suffix(".md").write_text(markdown(path.stem, run), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, nargs="+", help="what `python -m fastsoftmax bench --json FILE` has written")
    parser.add_argument("--readme", action="store_true", help="rewrite what README.md says of it too")
    args = parser.parse_args()
    runs = {path: load(path) for path in args.json}
    if args.readme and (strange := [path for path in runs if path.resolve().parent != files.RESULTS]):
        parser.error(f"README.md links to {files.RESULTS}; put {strange[0]} there")
    for path, run in runs.items():
        (report_cuda.write if is_of_gpu(run) else write)(path, run)
    if args.readme:
        _rewrite_readme({path.stem: run for path, run in runs.items()})


def _rewrite_readme(runs: dict[str, Run]) -> None:
    """Rewrite the blocks of the README that some runs have: on CPUs, and on a GPU."""
    on_cpus = {name: run for name, run in runs.items() if not is_of_gpu(run)}
    if on_cpus:
        files.rewrite_readme(BEGIN, END, readme_block(on_cpus))
    for name, run in runs.items():
        if is_of_gpu(run):
            report_cuda.rewrite_readme(name, run)


if __name__ == "__main__":
    main()

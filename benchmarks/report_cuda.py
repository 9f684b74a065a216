"""The reports of a run on a GPU: for `benchmarks.report`, which knows by the JSON what it is of."""

from pathlib import Path

from fastsoftmax.bench.cases import FUNCTIONS, LAUNCH, LINEAR, LINEAR_PASS, LOSS_AND_GRAD, SHAPES
from fastsoftmax.bench.report import summary
from fastsoftmax.bench.report.cuda_table import PEERS
from fastsoftmax.bench.report.cuda_targets import ratio, sentence, targets
from fastsoftmax.bench.report.summary import NONE, ms, share
from fastsoftmax.bench.results import GPU_COPY, IN_PLACE, INTO, OURS, Result, Run

from . import files

BEGIN = "<!-- cuda results: begin (benchmarks/report.py writes what follows) -->"
END = "<!-- cuda results: end -->"
NOT_MEASURED = """\
On a GPU: not measured yet, as no GPU was at hand. `python -m fastsoftmax bench --device cuda` measures it in under
eight minutes, beside a copy, PyTorch, torch.compile, Liger and QuACK as far as they are installed."""


def _times(result: Result, name: str) -> str:
    value = ratio(result, name)
    return NONE if value is None else f"{value:.2f}"


def _row(result: Result, names: list[str]) -> str:
    """A case: our speed, what part of a copy's that is, and how many times as long the others take."""
    speed = result.gbps(OURS)
    cells = [f"{summary.shape(result)} {result.case.dtype}", ms(result.ours.median) if OURS in result.timings else NONE]
    cells += [summary.number(speed) if speed else NONE]
    cells += [share(result.fraction(name)) for name in (OURS, INTO, IN_PLACE)]
    return files.row([*cells, *(_times(result, name) for name in names)])


def table(results: list[Result]) -> list[str]:
    """Cases of a function as rows of Markdown, with a column for each of the others that has a time."""
    names = [name for name in PEERS if any(name in f.timings for f in results)]
    head = ["rows × classes", "ms", "GB/s", "of a copy", "with `out=`", "in place", *(f"× {name}" for name in names)]
    return [*files.head(head), *(_row(f, names) for f in results)]


def _of(run: Run, function: str) -> list[Result]:
    return [f for f in run.results if (f.case.group, f.case.function) == (SHAPES, function)]


def _launches(run: Run) -> list[str]:
    """Microseconds of the host's time a call."""
    results = [f for f in run.results if f.case.group == LAUNCH and f.timings]
    if not results:
        return []
    names = list(dict.fromkeys(name for f in results for name in f.timings))
    rows = [
        files.row(
            [f"`{f.case.function}` {summary.shape(f)}"]
            + [summary.number(f.timings[name].median * 1e6) if name in f.timings else NONE for name in names]
        )
        for f in results
    ]
    return ["## Host time a call, microseconds", "", *files.head(["call", *names]), *rows, ""]


def _passes(run: Run) -> list[str]:
    """Linear passes beside their products alone."""
    results = [f for f in run.results if f.case.group == LINEAR]
    if not results:
        return []
    names = [name for name in PEERS if any(name in f.timings for f in results)]
    head = ["rows × classes, features", "ms", "products alone", *(f"× {name}" for name in names)]
    rows = [
        files.row(
            [
                f"{summary.shape(f)} {f.case.option} {f.case.dtype}",
                ms(f.ours.median) if OURS in f.timings else NONE,
                share(f.fraction(OURS)),
                *(_times(f, name) for name in names),
            ]
        )
        for f in results
    ]
    return [f"## `{LINEAR_PASS}`", "", *files.head(head), *rows, "", *_absent(results), ""]


def _absent(results: list[Result]) -> list[str]:
    """Contestants without a time, the reasons, and the number of cases."""
    reasons = [(name, why) for f in results for name, why in f.skipped.items()]
    return [f"- without a time in {reasons.count(r)} of {len(results)}: {r[0]}: {r[1]}" for r in dict.fromkeys(reasons)]


def markdown(run: Run) -> str:
    """The report for people."""
    lines = [f"# Kernel speed on {run.machine['GPU']}", "", "Written by `benchmarks/report.py`; do not edit.", ""]
    lines += [*files.listed(run.machine), f"- {GPU_COPY}: {summary.number(run.ceilings[GPU_COPY])}", ""]
    if known := targets(run):
        lines += ["Targets, for loss and gradient:", "", *(f"- {sentence(target)}" for target in known), ""]
    lines += [
        "Medians by the GPU's own events, with its caches flushed before each call, in turn. GB/s of the bytes that",
        "must be moved; of a copy: the part of the speed at which as many bytes are copied on the GPU in turn with",
        "them, for a fresh result, with `out=` and in place; ×: how many times as long another takes as ours with a",
        "fresh result.",
        "",
    ]
    for function in FUNCTIONS:
        if some := _of(run, function):
            lines += [f"## `{function}`", "", *table(some), "", *_absent(some), ""]
    return "\n".join([*lines, *_passes(run), *_launches(run)]).rstrip("\n") + "\n"


def readme_block(name: str, run: Run) -> str:
    """The short table of the README, and where the run stands."""
    facts = run.machine
    lines = [
        f"Loss and gradient (`{LOSS_AND_GRAD}`) on {facts['GPU']}, whose own copy moves "
        f"{summary.number(run.ceilings[GPU_COPY])} GB/s ({facts['date']}; "
        f"[all of it](benchmarks/results/{name}.md)):",
        "",
        *table(_of(run, LOSS_AND_GRAD)),
    ]
    known = [f"- {sentence(target)}" for target in targets(run)]
    return "\n".join([*lines, "", *known] if known else lines)


def write(path: Path, run: Run) -> None:
    """Write the report for people beside the JSON."""
    path.with_suffix(".md").write_text(markdown(run), encoding="utf-8")


def rewrite_readme(name: str, run: Run) -> None:
    """Rewrite the README's block on GPUs."""
    files.rewrite_readme(BEGIN, END, readme_block(name, run))

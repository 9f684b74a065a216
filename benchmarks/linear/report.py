"""Run the linear cases in turn and write the results to ``benchmarks/results/NAME-linear.md`` and ``.json``.

    python -m benchmarks.linear.report [--readme] [--cases GLOB] [--seconds S]

Everything in those files is generated. With ``--cases`` the others stay as the last run on the same machine with the
same versions has left them, so that a long report can be made in pieces. ``--readme`` also rewrites its sentence in
README.md.

All contestants of a case take turns in one process, with the same number of threads (NUMBA_NUM_THREADS), each after a
rest in which the threads of the one before go to sleep, and after a call of its own that is not measured (but for calls
of seconds). What the timed calls have returned is compared; who is wrong gets no time.

Two floors are measured in turn with the passes: 256 MB of memory are read by the fastest of NumPy's reductions in all
threads, and two matrix products of 2048 x 2048 x 2048 are computed, the second from the result of the first, as passes
do. The columns say what reading the features once and the arithmetic of the products take at the best speed seen; no
pass can take less than the larger, except that features which stay in the caches are read faster.
"""

import fnmatch
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastsoftmax.bench import machine, timing
from fastsoftmax.bench.report.summary import ms
from fastsoftmax.bench.results import Timing

from .. import files
from .cases import CASES, FIT, LOSS, MEMORY, PREDICT, Case
from .contestants import OURS, SKLEARN, TIGHTER, libraries
from .run import PEERS, READ, Result, run

BEGIN = "<!-- linear results: begin (benchmarks/linear/report.py writes what follows) -->"
END = "<!-- linear results: end -->"
DERIVED = ("bytes", "flops")  # in the JSON beside the results


def as_json(facts: dict[str, str], measured: list[Result]) -> dict[str, Any]:
    """The report for programs."""
    cases = []
    for result in measured:
        seconds = {name: time._asdict() for name, time in result.seconds.items()}
        derived = dict(zip(DERIVED, (result.case.nbytes, result.case.flops), strict=True))
        cases.append(result._asdict() | {"case": result.case._asdict(), "seconds": seconds} | derived)
    return {"machine": facts, "cases": cases}


def load(path: Path) -> tuple[dict[str, str], list[Result]]:
    """The machine of a report for programs, and the results there, if it is recorded as it is today."""
    report = json.loads(path.read_text("utf-8"))
    results = []
    for record in report["cases"]:
        if set(record) == {*Result._fields, *DERIVED}:
            fields = {name: record[name] for name in Result._fields}
            fields["seconds"] = {name: Timing(**time) for name, time in record["seconds"].items()}
            results.append(Result(**fields | {"case": Case(**record["case"])}))
    return report["machine"], results


def kept(path: Path, facts: dict[str, str]) -> list[Result]:
    """The results measured before, if on the same machine with the same versions."""
    machine, results = load(path) if path.exists() else ({}, [])
    return results if machine | {"date": ""} == facts | {"date": ""} else []


def merged(before: list[Result], measured: list[Result]) -> list[Result]:
    """The results of now and before, in the order of the cases."""
    known = {result.case: result for result in (*before, *measured)}
    return [known[case] for case in CASES if case in known]


def _absent(measured: Iterable[Result]) -> list[str]:
    """Contestants without a time, and the reasons."""
    lines = [f"- {result.case.name}: {name}: {why}" for result in measured for name, why in result.absent.items()]
    return ["", "Without a time:", "", *lines] if lines else []


def _times(value: float | None) -> str:
    """A ratio."""
    return "–" if value is None else f"{value:.2f}"


def _milliseconds(result: Result, name: str) -> str:
    return ms(result.seconds[name].median) if name in result.seconds else "–"


def _shape(case: Case) -> str:
    """A case in a table of its operation."""
    return case.name.removeprefix(f"{case.operation} ")


def _speed(result: Result) -> list[str]:
    """Operations a second of a pass, its floors, and the part of the larger that it reaches."""
    read, products = result.floors
    floors = [ms(read), ms(products)]
    if OURS not in result.seconds:
        return ["–", *floors, "–"]
    ours = result.seconds[OURS].median
    return [f"{result.case.flops / ours / 1e9:.1f}", *floors, f"{max(read, products) / ours:.0%}"]


def _excess(result: Result) -> list[str]:
    """The parts by which objectives exceed scikit-learn's."""
    return [f"{result.excess[name]:.1e}" if name in result.excess else "–" for name in (OURS, TIGHTER)]


def table(measured: list[Result], operation: str) -> list[str]:
    """The cases of an operation that is timed."""
    peers = PEERS[operation]
    more = ["GFLOP/s", "memory floor", "product floor", "of the larger"]
    if operation == FIT:
        more = [f"excess of {name}" for name in (OURS, TIGHTER)]
    lines = files.head(["case", OURS, *peers, *(f"× {name}" for name in peers), *more])
    for result in measured:
        cells = [_shape(result.case), *(_milliseconds(result, name) for name in (OURS, *peers))]
        cells += [_times(result.ratio(name)) for name in peers]
        cells += _excess(result) if operation == FIT else _speed(result)
        lines.append(files.row(cells))
    return lines


def _megabytes(result: Result) -> list[str]:
    """Megabytes that fits hold beside features and result, and the other's as a multiple of ours."""
    ours, theirs = (result.extra_bytes.get(name) for name in (OURS, SKLEARN))
    cells = ["–" if size is None else f"{size / 1e6:.0f}" for size in (ours, theirs)]
    return [*cells, _times(theirs / ours if ours and theirs else None)]


def memory_table(measured: list[Result]) -> list[str]:
    """The cases whose memory is measured."""
    lines = files.head(["case", OURS, SKLEARN, f"× {SKLEARN}"])
    return lines + [files.row([_shape(result.case), *_megabytes(result)]) for result in measured]


HEADINGS = {
    LOSS: "`linear_cross_entropy_and_grad`, gradients of weights and bias: milliseconds",
    PREDICT: "`linear_predict`: milliseconds",
    FIT: "`SoftmaxRegression().fit` and `LogisticRegression().fit` until they stop by themselves: milliseconds, and by "
    "what part of scikit-learn's final objective ours is larger",
    MEMORY: "The same, a few iterations: most megabytes held beyond features and result",
}


def _conditions(measured: list[Result]) -> list[str]:
    """The machine's other work meanwhile."""
    lines = []
    if passes := [result for result in measured if READ in result.seconds]:
        read, peak = max(f.bandwidth for f in passes) / 1e9, max(f.peak for f in passes) / 1e9
        lines.append(f"- Floors: memory is read at {read:.1f} GB/s, products of squares reach {peak:.0f} GFLOP/s.")
        after = max(f.spinning for f in passes) * 1e3
        rest = f"a rest until threads sleep, of {timing.PAUSE * 1e3:.0f} ms at most"
        lines.append(f"- Every turn begins with {rest}; they went on for {after:.0f} ms after a call, at most.")
    if others := [result.others for result in measured if result.others is not None]:
        lines.append(f"- Other processes took {max(others):.2f} cores meanwhile, on the average of a case, at most.")
    return lines


def markdown(facts: dict[str, str], measured: list[Result]) -> str:
    """The report for people."""
    lines = [f"# Linear passes on {facts['CPU']}", "", "Written by `benchmarks/linear/report.py`; do not edit.", ""]
    lines += files.listed(facts)
    lines += ["", "Medians of repetitions taken in turn. × NAME: how many times as long that one takes.", ""]
    lines += _conditions(measured)
    for operation, heading in HEADINGS.items():
        some = [result for result in measured if result.case.operation == operation]
        if some:
            rows = memory_table(some) if operation == MEMORY else table(some, operation)
            lines += ["", f"## {heading}", "", *rows, *_absent(some), ""]
            lines += [f"- {_shape(result.case)}: {result.case.why} ({result.date})" for result in some]
    return "\n".join(lines) + "\n"


def _against(measured: list[Result], operation: str) -> str:
    """The least and the greatest ratio of scikit-learn's time, or memory, to ours over the cases of an operation."""
    some = [result for result in measured if result.case.operation == operation]
    if operation == MEMORY:
        ratios = [f.extra_bytes[SKLEARN] / f.extra_bytes[OURS] for f in some if {OURS, SKLEARN} <= set(f.extra_bytes)]
    else:
        ratios = [ratio for result in some if (ratio := result.ratio(SKLEARN)) is not None]
    ends = [min(ratios), max(ratios)] if len(ratios) > 1 else ratios
    return " to ".join(map(_times, ends)) or "–"


def readme_block(name: str, facts: dict[str, str], measured: list[Result]) -> str:
    """A few figures for the README, beside scikit-learn."""
    loss, predict, fit, memory = (_against(measured, operation) for operation in (LOSS, PREDICT, FIT, MEMORY))
    return (
        f"From features, beside {SKLEARN}: loss and gradients {loss} times as fast, predictions {predict} times, fits "
        f"{fit} times, and a fit in {memory} times less memory. {facts['CPU']}, {facts['threads']} threads "
        f"({facts['date']}; [all of it](benchmarks/results/{name}.md))."
    )


def main() -> None:
    """Run the command line."""
    parser = files.options(__doc__, seconds=4.0)
    parser.add_argument("--cases", default="*", metavar="GLOB", help="those whose names match: 'loss*', '*x784x10*'")
    args = parser.parse_args()
    cases = [case for case in CASES if fnmatch.fnmatch(case.name, args.cases)]
    if not cases:
        parser.error(f"no case matches {args.cases!r}; there are {', '.join(case.name for case in CASES)}")
    facts = machine.facts() | libraries()
    name = args.name or f"{files.slug(facts)}-linear"
    before = kept(args.results / f"{name}.json", facts)
    measured = merged(before, run(cases, facts["date"], args.seconds))
    report = markdown(facts, measured)
    files.write(args.results, name, report, as_json(facts, measured))
    if args.readme:
        files.rewrite_readme(BEGIN, END, readme_block(name, facts, measured))
    print(report)


if __name__ == "__main__":
    main()

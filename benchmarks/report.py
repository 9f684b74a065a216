"""Run the benchmark cases in turn and write what was found to ``benchmarks/results/NAME.md`` and ``NAME.json``.

    python -m benchmarks.report [--readme]

Everything in those files is generated: the machine, the versions, the date, the numbers. ``--readme`` also rewrites the
table of README.md, between its two comments.

Besides the contestants each case has two floors, measured in turn with them and on arrays of the same size: *copy*
reads the logits once and writes as many bytes elsewhere, *update* multiplies them in place. NumPy does both, in as many
threads as the kernels may use where the array is large enough to pay for them. What writes its result to a new place
cannot be much faster than the copy (a little, where it writes past the caches and NumPy does not), nor what works in
place than the update.
"""

import argparse
import datetime
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastsoftmax import bench, system
from fastsoftmax.bench import INTO, LOSS, NUMPY, OURS, SCIPY, SOFTMAX, Call, Case, Timing

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: begin (benchmarks/report.py writes what follows) -->", "<!-- results: end -->"
COPY, UPDATE = "copy", "update"
THREADED = 1 << 22  # bytes from which threads of Python pay for the floors

Measured = list[tuple[Case, dict[str, Timing]]]


def floors(case: Case, pool: ThreadPoolExecutor, threads: int) -> dict[str, Call]:
    """Copying the logits, and updating them in place."""
    x, _ = bench.data(case)
    y, one = np.zeros_like(x), np.ones((), x.dtype)
    if x.nbytes < THREADED or threads == 1:
        return {COPY: lambda: np.copyto(y, x), UPDATE: lambda: np.multiply(x, one, out=x)}
    flat_x, flat_y = x.ravel(), y.ravel()
    cuts = [slice(len(flat_x) * i // threads, len(flat_x) * (i + 1) // threads) for i in range(threads)]
    return {
        COPY: lambda: list(pool.map(lambda c: np.copyto(flat_y[c], flat_x[c]), cuts)),
        UPDATE: lambda: list(pool.map(lambda c: np.multiply(flat_x[c], one, out=flat_x[c]), cuts)),
    }


def run(cases: list[Case], seconds: float) -> Measured:
    """Measure the cases one after the other, saying so on standard error."""
    threads = numba.get_num_threads()
    found: Measured = []
    with ThreadPoolExecutor(threads) as pool:
        for case in cases:
            print(f"{len(found) + 1}/{len(cases)} {case.function} {case.shape}", file=sys.stderr)
            calls = bench.contestants(case) | floors(case, pool, threads)
            found.append((case, bench.measure(calls, seconds=seconds)))
    return found


def _ms(seconds: float) -> str:
    """Milliseconds to three digits."""
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def _table(measured: Measured, function: str) -> list[str]:
    """One function's cases as rows of Markdown."""
    lines = [
        "| logits | MB moved | fastsoftmax | with `out=` | NumPy | SciPy | × NumPy | × SciPy | copy | update |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case, times in measured:
        if case.function == function:
            ours, into, numpy, scipy, copy, update = (
                times[name].median for name in (OURS, INTO, NUMPY, SCIPY, COPY, UPDATE)
            )
            cells = [
                case.shape, f"{case.nbytes / 1e6:.3g}", *map(_ms, (ours, into, numpy, scipy)),
                f"{numpy / ours:.1f}", f"{scipy / ours:.1f}", _ms(copy), _ms(update),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _bandwidth(measured: Measured) -> str:
    """The speed of the floors on the largest arrays."""
    case, times = max(measured, key=lambda pair: pair[0].nbytes)
    copy, update = (case.nbytes / times[name].least / 1e9 for name in (COPY, UPDATE))
    return (
        f"Two floors: *copy* reads the logits and writes as many bytes elsewhere ({copy:.1f} GB/s at {case.shape}), "
        f"*update* multiplies them in place ({update:.1f} GB/s); NumPy does both, in all threads from "
        f"{THREADED >> 20} MiB on. What writes its result to a new place cannot be much faster than the copy. "
        "× NumPy and × SciPy: how many times as fast `fastsoftmax` is that allocates its result, as those do."
    )


def markdown(facts: dict[str, str], measured: Measured) -> str:
    """The report for people."""
    lines = [f"# Kernel speed on {facts['CPU']}", "", "Written by `benchmarks/report.py`; do not edit.", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += ["", "Milliseconds a call, float32, median of repetitions taken in turn.", "", _bandwidth(measured)]
    for function, ours in ((LOSS, "cross_entropy_and_grad"), (SOFTMAX, "softmax")):
        lines += ["", f"## {function}: `{ours}`", "", *_table(measured, function)]
    return "\n".join(lines) + "\n"


def as_json(facts: dict[str, str], measured: Measured) -> dict[str, Any]:
    """The report for programs."""
    return {
        "machine": facts,
        "cases": [
            {**case._asdict(), "bytes": case.nbytes, "seconds": {name: t._asdict() for name, t in times.items()}}
            for case, times in measured
        ],
    }


def readme_block(name: str, facts: dict[str, str], measured: Measured) -> str:
    """The short table of the README."""
    lines = [
        f"Loss and gradient on {facts['CPU']}, {facts['threads']} threads, float32, milliseconds "
        f"({facts['date']}; [all of it](benchmarks/results/{name}.md)):",
        "",
        "| logits | fastsoftmax | NumPy, fused by hand | SciPy | × NumPy | × SciPy |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for case, times in measured:
        if case.function == LOSS:
            ours, numpy, scipy = (times[name].median for name in (OURS, NUMPY, SCIPY))
            cells = [case.shape, *map(_ms, (ours, numpy, scipy)), f"{numpy / ours:.1f}", f"{scipy / ours:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rewrite(text: str, block: str) -> str:
    """`text` with another block between the two comments."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    replaced, count = pattern.subn(lambda _: f"{BEGIN}\n{block}\n{END}", text)
    if count != 1:
        raise SystemExit(f"README.md must hold the comments {BEGIN} and {END} once, found {count}")
    return replaced


def _slug(facts: dict[str, str]) -> str:
    """A file name for a machine."""
    return re.sub(r"[^a-z0-9]+", "-", f"{facts['CPU']} {facts['threads'].split()[0]} threads".lower()).strip("-")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the files; the default names the CPU and the threads")
    parser.add_argument("--seconds", type=float, default=3.0, help="to go on with each case (default: %(default)s)")
    parser.add_argument("--largest", type=float, default=1e9, help="megabytes of logits; larger cases are left out")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the folder (default: %(default)s)")
    parser.add_argument("--readme", action="store_true", help="rewrite the table of README.md too")
    args = parser.parse_args()
    cases = [c for c in bench.cases() if c.nbytes / 2 <= args.largest * 1e6]
    facts = {name: fact for name, fact in system.versions().items() if name != "cache folder"}
    facts["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    measured = run(cases, args.seconds)
    name = args.name or _slug(facts)
    args.results.mkdir(parents=True, exist_ok=True)
    report = markdown(facts, measured)
    (args.results / f"{name}.md").write_text(report, encoding="utf-8")
    (args.results / f"{name}.json").write_text(json.dumps(as_json(facts, measured), indent=1) + "\n", encoding="utf-8")
    if args.readme:
        README.write_text(rewrite(README.read_text("utf-8"), readme_block(name, facts, measured)), encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()

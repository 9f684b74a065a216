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

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from fastsoftmax import bench
from fastsoftmax.bench import INTO, LOSS, NUMPY, OURS, SCIPY, SOFTMAX, Call, Case, Measured

from . import files

BEGIN, END = "<!-- results: begin (benchmarks/report.py writes what follows) -->", "<!-- results: end -->"
COPY, UPDATE = "copy", "update"
THREADED = 1 << 22  # bytes from which threads of Python pay for the floors


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


def _table(measured: Measured, function: str) -> list[str]:
    """One function's cases as rows of Markdown."""
    columns = ["logits", "MB moved", OURS, "with `out=`", NUMPY, SCIPY, "× NumPy", "× SciPy", COPY, UPDATE]
    lines = files.head(columns)
    for case, times in measured:
        if case.function == function:
            ours, into, numpy, scipy, copy, update = (
                times[name].median for name in (OURS, INTO, NUMPY, SCIPY, COPY, UPDATE)
            )
            cells = [
                case.shape, f"{case.nbytes / 1e6:.3g}", *map(files.ms, (ours, into, numpy, scipy)),
                f"{numpy / ours:.1f}", f"{scipy / ours:.1f}", files.ms(copy), files.ms(update),
            ]  # fmt: skip
            lines.append(files.row(cells))
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
    lines += files.listed(facts)
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
        *files.head(["logits", OURS, "NumPy, fused by hand", SCIPY, "× NumPy", "× SciPy"]),
    ]
    for case, times in measured:
        if case.function == LOSS:
            ours, numpy, scipy = (times[name].median for name in (OURS, NUMPY, SCIPY))
            cells = [case.shape, *map(files.ms, (ours, numpy, scipy)), f"{numpy / ours:.1f}", f"{scipy / ours:.1f}"]
            lines.append(files.row(cells))
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = files.options(__doc__, seconds=3.0)
    parser.add_argument("--largest", type=float, default=1e9, help="megabytes of logits; larger cases are left out")
    args = parser.parse_args()
    cases = [c for c in bench.cases() if c.nbytes / 2 <= args.largest * 1e6]
    facts = files.facts()
    measured = run(cases, args.seconds)
    name = args.name or files.slug(facts)
    report = markdown(facts, measured)
    files.write(args.results, name, report, as_json(facts, measured))
    if args.readme:
        files.rewrite_readme(BEGIN, END, readme_block(name, facts, measured))
    print(report)


if __name__ == "__main__":
    main()

"""The demonstration: softmax regression on handwritten digits, fused and in NumPy, and a table of kernel speed."""

import argparse
import json
import os
import textwrap
from typing import Any

from .. import system
from ..bench.cases import LOSS_AND_GRAD
from ..bench.cpu import suite
from ..bench.report import table
from ..bench.results import NUMPY, OURS, Result
from ..bench.timing import watched
from ..cpu import jit
from . import digits
from .arguments import wants_json
from .digits import Report
from .errors import FAILURE, SUCCESS
from .progress import Advance, progress
from .warmup import compile_kernels

GOOD = 0.95  # held-out accuracy that softmax regression reaches on the digits
SECONDS = 0.8  # for each line of the table
WIDTH = 60  # columns: half a screen
NEXT = """\
Try next
  python -m fastsoftmax train --help   your own data
  python -m fastsoftmax bench --quick  beside torch and JAX
  python -c "import fastsoftmax as fs; help(fs.softmax)"
"""


def run(args: argparse.Namespace) -> int:
    """Train on digits with the fused pass and with NumPy, compare, and measure the kernels."""
    with progress() as advance:
        _, seconds = compile_kernels(["float32"], advance)
    with watched() as others:
        with progress() as advance:
            report = _train(advance)
        with progress() as advance:
            measured = _measure(advance)
    facts = system.versions()
    if wants_json(args):
        print(json.dumps(as_json(facts, seconds, report, measured), indent=2))
    else:
        print(text(facts, seconds, report, measured, others[0] if others else 0.0))
    return SUCCESS if report.weights_agree and report.held_out_accuracy >= GOOD else FAILURE


def _train(advance: Advance) -> Report:
    done = 0

    def epoch_done() -> None:
        nonlocal done
        done += 1
        advance(done, 2 * digits.EPOCHS, "Training" if done <= digits.EPOCHS else "The same steps with NumPy")

    return digits.compare(digits.load(), epoch_done)


def _measure(advance: Advance) -> list[Result]:
    results: list[Result] = []
    for case in suite.SHOWN:
        advance(len(results), len(suite.SHOWN), f"Measuring {case.name}")
        results.append(suite.measured(case, suite.OF_SHOWN, seconds=SECONDS))
    return results


def text(facts: dict[str, str], seconds: float, report: Report, measured: list[Result], others: float) -> str:
    """All results for people: the verdict, the tables, what to try next, and the machine."""
    parts = [_verdict(report, measured), digits.text(report), table.demonstration(measured), NEXT.rstrip()]
    if others > table.DISTURBED:
        warning = (
            f"Other processes took {others:.1f} of {os.cpu_count()} cores meanwhile: the times are not to be trusted."
        )
        parts.insert(1, textwrap.fill(f"{warning} Run it again when they are done.", WIDTH))
    kept = f"{jit.counts['compiled']} compiled, {jit.counts['loaded']} loaded"
    return "\n\n".join([*parts, machine_text({"kernels": f"ready after {seconds:.1f} s; {kept}", **facts})])


def _verdict(report: Report, measured: list[Result]) -> str:
    """The result in a sentence."""
    ratios = [
        result.timings[NUMPY].least / result.timings[OURS].least
        for result in measured
        if result.case.function == LOSS_AND_GRAD
    ]
    same = "the same weights" if report.weights_agree else "OTHER WEIGHTS"
    fast = f"{min(ratios):.1f} to {max(ratios):.1f}" if len(ratios) > 1 else f"{ratios[0]:.1f}"
    return textwrap.fill(
        f"Loss and gradient {fast} times as fast as NumPy here; {same}, to {report.weights_difference:.0e}; "
        f"{report.held_out_accuracy:.1%} of the held-out digits are right.",
        WIDTH,
    )


def machine_text(facts: dict[str, str]) -> str:
    """The machine and the versions, as text."""
    width = max(map(len, facts))
    lines = [
        textwrap.fill(
            f"  {name:<{width}}  {fact}",
            WIDTH,
            subsequent_indent=" " * (width + 4),
            break_on_hyphens=False,
            break_long_words=False,
        )
        for name, fact in facts.items()
    ]
    return "\n".join(["Machine", *lines])


def as_json(facts: dict[str, str], kernel_seconds: float, report: Report, measured: list[Result]) -> dict[str, Any]:
    """All results of the demonstration, as JSON has them."""
    return {
        "machine": facts,
        "kernels_ready_seconds": kernel_seconds,
        "training": report._asdict(),
        "speed": [
            {
                "function": result.case.function,
                "shape": list(result.case.shape),
                "dtype": result.case.dtype,
                "bytes": result.case.nbytes,
                "seconds": {name: timing._asdict() for name, timing in result.timings.items()},
            }
            for result in measured
        ],
    }

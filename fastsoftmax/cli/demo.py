"""The demonstration: softmax regression on handwritten digits, fused and in NumPy, and a table of kernel speed."""

import argparse
import functools
import json
from typing import Any

import rich  # noqa: F401  whatever is missing is to be said before anything is computed
import sklearn.datasets  # noqa: F401

from .. import system
from ..bench.cpu import suite
from ..bench.report import table
from ..bench.results import Result
from . import digits
from .arguments import wants_json
from .digits import Report
from .errors import FAILURE, SUCCESS
from .progress import Advance, progress
from .warmup import compile_kernels

GOOD = 0.95  # held-out accuracy that softmax regression reaches on the digits
SECONDS = 0.8  # for each line of the table


def run(args: argparse.Namespace) -> int:
    """Train on digits with the fused pass and with NumPy, compare, and measure the kernels."""
    show = _nothing if wants_json(args) else functools.partial(print, flush=True)
    facts = system.versions()
    show(machine_text(facts))
    with progress() as advance:
        _, seconds = compile_kernels(["float32"], advance)
    show(f"\nKernels\n  ready after {seconds:.1f} s\n")
    with progress() as advance:
        report = _train(advance)
    show(digits.text(report) + "\n")
    with progress() as advance:
        measured = _measure(advance)
    show(table.demonstration(measured))
    if wants_json(args):
        print(json.dumps(as_json(facts, seconds, report, measured), indent=2))
    return SUCCESS if report.weights_agree and report.held_out_accuracy >= GOOD else FAILURE


def _nothing(_: str) -> None:
    pass


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


def machine_text(facts: dict[str, str]) -> str:
    """The machine and the versions, as text."""
    width = max(map(len, facts))
    return "\n".join(["Machine", *(f"  {name:<{width}}  {fact}" for name, fact in facts.items())])


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

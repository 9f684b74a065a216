"""The command ``bench``: run the benchmark suite, print tables, write JSON and a page."""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import numba

from ..bench import results, suite, table
from ..bench.cases import CASES, Case
from ..bench.results import Run
from . import output
from .mistakes import BadInput, shown
from .progress import progress

STDOUT = Path("-")


def run(args: argparse.Namespace) -> None:
    """Measure the cases that are chosen.

    What was measured until an interruption is printed and written before that goes on.
    """
    cases = _chosen(args.cases, quick=args.quick)
    if args.list:
        print("\n".join(f"{case.name}  {case.reason}" for case in cases))
        return
    as_json = STDOUT if getattr(args, "json", None) is True else getattr(args, "json", None)
    _check(args, as_json)
    found, interruption = _measured(cases, suite.Settings(args.quick, args.seconds, args.threads or 0))
    if found is not None and (found.found or interruption is None):
        _write(found, as_json, args.html)
    if interruption is not None:
        raise interruption


def _chosen(pattern: str, *, quick: bool) -> list[Case]:
    """The cases that a pattern names."""
    cases = suite.chosen(pattern, quick=quick)
    if cases:
        return cases
    if quick and suite.chosen(pattern):
        raise BadInput(f"no case of a quick run matches {shown(pattern)!r}; leave out --quick (see bench --list)")
    some = ", ".join(case.name for case in CASES[:3])
    raise BadInput(f"no case matches {shown(pattern)!r}; there are {some} and more (see bench --list)")


def _check(args: argparse.Namespace, as_json: Path | None) -> None:
    """Raise for what would fail after everything was measured."""
    if args.threads is not None and args.threads > numba.config.NUMBA_NUM_THREADS:
        most = numba.config.NUMBA_NUM_THREADS
        raise BadInput(f"--threads must be at most {most}, the threads that Numba starts here, got {args.threads}")
    if as_json is not None and as_json != STDOUT:
        output.check_place(as_json, (".json",), "results")
    if args.html is not None:
        output.check_place(args.html, (".html", ".htm"), "page")
        importlib.import_module("matplotlib")


def _measured(cases: Sequence[Case], settings: suite.Settings) -> tuple[Run | None, KeyboardInterrupt | None]:
    """What was measured, and what has ended that too early."""
    found = None
    try:
        with progress() as advance:
            advance(0, len(cases), "Ceilings of this machine")
            found = suite.begun(settings)
            suite.add(found, cases, settings, advance)
    except KeyboardInterrupt as interruption:
        return found, interruption
    return found, None


def _write(found: Run, as_json: Path | None, html: Path | None) -> None:
    """Print the tables, unless JSON is printed, and write the files."""
    text = json.dumps(results.as_json(found), indent=1)
    print(text if as_json == STDOUT else table.text(found))
    if as_json is not None and as_json != STDOUT:
        with output.replacing(as_json) as file:
            file.write(text.encode() + b"\n")
    if html is not None:
        from ..bench import page  # noqa: PLC0415  it needs an extra

        with output.replacing(html) as file:
            file.write(page.html(found).encode())

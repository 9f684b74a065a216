"""The command ``bench``: run the benchmark suite, print tables, write JSON and a page."""

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numba

from ..bench import cases as cpu_cases
from ..bench import results
from ..bench.cases import Case
from ..bench.cpu import suite
from ..bench.cuda import arrays
from ..bench.cuda import cases as cuda_cases
from ..bench.cuda import suite as cuda_suite
from ..bench.report import cuda_table, table
from ..bench.results import Run
from . import output
from .errors import SUCCESS, BadInput, shown
from .progress import Advance, progress

STDOUT = Path("-")


class Device(NamedTuple):
    """The cases of a device, and how they are measured and shown."""

    cases: tuple[Case, ...]
    chosen: Callable[..., list[Case]]
    measure: Callable[[list[Run], Sequence[Case], argparse.Namespace, Advance], object]
    text: Callable[[Run], str]


def run(args: argparse.Namespace) -> int:
    """Measure the cases that are chosen.

    What was measured until an interruption is printed and written before that goes on.
    """
    device = DEVICES[args.device]
    cases = _chosen(device, args.cases, quick=args.quick)
    if args.list:
        print("\n".join(f"{case.name}  {case.reason}" for case in cases))
        return SUCCESS
    as_json = STDOUT if getattr(args, "json", None) is True else getattr(args, "json", None)
    _check(args, as_json)
    measured, interruption = _measured(device, cases, args)
    if measured is not None and (measured.results or interruption is None):
        _write(measured, device.text, as_json, args.html)
    if interruption is not None:
        raise interruption
    return SUCCESS


def _chosen(device: Device, pattern: str, *, quick: bool) -> list[Case]:
    """The cases that a pattern names."""
    cases = device.chosen(pattern, quick=quick)
    if cases:
        return cases
    if quick and device.chosen(pattern):
        raise BadInput(f"no case of a quick run matches {shown(pattern)!r}; leave out --quick (see bench --list)")
    some = ", ".join(case.name for case in device.cases[:3])
    raise BadInput(f"no case matches {shown(pattern)!r}; there are {some} and more (see bench --list)")


def _check(args: argparse.Namespace, as_json: Path | None) -> None:
    """Raise for what would fail after everything was measured."""
    if args.device == "cuda":
        _check_gpu(args)
    if args.threads is not None and args.threads > numba.config.NUMBA_NUM_THREADS:
        most = numba.config.NUMBA_NUM_THREADS
        raise BadInput(f"--threads must be at most {most}, the threads that Numba starts here, got {args.threads}")
    if as_json is not None and as_json != STDOUT:
        output.check_place(as_json, (".json",), "results")
    if args.html is not None:
        output.check_place(args.html, (".html", ".htm"), "page")
        importlib.import_module("matplotlib")


def _check_gpu(args: argparse.Namespace) -> None:
    """Raise where there is no GPU to measure, or for what only the CPU's suite has."""
    if args.threads is not None:
        raise BadInput("--threads is for --device cpu; leave it out")
    if args.html is not None:
        raise BadInput("--html is for --device cpu, as the page has no charts of a GPU; leave it out, or use --json")
    if why := arrays.missing():
        raise BadInput(f"--device cuda: {why}")


def _measured(
    device: Device, cases: Sequence[Case], args: argparse.Namespace
) -> tuple[Run | None, KeyboardInterrupt | None]:
    """The measurements, and the interruption that ended them early."""
    begun: list[Run] = []
    try:
        with progress() as advance:
            device.measure(begun, cases, args, advance)
    except KeyboardInterrupt as interruption:
        return next(iter(begun), None), interruption
    return begun[0], None


def _on_cpu(begun: list[Run], cases: Sequence[Case], args: argparse.Namespace, advance: Advance) -> None:
    """Measure on the CPU; the run is there for the caller as soon as it has begun."""
    settings = suite.Settings(args.quick, args.seconds, args.threads or 0)
    advance(0, len(cases), "Ceilings of this machine")
    begun.append(suite.begun(settings))
    suite.add(begun[0], cases, settings, advance)


def _on_gpu(begun: list[Run], cases: Sequence[Case], args: argparse.Namespace, advance: Advance) -> None:
    """Measure on a GPU, likewise."""
    settings = cuda_suite.Settings(args.quick, args.seconds)
    advance(0, len(cases), "Check of memory, and a copy on the GPU")
    started, clock = cuda_suite.begun(settings)
    begun.append(started)
    cuda_suite.add(started, clock, cases, settings, advance)


DEVICES = {
    "cpu": Device(cpu_cases.CASES, suite.chosen, _on_cpu, table.text),
    "cuda": Device(cuda_cases.CASES, cuda_suite.chosen, _on_gpu, cuda_table.text),
}


def _write(measured: Run, text_of: Callable[[Run], str], as_json: Path | None, html: Path | None) -> None:
    """Print the tables, unless JSON is printed, and write the files."""
    text = json.dumps(results.as_json(measured), indent=1)
    print(text if as_json == STDOUT else text_of(measured))
    if as_json is not None and as_json != STDOUT:
        with output.replacing(as_json) as file:
            file.write(text.encode() + b"\n")
    if html is not None:
        from ..bench.report import page  # noqa: PLC0415  it needs an extra

        with output.replacing(html) as file:
            file.write(page.html(measured).encode())

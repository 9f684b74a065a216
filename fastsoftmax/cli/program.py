"""The command line: a demonstration on real data, the facts that bug reports need, and compiling ahead.

Results go to standard output as plain text; progress goes to standard error, and only where that is a terminal.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import system
from ..core.rules import NoCompiler
from ..version import __version__
from . import arguments
from .errors import BadInput, one_line
from .progress import Advance, progress

if TYPE_CHECKING:
    from ..bench.results import Found
    from .digits import Report

SUCCESS, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
GOOD = 0.95  # held-out accuracy that softmax regression reaches on the digits
SECONDS = 0.8  # for each line of the table
#: Optional modules, and the packages that bring them.
EXTRAS = {
    "matplotlib": "matplotlib",
    "ml_dtypes": "ml_dtypes",
    "pandas": "pandas",
    "rich": "scikit-learn rich",
    "sklearn": "scikit-learn rich",
}
DTYPES = ("float16", "bfloat16", "float32", "float64")

DESCRIPTION = """\
Without a command: say what machine this is, train softmax regression on handwritten digits with the fused
loss-and-gradient pass, take the same steps with NumPy, compare weights and times, and show a table of kernel speed
against NumPy and SciPy. Takes less than a minute; needs scikit-learn and rich."""
EPILOG = """\
exit status: 0 success; 1 the weights disagree or the accuracy is below 0.95; 2 wrong usage, or scikit-learn or rich is
missing; 130 interrupted."""


def _dtype(name: str) -> str:
    """A dtype of logits, for argparse."""
    if name not in DTYPES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(DTYPES)}")
    return name


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the same as one JSON object"
    )
    top = argparse.ArgumentParser(
        prog="python -m fastsoftmax",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    top.add_argument("--version", action="version", version=f"fastsoftmax {__version__}")
    commands = top.add_subparsers(dest="command", title="commands", metavar="{train,predict,bench,info,warmup}")
    arguments.add(commands, common)
    commands.add_parser("info", parents=[common], help="versions, CPU, threads, cache folder", description=info.__doc__)
    ahead = commands.add_parser(
        "warmup", parents=[common], help="compile the usual kernels ahead", description=warmup.__doc__
    )
    ahead.add_argument(
        "dtypes",
        nargs="*",
        type=_dtype,
        metavar="DTYPE",
        help=f"of logits: {', '.join(DTYPES)} (default: float32 float64)",
    )
    return top


def main(typed: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    typed : sequence of str, optional
        What was typed after the program's name; by default that of this process.

    Returns
    -------
    int
        The exit status.
    """
    with _any_character():
        return _run(parser().parse_args(typed))


@contextlib.contextmanager
def _any_character() -> Iterator[None]:
    """Output streams that take any text: what their encoding lacks is escaped, and closed ones swallow it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  as long as the process lives
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=errors)


def _run(args: argparse.Namespace) -> int:
    """Run a command; whatever a user can mend is one line."""
    commands = {
        None: demonstration,
        "info": info,
        "warmup": warmup,
        "train": train,
        "predict": predict,
        "bench": bench,
    }
    try:
        status = commands[args.command](args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (BadInput, NoCompiler, MemoryError) as error:
        cause = "there is not enough memory for this: " if isinstance(error, MemoryError) else ""
        print(one_line(f"{cause}{error}"), file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough; nor can the exit's flush succeed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:  # of files it is BadInput: this is a full disk behind standard output, for instance
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(one_line(f"the output cannot be written: {error}"), file=sys.stderr)
        return USAGE
    except ModuleNotFoundError as error:
        missing = EXTRAS.get((error.name or "").partition(".")[0])
        if missing is None:
            raise
        print(
            f"{missing} is missing; install it with: {Path(sys.executable).name} -m pip install {missing}",
            file=sys.stderr,
        )
        return USAGE
    return status


def _wants_json(args: argparse.Namespace) -> bool:
    return getattr(args, "json", False)


def info(args: argparse.Namespace) -> int:
    """Print the versions, the CPU, the threads and the cache folder, as bug reports need them."""
    if _wants_json(args):
        print(json.dumps(system.versions(), indent=2))
    else:
        system.show_versions()
    return SUCCESS


def warmup(args: argparse.Namespace) -> int:
    """Compile the kernels that are used most and keep them on disk, so that no later call waits for a compiler."""
    if "bfloat16" in args.dtypes:
        import ml_dtypes  # noqa: F401, PLC0415  NumPy knows the name once it is imported
    with progress() as advance:
        calls, seconds = _compile(args.dtypes or ["float32", "float64"], advance)
    if _wants_json(args):
        print(json.dumps({"calls": calls, "seconds": seconds}, indent=2))
    else:
        print(f"{calls} calls are ready after {seconds:.1f} s")
    return SUCCESS


def train(args: argparse.Namespace) -> int:
    """Train on a file, and write a model."""
    from . import train as command  # noqa: PLC0415  what it imports is not for every command

    command.run(args, as_json=_wants_json(args))
    return SUCCESS


def predict(args: argparse.Namespace) -> int:
    """Predict with a model for the rows of a file."""
    from . import predict as command  # noqa: PLC0415  likewise

    command.run(args, as_json=_wants_json(args))
    return SUCCESS


def bench(args: argparse.Namespace) -> int:
    """Run the benchmark suite."""
    from . import bench as command  # noqa: PLC0415  likewise

    command.run(args)
    return SUCCESS


def demonstration(args: argparse.Namespace) -> int:
    """Train on digits with the fused pass and with NumPy, compare, and measure the kernels."""
    import rich  # noqa: F401, PLC0415  whatever is missing is to be said before anything is computed
    import sklearn.datasets  # noqa: F401, PLC0415

    from ..bench.report import table  # noqa: PLC0415  likewise
    from . import digits  # noqa: PLC0415  it imports SciPy, which the other commands do without

    show = _nothing if _wants_json(args) else functools.partial(print, flush=True)
    facts = system.versions()
    show(machine_text(facts))
    with progress() as advance:
        _, seconds = _compile(["float32"], advance)
    show(f"\nKernels\n  ready after {seconds:.1f} s\n")
    with progress() as advance:
        report = _train(advance)
    show(digits.text(report) + "\n")
    with progress() as advance:
        measured = _measure(advance)
    show(table.demonstration(measured))
    if _wants_json(args):
        print(json.dumps(as_json(facts, seconds, report, measured), indent=2))
    return SUCCESS if report.weights_agree and report.held_out_accuracy >= GOOD else FAILURE


def _nothing(_: str) -> None:
    pass


def _compile(dtypes: Sequence[str], advance: Advance) -> tuple[int, float]:
    """How many calls are ready, and the seconds until their kernels were compiled or loaded."""
    start = time.perf_counter()
    calls = system.warmup(dtypes, progress=lambda done, total, name: advance(done, total, f"Compiling {name}"))
    return calls, time.perf_counter() - start


def _train(advance: Advance) -> "Report":
    from . import digits  # noqa: PLC0415

    done = 0

    def epoch_done() -> None:
        nonlocal done
        done += 1
        advance(done, 2 * digits.EPOCHS, "Training" if done <= digits.EPOCHS else "The same steps with NumPy")

    return digits.compare(digits.load(), epoch_done)


def _measure(advance: Advance) -> "list[Found]":
    from ..bench.cpu import suite  # noqa: PLC0415

    found: list[Found] = []
    for case in suite.SHOWN:
        advance(len(found), len(suite.SHOWN), f"Measuring {case.name}")
        found.append(suite.measured(case, suite.OF_SHOWN, seconds=SECONDS))
    return found


def machine_text(facts: dict[str, str]) -> str:
    """What machine and which versions these are."""
    width = max(map(len, facts))
    return "\n".join(["Machine", *(f"  {name:<{width}}  {fact}" for name, fact in facts.items())])


def as_json(facts: dict[str, str], kernel_seconds: float, report: "Report", measured: "list[Found]") -> dict[str, Any]:
    """All that the demonstration found, as JSON has it."""
    return {
        "machine": facts,
        "kernels_ready_seconds": kernel_seconds,
        "training": report._asdict(),
        "speed": [
            {
                "function": found.case.function,
                "shape": list(found.case.shape),
                "dtype": found.case.dtype,
                "bytes": found.case.nbytes,
                "seconds": {name: timing._asdict() for name, timing in found.timings.items()},
            }
            for found in measured
        ],
    }

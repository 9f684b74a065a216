"""The command line: its parser, and one way out for whatever a command cannot do.

Results go to standard output as plain text; progress goes to standard error, and only where that is a terminal.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.dtypes import FLOATS
from ..core.rules import NoCompiler
from ..version import __version__
from . import arguments
from .errors import FAILURE, INTERRUPTED, USAGE, BadInput, one_line

#: Optional modules, and the packages that bring them.
EXTRAS = {
    "matplotlib": "matplotlib",
    "ml_dtypes": "ml_dtypes",
    "pandas": "pandas",
    "rich": "scikit-learn rich",
    "sklearn": "scikit-learn rich",
}

DESCRIPTION = """\
Without a command: say what machine this is, train softmax regression on handwritten digits with the fused
loss-and-gradient pass, take the same steps with NumPy, compare weights and times, and show a table of kernel speed
against NumPy and SciPy. Takes less than a minute; needs scikit-learn and rich."""
EPILOG = """\
exit status: 0 success; 1 the weights disagree or the accuracy is below 0.95; 2 wrong usage, or scikit-learn or rich is
missing; 130 interrupted."""
INFO = "Print the versions, the CPU, the threads and the cache folder, as bug reports need them."
WARMUP = """\
Compile the kernels that are used most and keep them on disk, so that no later call waits for a compiler."""


def _dtype(name: str) -> str:
    """A dtype of logits, for argparse."""
    if name not in FLOATS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(FLOATS)}")
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
    commands.add_parser("info", parents=[common], help="versions, CPU, threads, cache folder", description=INFO)
    ahead = commands.add_parser("warmup", parents=[common], help="compile the usual kernels ahead", description=WARMUP)
    ahead.add_argument(
        "dtypes",
        nargs="*",
        type=_dtype,
        metavar="DTYPE",
        help=f"of logits: {', '.join(FLOATS)} (default: float32 float64)",
    )
    return top


def main(typed: Sequence[str] | None = None) -> int:
    """Run the command line as it was typed, by default that of this process; the exit status."""
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
    try:
        # What a command imports is not for every command.
        command = importlib.import_module(f".{args.command or 'demo'}", __package__)
        status: int = command.run(args)
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

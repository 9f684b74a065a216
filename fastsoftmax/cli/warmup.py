"""The command ``warmup``: kernels compiled ahead."""

import argparse
import json
import time
from collections.abc import Sequence

from .. import system
from .arguments import wants_json
from .errors import SUCCESS
from .progress import Advance, progress


def run(args: argparse.Namespace) -> int:
    """Compile the kernels that are used most and keep them on disk, so that no later call waits for a compiler."""
    if "bfloat16" in args.dtypes:
        import ml_dtypes  # noqa: F401, PLC0415  NumPy knows the name once it is imported
    with progress() as advance:
        calls, seconds = compile_kernels(args.dtypes or ["float32", "float64"], advance)
    if wants_json(args):
        print(json.dumps({"calls": calls, "seconds": seconds}, indent=2))
    else:
        print(f"{calls} calls are ready after {seconds:.1f} s")
    return SUCCESS


def compile_kernels(dtypes: Sequence[str], advance: Advance) -> tuple[int, float]:
    """The number of calls that are ready, and the seconds until their kernels were compiled or loaded."""
    start = time.perf_counter()
    calls = system.warmup(dtypes, progress=lambda done, total, name: advance(done, total, f"Compiling {name}"))
    return calls, time.perf_counter() - start

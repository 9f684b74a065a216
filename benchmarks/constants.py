"""The constants of the CPU's plans, each held against its neighbours: ``python -m benchmarks.constants [NAME ...]``.

They were chosen on a few machines.  On any other this says in two minutes whether one of them should be another number
there: the same call is timed in turn with a constant as it is, with another value, and as it is once more, which shows
how far the machine itself scatters.  Whether the results have the same bits is seen, too: only such constants could
differ from machine to machine.  Constants that kernels are compiled for are not among them.  Prints Markdown.
"""

import argparse
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastsoftmax as fs
from fastsoftmax.bench import machine, timing
from fastsoftmax.core import memo
from fastsoftmax.cpu.execute import recipe_for

from .files import head, listed, row

NEVER = 1 << 60
Shape = tuple[int, ...]


class Case(NamedTuple):
    """A call, and a value of a constant that has it go another way."""

    module: str  # of fastsoftmax.cpu
    constant: str
    value: int
    function: str  # of CALLS
    shape: Shape


def softmax(shape: Shape) -> timing.Call:
    """softmax into a new array."""
    return functools.partial(fs.softmax, logits(shape))


def softmax_out(shape: Shape) -> timing.Call:
    """The same into an array that is there."""
    x = logits(shape)
    return functools.partial(fs.softmax, x, out=np.empty_like(x))


def loss(shape: Shape) -> timing.Call:
    """The mean loss."""
    return functools.partial(fs.cross_entropy, logits(shape), labels(shape))


def weighted(shape: Shape) -> timing.Call:
    """The mean loss of weighted classes."""
    weight = np.linspace(0.5, 2, shape[1], dtype=np.float32)
    return functools.partial(fs.cross_entropy, logits(shape), labels(shape), class_weight=weight)


def gradient(shape: Shape) -> timing.Call:
    """The mean loss and its gradient, in an array that is there."""
    x = logits(shape)
    return functools.partial(fs.cross_entropy_and_grad, x, labels(shape), out=np.empty_like(x))


def gradient_fortran(shape: Shape) -> timing.Call:
    """The same of logits whose rows are side by side."""
    x = np.asfortranarray(logits(shape))
    return functools.partial(fs.cross_entropy_and_grad, x, labels(shape), out=np.empty_like(x))


def linear(shape: Shape) -> timing.Call:
    """The mean loss of a linear map (rows, features, classes), with its gradients."""
    rows, features, classes = shape
    x, weight = logits((rows, features)), logits((classes, features)) / features
    return functools.partial(fs.linear_cross_entropy_and_grad, x, weight, labels((rows, classes)))


CALLS: dict[str, Callable[[Shape], timing.Call]] = {
    "softmax": softmax,
    "softmax, `out=`": softmax_out,
    "loss": loss,
    "weighted loss": weighted,
    "loss and gradient": gradient,
    "loss and gradient, Fortran": gradient_fortran,
    "linear": linear,
}

#: Both sides of thresholds, near them and further away; halves and doubles of sizes.
OUT, GRADIENT, FORTRAN = "softmax, `out=`", "loss and gradient", "loss and gradient, Fortran"
TRIALS: tuple[tuple[str, str, int, str, tuple[Shape, ...]], ...] = (
    ("plan", "PARALLEL", 1, OUT, ((1024, 16), (256, 128), (48, 1008))),
    ("plan", "PARALLEL", 1, GRADIENT, ((2048, 10), (4096, 10), (48, 1008))),
    ("plan", "PARALLEL", NEVER, OUT, ((8192, 10), (600, 128), (66, 1008), (100, 1008), (128, 1008))),
    ("plan", "PARALLEL", NEVER, GRADIENT, ((8192, 10), (66, 1008), (128, 1008))),
    ("plan", "REGISTERS", 8, OUT, ((65536, 10), (65536, 16))),
    ("plan", "REGISTERS", 8, GRADIENT, ((65536, 10), (65536, 13), (65536, 16))),
    ("plan", "STREAM_BYTES", 1 << 20, OUT, ((512, 4096), (4096, 1008))),
    ("plan", "STREAM_BYTES", 1 << 20, GRADIENT, ((4096, 1008),)),
    ("plan", "STREAM_BYTES", NEVER, OUT, ((8192, 1024), (1024, 32000))),
    ("plan", "STREAM_BYTES", NEVER, GRADIENT, ((8192, 1024), (1024, 32000))),
    ("run", "PARALLEL_LABELS", NEVER, "loss", ((262144, 3),)),
    ("run", "PARALLEL_WEIGHTS", 1, "weighted loss", ((16384, 10),)),
    ("run", "PARALLEL_WEIGHTS", NEVER, "weighted loss", ((65536, 3),)),
    ("run", "ALIGNED", 1, "softmax", ((1024, 128),)),
    ("run", "ALIGNED", NEVER, "softmax", ((4096, 100),)),
    ("parts", "LAUNCHES", 1, OUT, ((1, 65536), (3, 150000), (3, 200000))),
    ("parts", "LAUNCHES", 1, GRADIENT, ((1, 65536), (3, 200000))),
    ("parts", "LAUNCHES", NEVER, OUT, ((1, 131072), (1, 10**6), (3, 300000))),
    ("parts", "RELOADED", 100, OUT, ((9, 131072),)),
    ("parts", "AT_ONCE", 1 << 18, OUT, ((3, 1 << 20),)),
    ("parts", "AT_ONCE", 1 << 22, OUT, ((3, 1 << 20),)),
    ("linear.plan", "PARALLEL", 1, "linear", ((500, 20, 10), (1000, 100, 10))),
    ("linear.plan", "PARALLEL", NEVER, "linear", ((2500, 100, 10), (256, 100, 100))),
    # What follows decides the order of sums, and so the last bits: one value serves every machine.
    ("plan", "CHUNK", 1 << 14, OUT, ((65536, 10), (4096, 1008))),
    ("plan", "CHUNK", 1 << 16, OUT, ((65536, 10), (4096, 1008))),
    ("plan", "FEW_CLASSES", 16, OUT, ((16384, 20), (16384, 24))),
    ("plan", "FEW_CLASSES", 32, OUT, ((16384, 26), (16384, 32))),
    ("plan", "BATCHED", 128, GRADIENT, ((8192, 200), (8192, 256))),
    ("plan", "BATCHED", 512, GRADIENT, ((8192, 260), (8192, 500))),
    ("plan", "BATCH", 1 << 10, GRADIENT, ((65536, 100), (8192, 200))),
    ("plan", "BATCH", 1 << 12, GRADIENT, ((65536, 100), (8192, 200))),
    ("plan", "KEPT_BYTES", 1 << 19, OUT, ((64, 151936), (64, 256000))),
    ("plan", "KEPT_BYTES", 1 << 19, GRADIENT, ((64, 151936), (64, 256000))),
    ("plan", "KEPT_BYTES", 1 << 22, OUT, ((64, 500000),)),
    ("plan", "TILE_BYTES", 1 << 16, FORTRAN, ((65536, 100), (8192, 500))),
    ("plan", "TILE_BYTES", 1 << 20, FORTRAN, ((65536, 100), (8192, 500))),
    ("plan", "PACKED", 256, FORTRAN, ((8192, 300), (8192, 500))),
    ("plan", "PACKED", 1024, FORTRAN, ((8192, 600), (8192, 1000))),
    ("plan", "TILE_VECTORS", 8, FORTRAN, ((4096, 1008),)),
    ("plan", "TILE_VECTORS", 32, FORTRAN, ((4096, 1008),)),
    ("linear.plan", "FEW_CLASSES", 32, "linear", ((5000, 200, 40), (5000, 200, 48))),
    ("linear.plan", "FEW_CLASSES", 64, "linear", ((5000, 200, 52), (5000, 200, 64))),
    ("linear.plan", "FEW_BLOCK", 25_000, "linear", ((60000, 784, 10),)),
    ("linear.plan", "FEW_BLOCK", 100_000, "linear", ((60000, 784, 10),)),
    ("linear.plan", "OWN_BLOCK", 500_000, "linear", ((5000, 512, 1000),)),
    ("linear.plan", "OWN_BLOCK", 2_000_000, "linear", ((5000, 512, 1000),)),
    ("linear.plan", "CHUNKS", 16, "linear", ((60000, 784, 10), (5000, 200, 100))),
    ("linear.plan", "CHUNK_WORK", 1 << 16, "linear", ((500, 100, 50),)),
    ("linear.plan", "CHUNK_WORK", 1 << 20, "linear", ((500, 100, 50), (5000, 100, 10))),
    ("linear.plan", "OWN_WEIGHTS", 1_000_000, "linear", ((5000, 512, 1000),)),
    ("linear.plan", "TILE", 256, "linear", ((1024, 512, 8000),)),
    ("linear.plan", "TILE", 1024, "linear", ((1024, 512, 8000),)),
)
CASES = [Case(*trial[:4], shape) for trial in TRIALS for shape in trial[4]]


def logits(shape: Shape) -> Any:
    """Random logits."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def labels(shape: Shape) -> Any:
    """Random labels."""
    return np.random.default_rng(1).integers(0, shape[-1], shape[0])


def with_constant(module: Any, name: str, value: int, call: timing.Call) -> timing.Call:
    """The call with a constant of some value, which stays set."""

    def changed() -> object:
        if getattr(module, name) != value:
            setattr(module, name, value)
            memo.clear()
            recipe_for.cache_clear()
        return call()

    return changed


def bits(result: Any) -> list[bytes]:
    """All arrays and numbers of a result, as they are in memory."""
    if isinstance(result, tuple):
        return [part for one in result if one is not None for part in bits(one)]
    return [np.asarray(result).tobytes()]


def measured(case: Case, seconds: float) -> list[str]:
    """A row of the table."""
    module, call = importlib.import_module(f"fastsoftmax.cpu.{case.module}"), CALLS[case.function](case.shape)
    now = getattr(module, case.constant)
    ways = [with_constant(module, case.constant, value, call) for value in (now, case.value)]
    try:
        same = bits(ways[0]()) == bits(ways[1]())
        times = timing.measure({"now": ways[0], "other": ways[1], "again": functools.partial(ways[0])}, seconds=seconds)
    finally:
        with_constant(module, case.constant, now, lambda: None)()
    least, other, again = times["now"].least, times["other"], times["again"]
    return [
        f"`{case.module}.{case.constant}`", _number(now), _number(case.value), case.function,
        "×".join(map(str, case.shape)), f"{least * 1e3:.3g}",
        f"{other.least / least:.2f}", f"{other.median / times['now'].median:.2f}",
        f"{again.least / least:.2f}, {again.median / times['now'].median:.2f}", "same" if same else "others",
    ]  # fmt: skip


def _number(value: int) -> str:
    """A number, as a power of two where it is one."""
    if value == NEVER:
        return "never"
    return f"2^{value.bit_length() - 1}" if value > 1 and value & (value - 1) == 0 else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of constants; none: all of them")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row (default: %(default)s)")
    parser.add_argument("--most", type=int, default=1 << 26, help="elements of logits (default: %(default)s)")
    given = parser.parse_args(arguments)
    cells = ["constant", "now", "other", "call", "shape", "ms now", "other / now: least", "median", "now / now", "bits"]
    print("\n".join([*listed(machine.facts()), "", *head(cells)]))
    for case in CASES:
        if (not given.names or case.constant in given.names) and case.shape[0] * case.shape[-1] <= given.most:
            print(row(measured(case, given.seconds)), flush=True)


if __name__ == "__main__":
    main()

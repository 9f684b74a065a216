"""The benchmark cases: what is computed, what it is compared with, and how the contestants are timed.

The main job shows a few of them; the suite in ``benchmarks/`` of the repository runs them all.  The contestants are
written as users of NumPy and SciPy write them; all of one case are timed in turn, repetition by repetition, so that a
machine that slows down slows them all.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from numpy.typing import NDArray

from . import api

Array = NDArray[Any]
Call = Callable[[], object]

LOSS, SOFTMAX = "loss + gradient", "softmax"
FUNCTIONS = (LOSS, SOFTMAX)
OURS, INTO, NUMPY, SCIPY = "fastsoftmax", "fastsoftmax, out=", "NumPy", "SciPy"

#: Shapes of logits, from a mini-batch of digits to a language model's vocabulary.
SHAPES = ((64, 10), (65536, 10), (65536, 48), (1024, 100), (4096, 1000), (8192, 4096), (512, 32000), (512, 131072))
#: The few that the main job shows.
SHOWN = ((64, 10), (65536, 10), (4096, 1000), (512, 32000))

SHORTEST = 2e-3  # seconds that a repetition lasts at least, so that it is about the call and not about its start
LONG = 1.0  # seconds from which a call is about itself, whatever state it finds caches and threads in
PAUSE = 0.15  # seconds after which the threads of other libraries sleep; until then they take a core from the next
# contestant.  `spinning` finds 107 ms for OpenBLAS after a product, 5 to 10 ms for GNU OpenMP and Numba, on two cores


class Case(NamedTuple):
    """A function on logits of a shape and dtype."""

    function: str
    rows: int
    classes: int
    dtype: str = "float32"

    @property
    def shape(self) -> str:
        """The shape as tables write it."""
        return f"{self.rows}x{self.classes}"

    @property
    def nbytes(self) -> int:
        """The bytes that any implementation must move: the logits once in, the result once out."""
        return 2 * self.rows * self.classes * np.dtype(self.dtype).itemsize


class Timing(NamedTuple):
    """Seconds a call, over the repetitions."""

    least: float
    median: float


Measured = list[tuple[Case, dict[str, Timing]]]


def cases(shapes: Iterable[tuple[int, int]] = SHAPES) -> list[Case]:
    """Both functions on every shape."""
    return [Case(function, *shape) for shape in shapes for function in FUNCTIONS]


def data(case: Case) -> tuple[Array, NDArray[np.int64]]:
    """Logits and targets of a case, the same ones every time."""
    random = np.random.default_rng(0)
    logits = random.standard_normal((case.rows, case.classes), np.float32).astype(case.dtype, copy=False)
    return logits, random.integers(0, case.classes, case.rows)


def numpy_softmax(x: Array) -> Array:
    """Softmax with one temporary."""
    e: Array = x - x.max(axis=1, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(axis=1, keepdims=True)
    return e


def numpy_loss_and_grad(x: Array, target: NDArray[np.int64]) -> tuple[Any, Array]:
    """Mean cross-entropy and its gradient, fused by hand: one exponential a logit serves both."""
    rows = np.arange(len(x))
    e = x - x.max(axis=1, keepdims=True)
    d = e[rows, target]
    np.exp(e, out=e)
    s = e.sum(axis=1, keepdims=True)
    loss = (np.log(s[:, 0]) - d).mean()
    e /= s
    e[rows, target] -= 1
    e /= len(x)
    return loss, e


def scipy_loss_and_grad(x: Array, target: NDArray[np.int64]) -> tuple[Any, Array]:
    """Mean cross-entropy and its gradient by SciPy's functions: a log-softmax for the one, a softmax for the other."""
    rows = np.arange(len(x))
    loss = -scipy.special.log_softmax(x, axis=1)[rows, target].mean()
    grad = scipy.special.softmax(x, axis=1)
    grad[rows, target] -= 1
    return loss, grad / len(x)


def contestants(case: Case) -> dict[str, Call]:
    """The ways to compute a case, by name; those of the same case work on the same arrays."""
    x, target = data(case)
    out = np.zeros_like(x)
    if case.function == SOFTMAX:
        return {
            OURS: lambda: api.softmax(x),
            INTO: lambda: api.softmax(x, out=out),
            NUMPY: lambda: numpy_softmax(x),
            SCIPY: lambda: scipy.special.softmax(x, axis=1),
        }
    return {
        OURS: lambda: api.cross_entropy_and_grad(x, target),
        INTO: lambda: api.cross_entropy_and_grad(x, target, out=out),
        NUMPY: lambda: numpy_loss_and_grad(x, target),
        SCIPY: lambda: scipy_loss_and_grad(x, target),
    }


def spinning(call: Call, wait: float = 0.3, step: float = 2e-3) -> float:
    """Seconds for which threads of this process go on after the end of a call, of `wait` that are watched."""
    call()
    start = time.perf_counter()
    last, busy = 0.0, time.process_time()
    while (now := time.perf_counter() - start) < wait:
        time.sleep(step)
        before, busy = busy, time.process_time()
        if busy - before > step / 2:
            last = now + step
    return last


def settle(call: Call, pause: float, *, warm: bool = True) -> None:
    """Let the threads of what ran before go to sleep, then have caches and allocator as `call` itself leaves them."""
    time.sleep(pause)
    if warm:
        call()


def _seconds(call: Call, times: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def measure(
    calls: dict[str, Call], *, seconds: float, least: int = 3, most: int = 200, pause: float = 0.0
) -> dict[str, Timing]:
    """Time calls in turn, repetition by repetition.

    Parameters
    ----------
    calls : dict of str to callable
        What to time, by name.  Each is called before it is timed, in every repetition; one that takes longer than a
        second, which is about itself from the start, in the beginning only.
    seconds : float
        How long to go on.
    least, most : int
        Bounds on the number of repetitions, whatever the time; calls of more than a second get one more.
    pause : float
        Seconds of rest before each turn; `PAUSE` where libraries with threads of their own are among the calls.

    Returns
    -------
    dict of str to Timing
        The least and the median time of a call, by name.
    """
    first = {}
    for name, call in calls.items():
        settle(call, pause)
        first[name] = _seconds(call, 1)
    times = {name: max(1, int(SHORTEST / max(once, 1e-9))) for name, once in first.items()}
    found = {name: [once] if once >= LONG else [] for name, once in first.items()}
    end = time.perf_counter() + seconds
    names = list(calls)
    for repetition in range(most):
        if repetition >= least and time.perf_counter() >= end:
            break
        for name in names:
            settle(calls[name], pause, warm=first[name] < LONG)
            found[name].append(_seconds(calls[name], times[name]))
        names.append(names.pop(0))  # so that nobody always runs in the caches that the same other has left
    return {name: Timing(min(list_), statistics.median(list_)) for name, list_ in found.items()}


def text(measured: Measured) -> str:
    """A table for people."""
    header = f"  {'':<16} {'logits':>11} {OURS:>12} {NUMPY:>10} {SCIPY:>10}   against {NUMPY:>5} {SCIPY:>6}"
    lines = ["Kernel speed on this machine: float32, milliseconds a call, best of runs in turn", header]
    for case, times in measured:
        ours, numpy, scipy = (times[name].least for name in (OURS, NUMPY, SCIPY))
        lines.append(
            f"  {case.function:<16} {case.shape:>11} {ours * 1e3:>12.3f} {numpy * 1e3:>10.3f} {scipy * 1e3:>10.3f}"
            f"           {numpy / ours:>5.1f}x {scipy / ours:>5.1f}x"
        )
    return "\n".join(lines)

"""The targets of kernels on a GPU, and how far a run reaches them."""

from collections.abc import Callable
from typing import NamedTuple

from ..cases import LAUNCH, LOSS_AND_GRAD, SHAPES, Case
from ..results import COMPILED, OURS, QUACK, QUACK_FUSED, TORCH, Result, Run

HOST_SECONDS = 10e-6  # a call
TIMES = {TORCH: 3.0, COMPILED: 1.5, QUACK: 1.0, QUACK_FUSED: 1.0}
PARTS = {256: 0.8, 4096: 0.9}  # of a copy, from a number of classes on


class Target(NamedTuple):
    """A figure that each of some cases is to reach."""

    text: str
    least: float
    values: list[tuple[float, Case]]
    shown: Callable[[float], str]

    @property
    def met(self) -> int:
        """In how many cases it is."""
        return sum(value >= self.least for value, _ in self.values)


def ratio(result: Result, name: str) -> float | None:
    """A contestant's time, as a multiple of ours."""
    if not {name, OURS} <= set(result.timings):
        return None
    return result.timings[name].median / result.ours.median


def _parts(results: list[Result], classes: int, least: float) -> Target:
    parts = [(part, f.case) for f in results if f.case.shape[1] >= classes and (part := f.fraction(OURS)) is not None]
    return Target(f"{least:.0%} of the copy from {classes} classes on", least, parts, "{:.0%}".format)


def _times(results: list[Result], name: str, least: float) -> Target:
    ratios = [(value, f.case) for f in results if (value := ratio(f, name)) is not None]
    return Target(f"{least:g} times as fast as {name}", least, ratios, "{:.2f}".format)


def targets(run: Run) -> list[Target]:
    """The targets that a run on a GPU has figures of, for loss and gradient with a fresh result."""
    results = [f for f in run.results if (f.case.group, f.case.function) == (SHAPES, LOSS_AND_GRAD)]
    launches = [f for f in run.results if f.case.group == LAUNCH and OURS in f.timings]
    rates = [(1 / f.ours.median, f.case) for f in launches]
    some = [
        *(_parts(results, classes, least) for classes, least in PARTS.items()),
        *(_times(results, name, least) for name, least in TIMES.items()),
        Target(
            f"at most {HOST_SECONDS * 1e6:g} µs of the host's time a call",
            1 / HOST_SECONDS,
            rates,
            lambda rate: f"{1e6 / rate:.1f} µs",
        ),
    ]
    return [target for target in some if target.values]


def sentence(target: Target) -> str:
    """The standing of a run, in words."""
    value, case = min(target.values, key=lambda pair: pair[0])
    where = f"{'x'.join(map(str, case.shape))} {case.dtype}, {case.function}"
    return f"{target.text}: in {target.met} of {len(target.values)} cases; at worst {target.shown(value)} ({where})"

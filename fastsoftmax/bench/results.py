"""The results of a run, in Python and in JSON, and the figures that follow from them."""

import statistics
from typing import Any, NamedTuple

from .cases import Case

FORMAT = 1  # of the JSON

OURS, INTO, IN_PLACE = "fastsoftmax", "fastsoftmax, out=", "fastsoftmax, in place"
#: Ours on what a case is held against: another layout, dtype or option.
CONTIGUOUS, FLOAT32, PLAIN = "fastsoftmax, contiguous", "fastsoftmax, float32", "fastsoftmax, plain"
#: Ours as autograd has it: tensors in, and the gradient by its backward pass.
THROUGH_TORCH, THROUGH_COMPILED = "fastsoftmax.torch", "fastsoftmax.torch, compiled"
#: Ours of a loss: forward of the same logits, or with the gradient of as many bytes as a case writes.
YARDSTICK = "fastsoftmax, a loss"
NUMPY, SCIPY, SKLEARN = "NumPy", "SciPy", "scikit-learn"
TORCH, COMPILED, JAX = "torch", "torch.compile", "JAX"
LIGER, QUACK = "Liger", "QuACK"
QUACK_FUSED = "QuACK, return_dx"  # losses and gradients of the rows in one kernel, without the mean and its factor

#: The names of the ceilings; the first three also with ", one thread".
COPY, UPDATE, SUM = "copy past the caches, GB/s", "update in place, GB/s", "sum, GB/s"
EXP, EXP64 = "exp on one core, 1e9/s", "exp on one core, float64, 1e9/s"
ONE_THREAD = ", one thread"
ZEROED = "zeroing of new arrays by the system, GB/s"  # which whoever allocates a result pays, and nobody with `out=`
GPU_COPY = "copy on the GPU, GB/s"
#: The names of floors.
COPY_FLOOR, UPDATE_FLOOR, SUM_FLOOR, EXP_FLOOR = "copy past the caches", "update in place", "sum", "exponentials"
GPU_FLOOR = "copy on the GPU"
PRODUCTS_FLOOR = "the three products alone"


class Timing(NamedTuple):
    """Seconds a call, over the repetitions."""

    least: float
    median: float
    repetitions: int = 0  # 0: not recorded

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The timing of some repetitions."""
        return cls(min(seconds), statistics.median(seconds), len(seconds))


class Result(NamedTuple):
    """The result of a case."""

    case: Case
    timings: dict[str, Timing]  # of contestants
    skipped: dict[str, str]  # why another contestant has no time
    floor: tuple[str, float] | None = None  # what bounds the case, and the seconds that takes
    floor_in_place: tuple[str, float] | None = None  # the same for what overwrites its input
    others: float | None = None  # cores that other processes and machines took meanwhile, on average; None if unknown

    @property
    def ours(self) -> Timing:
        """The time of this library, which allocates its result as the others do."""
        return self.timings[OURS]

    @property
    def peer(self) -> tuple[str, Timing] | None:
        """The fastest of the others by the median, where there is one."""
        others = [(name, timing) for name, timing in self.timings.items() if not name.startswith(OURS)]
        return min(others, key=lambda other: other[1].median, default=None)

    @property
    def ratio(self) -> float | None:
        """The time of the fastest of the others, as a multiple of ours."""
        if self.peer is None or OURS not in self.timings:
            return None
        return self.peer[1].median / self.ours.median

    def gbps(self, name: str) -> float | None:
        """Necessary gigabytes a second of a contestant; None where there are no bytes, or it has no time."""
        if name not in self.timings or not self.case.nbytes:
            return None
        return self.case.nbytes / self.timings[name].median / 1e9

    def fraction(self, name: str) -> float | None:
        """The floor's share of a contestant's time."""
        floor = self.floor_in_place if name == IN_PLACE else self.floor
        if floor is None or name not in self.timings:
            return None
        return floor[1] / self.timings[name].median


class Run(NamedTuple):
    """A run of the suite."""

    machine: dict[str, str]
    ceilings: dict[str, float]
    results: list[Result]


def as_json(run: Run) -> dict[str, Any]:
    """A run as JSON has it; names and bytes of the cases are there for programs that do not know this one."""
    cases = [
        {
            "name": result.case.name,
            "bytes": result.case.nbytes,
            "case": {**result.case._asdict(), "shape": list(result.case.shape)},
            "timings": {name: timing._asdict() for name, timing in result.timings.items()},
            "skipped": result.skipped,
            "floor": None if result.floor is None else list(result.floor),
            "floor_in_place": None if result.floor_in_place is None else list(result.floor_in_place),
            "others": result.others,
        }
        for result in run.results
    ]
    return {"format": FORMAT, "machine": run.machine, "ceilings": run.ceilings, "cases": cases}


def from_json(text: dict[str, Any]) -> Run:
    """A run out of JSON.

    Raises
    ------
    ValueError
        If the JSON is of another format.
    """
    if text.get("format") != FORMAT:
        raise ValueError(f"expected a run of format {FORMAT}, got format {text.get('format')}; measure again")
    return Run(text["machine"], text["ceilings"], [_result(record) for record in text["cases"]])


def _result(record: dict[str, Any]) -> Result:
    """A case out of JSON."""
    case = Case(**{**record["case"], "shape": tuple(record["case"]["shape"])})
    timings = {name: Timing(**timing) for name, timing in record["timings"].items()}
    floors = _floor(record["floor"]), _floor(record["floor_in_place"])
    return Result(case, timings, record["skipped"], *floors, record.get("others"))


def _floor(pair: list[Any] | None) -> tuple[str, float] | None:
    return None if pair is None else (str(pair[0]), float(pair[1]))

"""Objectives of gradient boosting beside NumPy, and their share of a round: ``python -m benchmarks.boosting``.

NumPy is what the boosters' documentation shows, over whole arrays where XGBoost's goes row by row in Python.  Results
are compared before anything is timed.  A round is one of training on 20 features, and an objective's part of it the
time that passes inside of it.  Needs ``pip install lightgbm xgboost``; prints Markdown.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

import fastsoftmax.boosting
from fastsoftmax.bench import machine, timing

from .files import head, listed, row

Array = NDArray[Any]
Objective = Callable[..., tuple[Array, Array]]

FEATURES = 20
CLASSES = (3, 10)


class Data(NamedTuple):
    """A data set by itself, as objectives see one."""

    labels: Array
    weights: Array | None = None

    def get_label(self) -> Array:
        """The classes, in the dtype that boosters keep them in."""
        return self.labels

    def get_weight(self) -> Array | None:
        """The weights of the rows."""
        return self.weights


def by_numpy(booster: str) -> Objective:
    """The objective of a booster in NumPy and SciPy, for its native interface."""

    def objective(margins: Array, data: Any) -> tuple[Array, Array]:
        rows, classes = margins.shape
        p = softmax(margins, axis=1)
        grad = p.copy()
        grad[np.arange(rows), data.get_label().astype(np.int32)] -= 1.0
        if booster == "lightgbm":
            return grad, classes / (classes - 1.0) * p * (1.0 - p)
        return grad, np.maximum(2.0 * p * (1.0 - p), 1e-16)

    return objective


def ours(booster: str) -> Objective:
    """This library's objective for a booster."""
    made: Objective = getattr(fastsoftmax.boosting, f"{booster}_objective")()
    return made


def margins_of(booster: str, rows: int, classes: int) -> Array:
    """Margins in the dtype and order that a booster has."""
    random = np.random.default_rng(0).standard_normal((rows, classes), dtype=np.float32)
    return np.asfortranarray(random, np.float64) if booster == "lightgbm" else random


def calls(booster: str, rows: int, classes: int, seconds: float) -> list[float]:
    """The least seconds of our call and of NumPy's, whose results are the same."""
    margins = margins_of(booster, rows, classes)
    data = Data(np.random.default_rng(1).integers(0, classes, rows).astype(np.float32))
    made = {"ours": ours(booster), "numpy": by_numpy(booster)}
    for found, expected in zip(made["ours"](margins, data), made["numpy"](margins, data), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    timed: dict[str, timing.Call] = {name: functools.partial(each, margins, data) for name, each in made.items()}
    times = timing.measure(timed, seconds=seconds)
    return [times[name].least for name in made]


def by_lightgbm(x: Array, y: Array, objective: Objective | None, ends: list[float]) -> None:
    """Training by LightGBM, by the built-in objective if none is given; the times at which rounds end."""
    import lightgbm

    data, classes, rounds = lightgbm.Dataset(x, y, params={"verbosity": -1}), int(y.max()) + 1, len(ends)
    parameters = {"num_class": classes, "verbosity": -1, "metric": "None", "objective": objective or "multiclass"}
    ends.clear()
    lightgbm.train(parameters, data, rounds, callbacks=[lambda _: ends.append(time.perf_counter())])


def by_xgboost(x: Array, y: Array, objective: Objective | None, ends: list[float]) -> None:
    """Training by XGBoost, likewise."""
    import xgboost

    class Clock(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            """Go on, after a look at the clock."""
            ends.append(time.perf_counter())
            return False

    data, rounds = xgboost.QuantileDMatrix(x, y), len(ends)
    parameters = {"num_class": int(y.max()) + 1, "objective": "multi:softprob", "base_score": 0.5}
    ends.clear()
    xgboost.train(parameters, data, rounds, obj=objective, callbacks=[Clock()])


def a_round(booster: str, objective: Objective | None, shape: tuple[int, int], rounds: int) -> tuple[float, float]:
    """Seconds of a round of training, and those of them in the objective: the least."""
    random, ends = np.random.default_rng(0), [0.0] * (rounds + 1)
    x, y = random.standard_normal((shape[0], FEATURES)), np.arange(shape[0]) % shape[1]
    inside: list[float] = []

    def timed(margins: Array, data: Any) -> tuple[Array, Array]:
        assert objective is not None
        start = time.perf_counter()
        found = objective(margins, data)
        inside.append(time.perf_counter() - start)
        return found

    train = {"lightgbm": by_lightgbm, "xgboost": by_xgboost}[booster]
    train(x, y, None if objective is None else timed, ends)
    return float(np.diff(ends).min()), min(inside, default=0.0)


def measured(booster: str, rows: int, classes: int, rounds: int, seconds: float) -> list[str]:
    """A row of the table, in milliseconds."""
    one, other = calls(booster, rows, classes, seconds)
    built_in, _ = a_round(booster, None, (rows, classes), rounds)
    trained = [a_round(booster, made, (rows, classes), rounds) for made in (ours(booster), by_numpy(booster))]
    shares = [text for each, part in trained for text in (f"{each * 1e3:.0f}", f"{part / each:.1%}")]
    numbers = [f"{one * 1e3:.2f}", f"{other * 1e3:.1f}", f"{other / one:.1f}", f"{built_in * 1e3:.0f}"]
    return [booster, f"{rows}×{classes}", *numbers, *shares]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="of each case (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of training (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each objective (default: %(default)s)")
    given = parser.parse_args(arguments)
    cells = ["objective", "rows × classes", "ours", "NumPy", "× NumPy"]
    cells += ["round, built in", "with ours", "of it ours", "with NumPy", "of it NumPy"]
    print("\n".join([*listed(machine.facts("lightgbm", "xgboost")), "", *head(cells)]))
    for booster in ("lightgbm", "xgboost"):
        for classes in CLASSES:
            print(row(measured(booster, given.rows, classes, given.rounds, given.seconds)), flush=True)


if __name__ == "__main__":
    main()

"""Stochastic gradient descent by epochs of mini-batches, and the rules by which it ends."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import coordinates
from .moments import moments_of
from .nesterov import Diverged, Schedule, Stepper, batch_scale, batches
from .objective import Data, Loss
from .solvers import Report, Solution, Step, lost

Array = NDArray[Any]

PATIENCE = 5  # epochs without progress
SLOWER = 5.0  # divisor of the step size then
SLOWEST = 100.0  # and of the first step size at last
PROBES = 4  # batches whose curvature is measured
WORSE = 2.0  # times the objective without features: descent that ends above has diverged


class Descent:
    """Epochs of descent, and the rules by which they end."""

    def __init__(
        self, data: Data, loss: Loss, theta: Array, schedule: Schedule, held_out: Array | None, random: Any
    ) -> None:
        self.data, self.schedule, self.random, self.held_out = data, schedule, random, held_out
        rows = np.arange(len(data.target))
        self.rows = rows if held_out is None else np.delete(rows, held_out)
        self.whole = held_out is None and len(rows) <= schedule.batch_size
        self.mean_weight = 1.0 if data.weight is None else float(data.weight[self.rows].mean())
        self.moments = moments_of(data)
        self.start = coordinates.folded(theta, self.moments, loss)
        self.stepper = Stepper(loss, self.start, self.moments, schedule.momentum, None)
        self.rate = self.first_rate = schedule.rate or self._rate_by_curvature()
        self.losses: list[float] = []
        self.validation: list[float] = []
        self.best, self.best_theta, self.since = np.inf, self.start, 0

    def batches(self) -> Iterator[tuple[Data, float]]:
        """The batches of an epoch, in random order, each with the factor that makes its objective unbiased."""
        rows = None if self.held_out is None else self.rows
        for batch in batches(self.data, self.schedule.batch_size, self.random, rows):
            yield batch, batch_scale(batch, self.mean_weight)

    def _rate_by_curvature(self) -> float:
        probes = islice(self.batches(), PROBES)
        steepest = max((self.stepper.curvature(*probe) for probe in probes if probe[0].total()), default=0.0)
        return 1 / steepest if steepest else 1.0

    def epoch(self) -> tuple[float, float]:
        """One pass over the rows; the mean objective on the way, and the last batch's largest gradient element."""
        total, largest = 0.0, 0.0
        for batch, scale in self.batches():
            if not batch.total():
                continue
            value, grad = self.stepper.step(batch, self.rate, scale)
            total += value * len(batch.target)
            largest = self.stepper.standard.largest(grad)
        value = total / len(self.rows)
        if not (np.isfinite(value) and np.isfinite(self.stepper.theta).all()):
            symptom = f"its objective is {value:g} in epoch {len(self.losses) + 1}"
            raise Diverged(self.schedule, symptom, warm=bool(self.start.any()))
        if self.whole and self.losses and value > self.losses[-1]:
            # Momentum that leads uphill is dropped (O'Donoghue and Candès, 2015).
            self.stepper.velocity = np.zeros_like(self.stepper.velocity)
        self.losses.append(value)
        return value, largest

    def validate(self) -> float:
        """The mean loss of the rows held out, some at a time."""
        assert self.held_out is not None
        plain = self.stepper.loss._replace(penalty=0.0)
        total = weight = 0.0
        for start in range(0, len(self.held_out), self.schedule.batch_size):
            rows = self.data.rows(self.held_out[start : start + self.schedule.batch_size])
            if share := rows.total():
                total += share * plain(rows, self.stepper.theta)[0]
                weight += share
        return total / weight if weight else np.inf

    def solution(self, *, converged: bool) -> Solution:
        """The solution, unless it is far worse than a model without features; one that is worse has not converged."""
        theta = self.stepper.theta if self.held_out is None else self.best_theta
        naive = float(np.log(self.stepper.loss.classes))
        if self.start.any():
            naive = max(naive, self._objective(self.start))
        value = self._objective(theta)
        if not value <= WORSE * naive:
            symptom = f"its objective is {value:g} in the end, where it was {naive:g} at most before"
            raise Diverged(self.schedule, symptom)
        rounding = lost(self.data, self.stepper.loss, theta, self.moments)
        return Solution(theta, converged and value <= naive, self.losses, rounding)

    def _objective(self, theta: Array) -> float:
        return self.stepper.loss(self.data, theta)[0]

    def settled(self, tol: float, largest: float) -> bool:
        """Whether the epoch just finished was the last that is needed; slows down where epochs have no effect."""
        if self.whole:
            return largest <= tol
        score = self.losses[-1]
        if self.held_out is not None:
            score = self.validate()
            self.validation.append(score)
        self.since = 0 if score < self.best - tol else self.since + 1
        if score < self.best:
            self.best, self.best_theta = score, self.stepper.theta
        if self.since < PATIENCE:
            return False
        self.since = 0
        self.rate /= SLOWER
        return self.held_out is not None or self.rate < self.first_rate / SLOWEST


def descend(
    data: Data,
    loss: Loss,
    theta: Array,
    *,
    schedule: Schedule,
    tol: float,
    max_iter: int,
    held_out: Array | None,
    random: Any,
    report: Report,
) -> tuple[Solution, list[float]]:
    """Minimise the objective by epochs of mini-batches: the solution, and the losses of the rows held out by epochs.

    Where one batch holds all rows, a step is an epoch and the end is a gradient no element of which exceeds `tol`.
    Otherwise the step size is divided by 5 when the objective has not improved by `tol` in 5 epochs, and the end is the
    third such time; with rows held out it is the first time that their loss has not, and θ is the best one so far.

    Raises
    ------
    Diverged
        If the objective is not finite, or twice what it was before.
    """
    descent = Descent(data, loss, theta, schedule, held_out, random)
    converged = False
    for epoch in range(1, max_iter + 1):
        value, largest = descent.epoch()
        converged = descent.settled(tol, largest)
        if report(Step(epoch, value, largest, descent.stepper.theta)) or converged:
            break
    return descent.solution(converged=converged), descent.validation

"""Stochastic gradient descent with Nesterov momentum, whose step size needs no tuning.

Steps are taken in coordinates in which the features have mean 0 and variance 1 (`coordinates`), so that one
step size suits all of them.  There the Hessian of a batch's loss is at most half the largest eigenvalue of the batch's
second moments (Böhning, 1992), which a power iteration finds; the step size is its inverse.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import coordinates
from .moments import Moments, moments
from .objective import Data, Loss
from .solvers import Report, Solution, Step, lost

Array = NDArray[Any]

PATIENCE = 5  # epochs without progress
SLOWER = 5.0  # what the step size is divided by then
SLOWEST = 100.0  # and how small it may get
POWERS = 16  # steps of the power iteration
MARGIN = 1.5  # by which an eigenvalue may be larger than found, or in a later batch
PROBES = 4  # batches whose curvature is measured
ABSURD = 1e8  # logit of a row one deviation from the mean
WORSE = 2.0  # times the objective without features: descent that ends above has diverged


class Schedule(NamedTuple):
    """How steps are taken."""

    batch_size: int
    rate: float | None  # None: by the curvature
    momentum: float


class State(NamedTuple):
    """The state of an online learner besides its coefficients."""

    rows: int  # seen so far
    moments: Moments | None  # of their features
    velocity: Array | None  # (R, d + 1)
    weight: float  # of all rows


class Diverged(ValueError):
    """Descent that leads away from the optimum."""

    def __init__(self, schedule: Schedule, symptom: str, warm: bool = False) -> None:
        auto = schedule.rate is None
        mend = "scale the features" if auto else f"lower learning_rate={schedule.rate:g}, or set 'auto'"
        mend = f"set warm_start=False, or {mend}" if warm else mend
        super().__init__(f"the descent diverged: {symptom}; {mend}")


class Stepper:
    """Nesterov's steps from θ."""

    def __init__(self, loss: Loss, theta: Array, of: Moments, momentum: float, velocity: Array | None) -> None:
        self.of, self.standard = of, coordinates.standard(of, loss)
        self.factor = coordinates.scales(of, loss, 1.0)
        self.white = self.standard._replace(factor=self.factor[None])
        if not coordinates.fits_float32(self.white):
            loss = loss._replace(dtype=np.float64)
        self.loss, self.theta, self.momentum = loss, theta, momentum
        self.velocity = np.zeros_like(theta) if velocity is None else velocity

    def reach(self) -> float:
        """The size of logits of a row one deviation from the mean, and of their next change."""
        found = np.concatenate([self.theta, self.velocity])
        middle = found[:, :-1] @ self.of.mean + found[:, -1]
        return float((np.abs(middle) + np.abs(found[:, :-1]) @ self.of.deviation).max())

    def curvature(self, batch: Data, scale: float) -> float:
        """The largest second derivative that the batch's loss can have."""
        share = np.full(len(batch.labels), 1.0) if batch.weight is None else batch.weight / batch.weight.mean()
        share = share * (scale / len(share))
        v = np.random.default_rng(0).standard_normal((1, self.theta.shape[1]))
        largest = 0.0
        for _ in range(POWERS):
            norm = float(np.linalg.norm(v))
            if not norm:
                break
            step = self.white.step(v / norm)
            z = batch.x @ step[0, :-1].astype(self.loss.dtype) + step[0, -1]
            z = z * share
            grad = np.append(batch.x.T @ z.astype(self.loss.dtype), z.sum())[None].astype(np.float64)
            v = self.white.gradient(grad)
            largest = float(np.linalg.norm(v))
        shrink = float(np.square(self.loss.penalty**0.5 * self.factor).max(initial=0.0))
        bound = 0.25 if self.loss.rows == 1 else 0.5  # of the largest eigenvalue of diag(p) - p pᵀ, here of p (1 - p)
        return MARGIN * bound * largest + shrink

    def step(self, batch: Data, rate: float, scale: float = 1.0) -> tuple[float, Array]:
        """One step; the objective and its gradient where they were taken, at θ moved on by the momentum."""
        ahead = self.theta + self.momentum * self.velocity
        value, grad = self.loss(batch, ahead, scale)
        self.velocity = self.momentum * self.velocity - rate * self.white.step(self.white.gradient(grad))
        self.theta = self.theta + self.velocity
        return value, grad


def _batches(count: int, size: int, random: np.random.RandomState) -> Iterator[Array]:
    """Positions of rows, shuffled, in batches of nearly equal length; in a batch they ascend, as a file is read."""
    for batch in np.array_split(random.permutation(count), -(-count // size)):
        yield np.sort(batch)


def _scale(batch: Data, mean_weight: float) -> float:
    """The factor of a batch's weighted mean, whose mean over batches is that over all rows."""
    return (1.0 if batch.weight is None else float(batch.weight.mean())) / mean_weight


class Descent:
    """Epochs of descent, and the rules by which they end."""

    def __init__(
        self, data: Data, loss: Loss, theta: Array, schedule: Schedule, held_out: Array | None, random: Any
    ) -> None:
        self.data, self.schedule, self.random, self.held_out = data, schedule, random, held_out
        rows = np.arange(len(data.labels))
        self.rows = rows if held_out is None else np.delete(rows, held_out)
        self.whole = held_out is None and len(rows) <= schedule.batch_size
        self.mean_weight = self._weight(self.rows)
        self.moments = moments(data)
        self.start = coordinates.folded(theta, self.moments, loss)
        self.stepper = Stepper(loss, self.start, self.moments, schedule.momentum, None)
        self.rate = self.first_rate = schedule.rate or self._auto()
        self.losses: list[float] = []
        self.validation: list[float] = []
        self.best, self.best_theta, self.since = np.inf, self.start, 0

    def _weight(self, rows: Array) -> float:
        return 1.0 if self.data.weight is None else float(self.data.weight[rows].mean())

    def _draw(self) -> Iterator[Data]:
        if self.whole:
            yield self.data
            return
        for index in _batches(len(self.rows), self.schedule.batch_size, self.random):
            yield self.data.rows(self.rows[index])

    def _auto(self) -> float:
        found = 0.0
        for batch, _ in zip(self._draw(), range(PROBES), strict=False):
            if batch.total():
                found = max(found, self.stepper.curvature(batch, _scale(batch, self.mean_weight)))
        return 1 / found if found else 1.0

    def epoch(self) -> tuple[float, float]:
        """One pass over the rows; the mean objective on the way, and the last batch's largest gradient element."""
        total, largest = 0.0, 0.0
        for batch in self._draw():
            if not batch.total():
                continue
            value, grad = self.stepper.step(batch, self.rate, _scale(batch, self.mean_weight))
            total += value * len(batch.labels)
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

    def found(self, *, converged: bool) -> Solution:
        """The solution, unless it is far worse than a model without features; one that is worse has not converged."""
        theta = self.stepper.theta if self.held_out is None else self.best_theta
        naive = float(np.log(self.stepper.loss.classes))
        if self.start.any():
            naive = max(naive, self._objective(self.start))
        value = self._objective(theta)
        if not value <= WORSE * naive:
            raise Diverged(
                self.schedule, f"its objective is {value:g} in the end, where it was {naive:g} at most before"
            )
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
    """Minimise the objective by epochs of mini-batches.

    Where one batch holds all rows, a step is an epoch and the end is a gradient no element of which exceeds `tol`.
    Otherwise the step size is divided by 5 when the objective has not improved by `tol` in 5 epochs, and the end is the
    third such time; with rows held out it is the first time that their loss has not, and θ is the best one seen.

    Parameters
    ----------
    data : Data
        Rows, labels and weights.
    loss : Loss
        The objective.
    theta : ndarray, shape (R, d + 1)
        Where to start, float64.
    schedule : Schedule
        How steps are taken.
    tol : float
        See above.
    max_iter : int
        Epochs, at most.
    held_out : ndarray of int, optional
        Positions of rows that are not learned from.
    random : numpy.random.RandomState
        Draws batches.
    report : callable
        Called with the `Step` of each epoch; True stops.

    Returns
    -------
    tuple of Solution and list of float
        θ and the objective by epochs, and the loss of the rows held out by epochs.

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
    return descent.found(converged=converged), descent.validation


def learn(
    data: Data, loss: Loss, theta: Array, state: State, schedule: Schedule, random: Any
) -> tuple[Array, float, State]:
    """One pass of online learning over some rows.

    Parameters
    ----------
    data : Data
        The rows.
    loss : Loss
        The objective.
    theta : ndarray, shape (R, d + 1)
        What was learned so far.
    state : State
        What else is remembered.
    schedule : Schedule
        How steps are taken; by the curvature of each batch where it has no rate.
    random : numpy.random.RandomState
        Shuffles rows that are more than one batch.

    Returns
    -------
    tuple
        θ, the mean loss of the rows when they came, and the state.
    """
    weight = state.weight + data.total()
    rows = state.rows + len(data.labels)
    new = moments(data)
    of = new if state.moments is None else state.moments.merge(new)
    stepper = Stepper(loss, theta, of, schedule.momentum, state.velocity)
    whole = len(data.labels) <= schedule.batch_size
    order = [slice(None)] if whole else _batches(len(data.labels), schedule.batch_size, random)
    total = 0.0
    for index in order:
        batch = data if whole else data.rows(index)
        if not batch.total():
            continue
        scale = _scale(batch, weight / rows / data.unit)
        rate = schedule.rate or 1 / (stepper.curvature(batch, scale) or 1.0)
        total += stepper.step(batch, rate, scale)[0] * len(batch.labels)
    value, reach = total / len(data.labels), stepper.reach()
    if not (np.isfinite(value) and reach <= ABSURD):
        raise Diverged(schedule, f"the mean loss of these rows was {value:g}, and logits reach {reach:g} now")
    return stepper.theta, value, State(rows, of, stepper.velocity, weight)

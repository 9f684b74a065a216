"""Steps of stochastic gradient descent with Nesterov momentum, whose size needs no tuning.

They are taken in coordinates in which the features have mean 0 and variance 1 (`coordinates`), so that one step size
suits all of them.  There the Hessian of a batch's loss is at most half the largest eigenvalue of the batch's second
moments (Böhning, 1992), which a power iteration finds; the step size is its inverse.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import coordinates
from .moments import Moments
from .objective import Data, Loss

Array = NDArray[Any]

POWERS = 16  # steps of the power iteration
MARGIN = 1.5  # by which an eigenvalue may be larger than the iteration says, or in a later batch


class Schedule(NamedTuple):
    """Size, number of rows and momentum of the steps."""

    batch_size: int
    rate: float | None  # None: by the curvature
    momentum: float


class Diverged(ValueError):
    """Descent that leads away from the optimum."""

    def __init__(self, schedule: Schedule, symptom: str, warm: bool = False) -> None:
        auto = schedule.rate is None
        mend = "scale the features" if auto else f"lower learning_rate={schedule.rate:g}, or set 'auto'"
        mend = f"set warm_start=False, or {mend}" if warm else mend
        super().__init__(f"the descent diverged: {symptom}; {mend}")


class Stepper:
    """Nesterov's steps from θ."""

    def __init__(self, loss: Loss, theta: Array, moments: Moments, momentum: float, velocity: Array | None) -> None:
        self.moments, self.standard = moments, coordinates.standard(moments, loss)
        self.factor = coordinates.scales(moments, loss, 1.0)
        self.whitening = self.standard._replace(factor=self.factor[None])
        if not coordinates.fits_float32(self.whitening):
            loss = loss._replace(dtype=np.float64)
        self.loss, self.theta, self.momentum = loss, theta, momentum
        self.velocity = np.zeros_like(theta) if velocity is None else velocity

    def reach(self) -> float:
        """The size of logits of a row one deviation from the mean, and of their next change."""
        theta = np.concatenate([self.theta, self.velocity])
        middle = theta[:, :-1] @ self.moments.mean + theta[:, -1]
        return float((np.abs(middle) + np.abs(theta[:, :-1]) @ self.moments.deviation).max())

    def curvature(self, batch: Data, scale: float) -> float:
        """The largest second derivative that the batch's loss can have."""
        share = np.full(len(batch.target), 1.0) if batch.weight is None else batch.weight / batch.weight.mean()
        share = share * (scale / len(share))
        v = np.random.default_rng(0).standard_normal((1, self.theta.shape[1]))
        largest = 0.0
        for _ in range(POWERS):
            norm = float(np.linalg.norm(v))
            if not norm:
                break
            step = self.whitening.step(v / norm)
            z = batch.x @ step[0, :-1].astype(self.loss.dtype) + step[0, -1]
            z = z * share
            grad = np.append(batch.x.T @ z.astype(self.loss.dtype), z.sum())[None].astype(np.float64)
            v = self.whitening.gradient(grad)
            largest = float(np.linalg.norm(v))
        shrink = float(np.square(self.loss.penalty**0.5 * self.factor).max(initial=0.0))
        bound = 0.25 if self.loss.rows == 1 else 0.5  # of the largest eigenvalue of diag(p) - p pᵀ, here of p (1 - p)
        return MARGIN * bound * largest + shrink

    def step(self, batch: Data, rate: float, scale: float = 1.0) -> tuple[float, Array]:
        """One step; the objective and its gradient where they were taken, at θ moved on by the momentum."""
        ahead = self.theta + self.momentum * self.velocity
        value, grad = self.loss(batch, ahead, scale)
        self.velocity = self.momentum * self.velocity - rate * self.whitening.step(self.whitening.gradient(grad))
        self.theta = self.theta + self.velocity
        return value, grad


def batches(data: Data, size: int, random: np.random.RandomState, rows: Array | None = None) -> Iterator[Data]:
    """Batches of nearly equal length of all rows, or of those at some positions, shuffled.

    In a batch rows ascend, as a file is read.  Data that is one batch is not copied.
    """
    count = len(data.target) if rows is None else len(rows)
    if rows is None and count <= size:
        yield data
        return
    for shuffled in np.array_split(random.permutation(count), -(-count // size)):
        index = np.sort(shuffled)
        yield data.rows(index if rows is None else rows[index])


def batch_scale(batch: Data, mean_weight: float) -> float:
    """The factor of a batch's weighted mean, whose mean over batches is that over all rows."""
    return (1.0 if batch.weight is None else float(batch.weight.mean())) / mean_weight

"""Online learning: one pass of steps by mini-batches over rows as they come."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import Moments, moments_of
from .nesterov import Diverged, Schedule, Stepper, batch_scale, batches
from .objective import Data, Loss

Array = NDArray[Any]

ABSURD = 1e8  # logit of a row one deviation from the mean


class State(NamedTuple):
    """The state of an online learner besides its coefficients."""

    rows: int = 0  # so far
    moments: Moments | None = None  # of their features
    velocity: Array | None = None  # (R, d + 1)
    weight: float = 0.0  # of all rows


def learn(
    data: Data, loss: Loss, theta: Array, state: State, schedule: Schedule, random: Any
) -> tuple[Array, float, State]:
    """One pass of online learning over some rows: θ, their mean loss as they came, and the state after them.

    Without a rate in the schedule, the curvature of each batch gives one; `random` shuffles more rows than one batch.
    """
    weight = state.weight + data.total()
    rows = state.rows + len(data.target)
    moments = moments_of(data)
    if state.moments is not None:
        moments = state.moments.merge(moments)
    stepper = Stepper(loss, theta, moments, schedule.momentum, state.velocity)
    total = 0.0
    for batch in batches(data, schedule.batch_size, random):
        if not batch.total():
            continue
        scale = batch_scale(batch, weight / rows / data.unit)
        rate = schedule.rate or 1 / (stepper.curvature(batch, scale) or 1.0)
        total += stepper.step(batch, rate, scale)[0] * len(batch.target)
    value, reach = total / len(data.target), stepper.reach()
    if not (np.isfinite(value) and reach <= ABSURD):
        raise Diverged(schedule, f"the mean loss of these rows was {value:g}, and logits reach {reach:g} now")
    return stepper.theta, value, State(rows, moments, stepper.velocity, weight)

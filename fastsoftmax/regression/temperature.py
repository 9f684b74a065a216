"""The temperature of a fitted model: the number to divide its logits by, for the smallest loss of some rows."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .objective import Data, Loss

Array = NDArray[Any]

LEAST, MOST = math.exp(-10), math.exp(10)  # of 1 / T
PRECISION = 1e-9  # of 1 / T, relative
STEPS = 100  # four to eight, or 35 where each halves the range of 1 / T


class Found(NamedTuple):
    """A temperature, and what is to be warned of."""

    temperature: float
    trouble: str


def best(data: Data, classes: Array, theta: Array) -> Found:
    """The temperature with the smallest mean cross-entropy of some rows.

    Newton's method for β = 1 / T, in which the loss f of the logits β z is convex: θ is a direction of its own, so
    f'(β) = ⟨∇(β θ), θ⟩ and f''(β) = ⟨H(β θ) θ, θ⟩.  A step that leaves the bracket of the root, or is more than half as
    long as the one before, halves the bracket instead: where f falls exponentially, Newton's steps are all as long.
    """
    loss = Loss(len(classes), penalty=0.0, label_smoothing=0.0, intercept=True, dtype=np.float64)
    low, high, beta, step = LEAST, MOST, 1.0, math.inf
    for _ in range(STEPS):
        slope = np.vdot(loss(data, beta * theta)[1], theta)
        curvature = np.vdot(loss.hessian_product(data, beta * theta, theta), theta)
        if slope == 0:  # the minimum, or where the loss is flat: all of it if θ is 0, or its end
            flat = curvature == 0 and theta.any()
            return Found(float(1 / beta), _trouble(beta) if flat else "")
        low, high = (low, beta) if slope > 0 else (beta, high)
        following = beta - slope / curvature if curvature > 0 else math.inf
        if not low < following < high or abs(following - beta) > abs(step) / 2:
            following = math.sqrt(low * high)
        beta, step = following, following - beta
        if abs(step) <= PRECISION * beta:
            break
    return Found(float(1 / beta), "" if LEAST * 1.01 < beta < MOST / 1.01 else _trouble(beta))


def _trouble(beta: float) -> str:
    why = "every row is predicted right" if beta > 1 else "predictions are no better than chance"
    return (
        f"fit_temperature has found no best temperature and kept {1 / beta:.3g}, as {why}; pass more rows, which the "
        "model was not fitted to"
    )

"""Warnings of a fit that has not converged, of coefficients that are too coarse, and of online learning that strays."""

import math
from typing import Any

from .solvers import Solution

LOST = 1e-3  # of the objective, by coefficients in the dtype of X: more than what tol leaves
ABSURD = 100.0  # times the loss of a model without features: descent that may have diverged


def trouble(model: Any, solution: Solution, dtype: Any) -> str:
    """Words for a warning, if a solution needs one."""
    if solution.lost > LOST:
        return (
            f"coefficients in {dtype}, the dtype of X, are too coarse: the objective is {solution.lost:.3g} larger "
            "with them, as features nearly repeat one another or lie far from 0; pass X as float64, or a lower C"
        )
    if solution.converged:
        return ""
    if (iterations := len(solution.losses)) >= model.max_iter:
        return (
            f"{model.solver} did not converge in max_iter={model.max_iter} iterations (tol={model.tol:g}); "
            "raise max_iter or tol, or scale the features"
        )
    return (
        f"{model.solver} did not converge: after {iterations} iterations no step was found that decreases the "
        f"objective, though by its gradient one should (tol={model.tol:g}); scale and centre the features"
        + (", or lower learning_rate" if model.solver == "sgd" else "")
    )


def strayed(model: Any, value: float, classes: int) -> str:
    """Words for a warning, if rows that were learned online had a mean loss that tells of divergence."""
    naive = math.log(classes)
    if value <= ABSURD * naive:
        return ""
    return (
        f"the mean loss of these rows was {value:g} when they came, where a model without features has {naive:.3g}; "
        f"lower learning_rate={model.learning_rate!r}, or scale the features"
    )

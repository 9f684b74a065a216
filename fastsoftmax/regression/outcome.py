"""The outcome of a fit: the coefficients of a model, and what is to be warned of."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .solvers import Solution

Array = NDArray[Any]

LOST = 1e-3  # of the objective, by coefficients in the dtype of X: more than what tol leaves
ABSURD = 100.0  # times the loss of a model without features: descent that may have diverged


def coefficients(theta: Array, dtype: Any) -> dict[str, Array]:
    """The attributes that hold θ in the dtype of X."""
    found = {"coef_": theta[:, :-1].astype(dtype), "intercept_": theta[:, -1].astype(dtype)}
    if not all(np.isfinite(array).all() for array in found.values()):
        at = int(np.abs(theta[:, :-1]).max(axis=0).argmax())
        raise ValueError(
            f"X must have units in which {np.dtype(dtype)} holds its coefficients, got {np.abs(theta).max():g}, the "
            f"largest in column {at}; multiply columns that vary little, or pass float64"
        )
    return found


def theta(model: Any, shape: tuple[int, int]) -> Array:
    """θ of the coefficients that a model has, which may have been set by hand."""
    if missing := [name for name in ("coef_", "intercept_") if not hasattr(model, name)]:
        raise ValueError(f"a model to go on from must have {' and '.join(missing)}; set them beside classes_, or fit")
    coef, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if coef.shape != shape or intercept.shape != shape[:1]:
        raise ValueError(
            f"a model to go on from must have coef_ of shape {shape} and intercept_ of shape {shape[:1]} for these "
            f"classes and features, got {coef.shape} and {intercept.shape}"
        )
    found = np.concatenate([coef, intercept[:, None]], axis=1).astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError("a model to go on from must have finite coef_ and intercept_; fit it anew")
    return found


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

"""Coefficients of a model: attributes of the estimator, and θ of shape (R, d + 1), as solvers have them."""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Array = NDArray[Any]


def rows(classes: Array) -> int:
    """R: a row of coefficients for two classes, or one a class."""
    return 1 if len(classes) == 2 else len(classes)


def zeros(classes: Array, features: int) -> Array:
    """θ of a model that knows nothing."""
    return np.zeros((rows(classes), features + 1))


def dense(model: Any) -> Array:
    """The coefficients of a model, which may have been made sparse."""
    return model.coef_.toarray() if scipy.sparse.issparse(model.coef_) else np.asarray(model.coef_)


def attributes(theta: Array, dtype: Any) -> dict[str, Array]:
    """The attributes that hold θ in the dtype of X."""
    arrays = {"coef_": theta[:, :-1].astype(dtype), "intercept_": theta[:, -1].astype(dtype)}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        at = int(np.abs(theta[:, :-1]).max(axis=0).argmax())
        raise ValueError(
            f"X must have units in which {np.dtype(dtype)} holds its coefficients, got {np.abs(theta).max():g}, the "
            f"largest in column {at}; multiply columns that vary little, or pass float64"
        )
    return arrays


def theta_of(model: Any, classes: Array, features: int) -> Array:
    """θ of the coefficients that a model has, which may have been set by hand."""
    if missing := [name for name in ("coef_", "intercept_") if not hasattr(model, name)]:
        raise ValueError(f"a model to go on from must have {' and '.join(missing)}; set them beside classes_, or fit")
    coef, intercept, shape = dense(model), np.asarray(model.intercept_), (rows(classes), features)
    if coef.shape != shape or intercept.shape != shape[:1]:
        raise ValueError(
            f"a model to go on from must have coef_ of shape {shape} and intercept_ of shape {shape[:1]} for these "
            f"classes and features, got {coef.shape} and {intercept.shape}"
        )
    theta = np.concatenate([coef, intercept[:, None]], axis=1).astype(np.float64)
    if not np.isfinite(theta).all():
        raise ValueError("a model to go on from must have finite coef_ and intercept_; fit it anew")
    return theta


def start(model: Any, classes: Array, features: int) -> Array:
    """θ to begin a fit with: zeros, or with ``warm_start`` that of the last fit."""
    if not model.warm_start or not hasattr(model, "coef_"):
        return zeros(classes, features)
    try:
        theta = theta_of(model, classes, features)
    except ValueError as error:
        raise ValueError(f"warm_start needs coefficients that fit: {error}; or set warm_start=False") from None
    if not model.fit_intercept:
        theta[:, -1] = 0
    return theta


def layers(model: Any) -> tuple[Array, Array]:
    """Weight (K, d) and bias (K,) of the linear functions: of two classes the first has the logit 0."""
    coef, intercept = dense(model), np.asarray(model.intercept_)
    if len(model.classes_) > 2:
        return coef, intercept
    weight, bias = (np.concatenate([np.zeros_like(a), a]) for a in (coef, intercept))
    return weight, bias

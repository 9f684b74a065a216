"""Features, labels and classes that the estimator's methods are given: checked, and converted by scikit-learn."""

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..core.compressed import sound
from ..core.devices import in_main_memory

Array = NDArray[Any]

_COPY = "pass a copy of {0} in main memory"


def _dtype(X: Any) -> Any:
    """The dtypes that scikit-learn may convert X to: float32 of half precision, else what is float32 or float64."""
    return np.float32 if getattr(X, "dtype", None) == np.float16 else [np.float64, np.float32]


def examples(
    model: Any, X: Any, y: Any, *, reset: bool = True, by_rows: bool = False
) -> tuple[Any, Array, dict[str, Any]]:
    """X, y, and the attributes that scikit-learn keeps of them."""
    in_main_memory("SoftmaxRegression", _COPY, X=X, y=y)
    X = sound(X, "X")
    sparse = ("csr",) if by_rows or model.solver == "sgd" else ("csr", "csc")
    scratch = copy.copy(model)  # it sets them at once, whatever is refused later
    x, y = validate_data(scratch, X, y, reset=reset, accept_sparse=sparse, dtype=_dtype(X))
    check_classification_targets(y)
    names = ("n_features_in_", "feature_names_in_")
    return x, y, {name: vars(scratch)[name] for name in names if name in vars(scratch)}


def fitted(model: Any) -> None:
    """Refuse a model that has not been fitted."""
    check_is_fitted(model, ["classes_", "coef_", "intercept_"])


def features(model: Any, X: Any) -> Any:
    """X for a fitted model to predict from."""
    fitted(model)
    in_main_memory("SoftmaxRegression", _COPY, X=X)
    return validate_data(model, sound(X, "X"), reset=False, accept_sparse=("csr", "csc"), dtype=_dtype(X))


def online_classes(model: Any, classes: ArrayLike | None, *, first: bool) -> Array:
    """The labels that `partial_fit` is to tell apart."""
    if classes is None:
        if first:
            raise ValueError("classes must be passed on the first call to partial_fit: all labels there will be")
        known: Array = model.classes_
        return known
    labels = np.unique(np.asarray(classes))
    if not first and not np.array_equal(labels, model.classes_):
        raise ValueError(f"classes must be those of the first call, {model.classes_.tolist()}, got {labels.tolist()}")
    if len(labels) < 2:
        raise ValueError(f"classes must hold at least two labels, got {labels.tolist()}")
    return labels


def indices(y: Array, classes: Array) -> Array:
    """The positions of labels among the classes."""
    positions = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if (unknown := classes[positions] != y).any():
        raise ValueError(f"y must hold labels out of classes={classes.tolist()}, got {np.unique(y[unknown]).tolist()}")
    return positions

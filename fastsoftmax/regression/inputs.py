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

APART = 1e-3  # from 1, that sums of probabilities may be, as those of float16 are

_COPY = "pass a copy of {0} in main memory"


def _dtype(X: Any) -> Any:
    """The dtypes that scikit-learn may convert X to: float32 of half precision, else what is float32 or float64."""
    return np.float32 if getattr(X, "dtype", None) == np.float16 else [np.float64, np.float32]


def examples(
    model: Any, X: Any, y: Any, *, reset: bool = True, by_rows: bool = False
) -> tuple[Any, Array, dict[str, Any]]:
    """X, y of labels (n,) or of probabilities (n, K), and the attributes that scikit-learn keeps of them."""
    in_main_memory("SoftmaxRegression", _COPY, X=X, y=y)
    X = sound(X, "X")
    sparse = ("csr",) if by_rows or model.solver == "sgd" else ("csr", "csc")
    scratch = copy.copy(model)  # it sets them at once, whatever is refused later
    soft = _holds_probabilities(y)
    x, y = validate_data(scratch, X, y, reset=reset, accept_sparse=sparse, dtype=_dtype(X), multi_output=soft)
    if soft:
        _check_probabilities(y)
    else:
        check_classification_targets(y)
    names = ("n_features_in_", "feature_names_in_")
    return x, y, {name: vars(scratch)[name] for name in names if name in vars(scratch)}


def _holds_probabilities(y: Any) -> bool:
    """Whether y has columns of floats."""
    try:
        array = np.asarray(y)
    except ValueError:  # rows of different lengths, which scikit-learn refuses
        return False
    return array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"


def _check_probabilities(y: Array) -> None:
    apart = np.abs(y.sum(axis=1, dtype=np.float64) - 1) > APART
    for wrong, what in ((y.min(axis=1) < 0, "at least 0"), (apart, "that add up to 1")):
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"y of shape {y.shape} must hold probabilities {what} in each row, got {y[at].tolist()} in row {at}; "
                "divide rows by their sums, or pass labels of shape (n,)"
            )


def fitted(model: Any) -> None:
    """Refuse a model that has not been fitted."""
    check_is_fitted(model, ["classes_", "coef_", "intercept_"])


def features(model: Any, X: Any) -> Any:
    """X for a fitted model to predict from."""
    fitted(model)
    in_main_memory("SoftmaxRegression", _COPY, X=X)
    return validate_data(model, sound(X, "X"), reset=False, accept_sparse=("csr", "csc"), dtype=_dtype(X))


def _known(y: Array, classes: ArrayLike | None) -> tuple[Array, Array]:
    """Labels in ascending order, and where they are among the classes given, as among the columns of y (by default)."""
    given = np.arange(y.shape[1]) if classes is None else np.asarray(classes)
    known, order = np.unique(given, return_index=True)
    if y.ndim == 2 and not len(known) == given.size == y.shape[1]:
        raise ValueError(f"classes must hold another label for each of y's {y.shape[1]} columns, got {given.tolist()}")
    if len(known) < 2:
        raise ValueError(f"classes must hold at least two labels, got {known.tolist()}")
    return known, order


def _coded(y: Array, known: Array, order: Array) -> Array:
    """Positions of labels, (n,), or probabilities in the order of the labels, (n, K)."""
    if y.ndim == 1:
        return indices(y, known)
    return y if (np.diff(order) > 0).all() else y[:, order]


def coded(y: Array, classes: ArrayLike | None) -> tuple[Array, Array]:
    """The labels in ascending order, and y as positions among them or as their probabilities."""
    if classes is None and y.ndim == 1:
        known, positions = np.unique(y, return_inverse=True)
        if len(known) < 2:
            raise ValueError(f"y must hold at least two classes to tell apart, got one class: {known[0]!r}")
        return known, positions
    known, order = _known(y, classes)
    return known, _coded(y, known, order)


def coded_online(model: Any, y: Array, classes: ArrayLike | None, *, first: bool) -> tuple[Array, Array]:
    """The same for `partial_fit`, whose classes are those of its first call."""
    given = model.classes if classes is None else classes
    if given is None and not first:
        given = model.classes_
    if given is None and y.ndim == 1:
        raise ValueError("classes must be passed on the first call to partial_fit: all labels there will be")
    known, order = _known(y, given)
    if not first and not np.array_equal(known, model.classes_):
        raise ValueError(f"classes must be those of the first call, {model.classes_.tolist()}, got {known.tolist()}")
    return known, _coded(y, known, order)


def indices(y: Array, classes: Array) -> Array:
    """The positions of labels among the classes."""
    positions = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if (unknown := classes[positions] != y).any():
        raise ValueError(f"y must hold labels out of classes={classes.tolist()}, got {np.unique(y[unknown]).tolist()}")
    return positions

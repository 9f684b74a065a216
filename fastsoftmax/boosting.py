"""Objectives and metrics of LightGBM and XGBoost: softmax cross-entropy with this library's options, in one pass.

`lightgbm_objective` and `xgboost_objective` make an object that the booster calls once a round.  It needs neither
package: it sees arrays, and data sets by their methods ``get_label`` and ``get_weight``.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api.boosting import GradHess, cross_entropy_grad_hess
from .api.cross_entropy import cross_entropy
from .core.conversion import array_of, numbers
from .core.hessian import boosting_options, hessian_of
from .core.options import for_probabilities
from .core.rules import shown

Array = NDArray[Any]

__all__ = ["lightgbm_objective", "xgboost_objective"]


class Booster(NamedTuple):
    """A package's demands on arrays, and its words for what a user is to change."""

    order: Literal["C", "F"]  # of margins, and so of what is returned
    dtype: Any  # of margins
    least: float  # of its own objective's Hessian
    flat: str  # how margins of one axis become rows
    raw: str  # how margins are asked for


LIGHTGBM = Booster("F", np.float64, 0.0, "margins.reshape(K, -1).T", "predict(X, raw_score=True)")
XGBOOST = Booster("C", np.float32, 1e-16, "margins.reshape(-1, K)", "predict(data, output_margin=True)")


class Loss(NamedTuple):
    """The loss that is trained: its options, and soft targets of the training rows, if any."""

    booster: Booster
    hessian: dict[str, Any]
    labels: Array | None
    options: dict[str, Any]  # class_weight among them

    def given(self, first: Any, second: Any, weight: Any) -> tuple[Array, Array, Array | None, bool]:
        """Margins, target, weights, and whether there was a data set: of a call's arguments, which are checked."""
        native = hasattr(second, "get_label")
        if native:
            margins, labels, weight = first, second.get_label(), second.get_weight()
        else:
            labels, margins = first, second
        if hasattr(first, "get_label") or (not native and np.ndim(first) > 1 == np.ndim(second)):
            raise TypeError("the arguments are in the wrong order; pass (margins, data), or (labels, margins, weight)")
        if self.labels is not None:
            labels, target = None, self.labels
        else:
            labels = target = array_of("labels", labels)
        margins = _rows(margins, target, self.booster)
        if labels is not None:
            target = _class_indices(labels, margins.shape)
        elif target.shape != margins.shape:
            raise ValueError(
                f"labels= has shape {target.shape}, but there are margins of shape {margins.shape}; pass labels of "
                "the rows that are trained on, (rows, num_class); for other rows, an objective or metric of their own"
            )
        return margins, target, None if weight is None or np.size(weight) == 0 else weight, native


class Objective:
    """Gradient and diagonal Hessian of a loss, as a booster calls for them each round."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        #: The mean of the loss that is trained, by which a booster evaluates data sets.
        self.metric = Metric(loss)

    # Both packages look at the signature: LightGBM passes weights to three parameters, XGBoost to this name.
    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> GradHess:
        """(gradient, Hessian) of (margins, data set), or of (labels, margins, weights), as scikit-learn has them."""
        loss = self._loss
        margins, target, weight, _ = loss.given(y_true, y_pred, sample_weight)
        wanted = {**loss.options, **loss.hessian}
        return cross_entropy_grad_hess(margins, target, sample_weight=weight, dtype=np.float32, **wanted)

    def __deepcopy__(self, memo: Any) -> "Objective":
        """The same object: nothing in it changes, and LightGBM copies its parameters, scikit-learn estimators'."""
        return self


class Metric:
    """The mean of a loss, under a name, as a booster calls for it after each round."""

    #: XGBoost's scikit-learn interface asks for it as functions have it.
    __name__ = "softmax_cross_entropy"

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The mean for (margins, data set) or (labels, margins, weights), in the form that the interface wants."""
        loss = self._loss
        margins, target, weight, native = loss.given(y_true, y_pred, sample_weight)
        value = float(cross_entropy(margins, target, sample_weight=weight, **loss.options))
        if loss.booster == LIGHTGBM:
            return self.__name__, value, False  # higher is not better
        return (self.__name__, value) if native else value

    def __deepcopy__(self, memo: Any) -> "Metric":
        """The same object, as that of an objective."""
        return self


def lightgbm_objective(
    *,
    hessian: str = "lightgbm",
    labels: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
) -> Objective:
    """Softmax cross-entropy as an objective of LightGBM 4, for its native and its scikit-learn interface.

    Parameters
    ----------
    hessian : {"lightgbm", "diagonal", "upper", "residual"}, default "lightgbm"
        The diagonal, as `cross_entropy_grad_hess` has it.  "lightgbm" is that of the objective "multiclass".
    labels : array_like, shape (n, K), optional
        Probabilities of the classes for each training row, which replace the labels of the data set.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    label_smoothing : float in [0, 1], default 0
        How much of the target is spread over all classes.
    focal_gamma : float, default 0
        γ of the focal loss; with ``hessian="diagonal"``, whose negative values become 0.
    temperature : float > 0, default 1
        What the margins are divided by.

    Returns
    -------
    Objective
        A callable for ``objective=``.  Its ``metric`` is one for ``feval=`` or ``eval_metric=``: the mean of the loss.

    Raises
    ------
    TypeError, ValueError
        If an option has an unsuitable type or value; and in training if margins or labels do, which says what to pass.

    Notes
    -----
    Set ``num_class`` to the number of classes; `LGBMClassifier` does so from three on, and with two wants
    ``num_class=2, metric="None"``.  Predictions of the trained model are margins: probabilities are
    ``fastsoftmax.softmax(margins / temperature)``.  The built-in objective with ``boost_from_average=False`` gives the
    same trees.  Weights of a data set multiply both results.  A row with the label -100 is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from fastsoftmax.boosting import lightgbm_objective
    >>> focal = lightgbm_objective(hessian="diagonal", focal_gamma=2.0)

    ``lightgbm.train({"objective": focal, "num_class": 4}, data, valid_sets=[valid], feval=focal.metric)``, or
    ``LGBMClassifier(objective=focal).fit(x, y, eval_metric=focal.metric)``, and what is called in each round:

    >>> grad, hess = focal([0, 3], np.zeros((2, 4), order="F"))
    >>> grad.dtype, grad.flags.f_contiguous
    (dtype('float32'), True)
    >>> lightgbm_objective().metric([0, 3], np.zeros((2, 4)))
    ('softmax_cross_entropy', 1.3862943611198906, False)
    """
    return _objective(LIGHTGBM, hessian, labels, class_weight, label_smoothing, focal_gamma, temperature)


def xgboost_objective(
    *,
    hessian: str = "upper",
    labels: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
) -> Objective:
    """Softmax cross-entropy as an objective of XGBoost, from 2.1 on, for its native and its scikit-learn interface.

    Parameters
    ----------
    hessian : {"upper", "diagonal", "lightgbm", "residual"}, default "upper"
        The diagonal, as `cross_entropy_grad_hess` has it, and at least 1e-16.  "upper" is that of the objective
        "multi:softprob" up to version 3; "residual" is what versions after it are to have.
    labels : array_like, shape (n, K), optional
        Probabilities of the classes for each training row, which replace the labels of the data set.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    label_smoothing : float in [0, 1], default 0
        How much of the target is spread over all classes.
    focal_gamma : float, default 0
        γ of the focal loss; with ``hessian="diagonal"``, whose smaller values become 1e-16.
    temperature : float > 0, default 1
        What the margins are divided by.

    Returns
    -------
    Objective
        A callable for ``obj=`` of `xgboost.train` or ``objective=`` of an estimator.  Its ``metric`` is one for
        ``custom_metric=`` or ``eval_metric=``: the mean of the loss.

    Raises
    ------
    TypeError, ValueError
        If an option has an unsuitable type or value; and in training if margins or labels do, which says what to pass.

    Notes
    -----
    Set ``num_class`` to the number of classes; `XGBClassifier` does so from three on, and with two wants
    ``num_class=2, disable_default_eval_metric=1``.  Margins are ``predict(data, output_margin=True)``, and
    probabilities ``fastsoftmax.softmax(margins / temperature)``.  The built-in objective gives the same trees if both
    have the same ``base_score``, which it fits otherwise.  Weights of a data set multiply both results.  A row with the
    label -100 is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from fastsoftmax.boosting import xgboost_objective
    >>> smooth = xgboost_objective(label_smoothing=0.1)

    ``xgboost.train({"num_class": 4, "disable_default_eval_metric": 1}, data, obj=smooth, custom_metric=smooth.metric)``
    or ``XGBClassifier(objective=smooth, eval_metric=smooth.metric).fit(x, y)``, and what is called in each round:

    >>> grad, hess = smooth([0, 3], np.zeros((2, 4), np.float32))
    >>> grad.shape, hess[0, 0]
    ((2, 4), np.float32(0.375))
    >>> smooth.metric([0, 3], np.zeros((2, 4)))
    1.3862943611198906
    """
    return _objective(XGBOOST, hessian, labels, class_weight, label_smoothing, focal_gamma, temperature)


def _objective(booster: Booster, hessian: Any, labels: Any, class_weight: Any, *options: Any) -> Objective:
    """An objective whose options are checked as far as they can be before there are margins."""
    checked = boosting_options(-100, *options)
    hessian_of(hessian, booster.least, checked, 2)
    if labels is not None:
        labels = numbers("labels", labels)
        if labels.ndim != 2 or labels.dtype.kind in "biu":
            raise ValueError(
                f"labels must be probabilities of shape (rows, num_class), got {labels.dtype} of shape {labels.shape}; "
                "class indices are those of the data set"
            )
        for_probabilities(checked)
        # As margins come: converted once, not in each round.
        labels = np.array(labels, booster.dtype, order=booster.order)
    used = {name: getattr(checked, name) for name in ("label_smoothing", "focal_gamma", "temperature")}
    used["class_weight"] = None if class_weight is None else numbers("class_weight", class_weight)
    return Objective(Loss(booster, {"hessian": hessian, "min_hessian": booster.least}, labels, used))


def _rows(margins: Any, target: Array, booster: Booster) -> Array:
    """Margins with a row for each label and a column for each class."""
    array, rows = array_of("margins", margins), len(target)
    shape, size = array.shape, array.size
    if array.ndim != 2 or shape[1] < 2:
        mend = f"pass num_class=K (2 or more) in the booster's parameters; of a trained model, {booster.raw}"
        if array.ndim == 1 and size > rows > 0 and size % rows == 0:
            mend = f"pass {booster.flat}, with K={size // rows}"
        raise ValueError(f"margins must have shape (rows, num_class), got {shape} for {rows} labels; {mend}")
    if shape[0] != rows and shape[1] == rows:
        raise ValueError(f"margins must have shape (rows, num_class), got {shape} for {rows} labels; pass margins.T")
    if _are_probabilities(array, booster):
        raise ValueError(
            "margins must be raw scores, got probabilities: each row adds up to 1; "
            f"pass {booster.raw}, and train with this objective where you evaluate with its metric"
        )
    return array


def _are_probabilities(margins: Array, booster: Booster) -> bool:
    """Whether rows are probabilities, and not margins of the first rounds."""
    some = margins[:: max(1, len(margins) // 1000)]
    one = np.abs(some[:1].sum(1) - 1.0) < 1e-5  # of most margins the first row says that they are none
    if not one.any() or (margins.shape[1] == 2 and booster == XGBOOST):
        # Two classes of XGBoost begin with a margin of 1/2 each, and change by opposite amounts.
        return False
    inside = (some >= 0).all() and (some <= 1).all() and (np.abs(some.sum(1) - 1.0) < 1e-5).all()
    return bool(inside and (some != some[0]).any())


def _class_indices(labels: Array, shape: tuple[int, ...]) -> Array:
    """Labels, which boosters keep as float32, as integers."""
    rows, classes = shape
    if labels.shape != (rows,):
        mend = "pass soft targets as labels= of the objective" if labels.size == rows * classes else "pass one a row"
        raise ValueError(f"labels must have shape ({rows},), got {labels.shape}; {mend}")
    if labels.dtype.kind in "iu":
        indices = labels
    else:
        with np.errstate(invalid="ignore"):  # NaN is compared below
            indices = labels.astype(np.int64)
        if (wrong := indices != labels).any():
            row = int(wrong.argmax())
            raise ValueError(
                f"labels must be whole numbers from 0 on, got {shown(labels[row].item())} at row {row}; "
                "pass class indices to the data set, and soft targets as labels= of the objective"
            )
    if rows and (most := int(indices.max())) >= classes:
        raise ValueError(
            f"labels must be below num_class, {classes}, got {most} at row {int(indices.argmax())}; "
            f"pass num_class={most + 1} in the booster's parameters, or labels that begin with 0"
        )
    return indices

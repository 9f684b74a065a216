"""`SoftmaxRegression`: a scikit-learn classifier on the fused linear passes."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import coefficients, convergence, parameters, sgd, solvers
from .objective import Data, Loss
from .online import State, learn
from .progress import Progress

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state

    from . import inputs, training_rows
    from .prediction import Predicting
except ImportError as error:
    raise ImportError(
        f"SoftmaxRegression needs scikit-learn 1.6 or newer ({error}); install it with: pip install scikit-learn rich"
    ) from error

from .callbacks import Callbacks, CallbackSupportMixin, with_callbacks

Array = NDArray[Any]

FITTED = (
    *("classes_", "coef_", "intercept_", "n_iter_", "loss_curve_", "validation_loss_curve_"),
    *("n_features_in_", "feature_names_in_", "temperature_", "_online"),
)


class SoftmaxRegression(Predicting, CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Multinomial logistic regression, trained without ever holding the logits.

    With weights s of the rows (``sample_weight`` times ``class_weight``) it minimises what
    `sklearn.linear_model.LogisticRegression` does,

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i \ell_i + \frac{1}{2 C \sum_i s_i} \lVert W \rVert^2

    where :math:`\ell` is the cross-entropy of the softmax.  Intercepts are not penalised.  Two classes have one row of
    coefficients w: the first class has the logit 0, the second w·x + b, and the penalty is on w.

    Parameters
    ----------
    C : float > 0, default 1
        Inverse strength of the penalty; infinity is none.
    fit_intercept : bool, default True
        Whether classes have intercepts.
    class_weight : dict, "balanced" or None, default None
        Weights of the classes, which multiply those of the rows; "balanced" makes the classes' sums of weights equal.
    label_smoothing : float in [0, 1], default 0
        How much of the target is spread over all classes.
    solver : {"lbfgs", "newton-cg", "sgd"}, default "lbfgs"
        The first two go through all rows for each evaluation; "sgd" takes steps by mini-batches, and ends near the
        optimum rather than at it.
    tol : float >= 0, default 1e-4
        "lbfgs" and "newton-cg" end when no element of the objective's gradient by coefficients of standardised features
        is larger, which does not depend on units, and the objective can be expected to decrease by 0.003 `tol` at most,
        relatively; "sgd" when the objective has stopped to improve by so much in 5 epochs, at a hundredth of the first
        step size at last.
    max_iter : int > 0, default 100
        Iterations or epochs, at most.
    batch_size : int > 0, default 1024
        Rows of a step of "sgd" and `partial_fit`.
    learning_rate : "auto" or float > 0, default "auto"
        Step size of "sgd" and `partial_fit` for features scaled to variance 1; "auto" finds one by the curvature.
    momentum : float in [0, 1), default 0.9
        Nesterov's momentum of "sgd" and `partial_fit`.
    warm_start : bool, default False
        Whether `fit` starts from the coefficients of the last one.
    random_state : int, RandomState instance or None, default None
        Shuffles rows for "sgd" and `partial_fit`, and draws those held out.
    early_stopping : bool, default False
        Whether "sgd" holds out rows, ends when their loss has not improved by `tol` in 5 epochs, and keeps the best
        coefficients.  The other solvers take no notice.
    validation_fraction : float in (0, 1), default 0.1
        How many rows early stopping holds out, stratified by class.
    classes : array_like, shape (K,), optional
        All labels that there are, also those of no row; by default the labels in y.  Of probabilities it names the
        columns, by default 0, 1, 2, ...
    verbose : int, default 0
        1 shows loss and gradient on standard error: a progress bar on a terminal (with rich), and lines for iterations
        1, 2, 4, 8, ... and the last elsewhere.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The labels.
    coef_ : ndarray, shape (K, d), or (1, d) for two classes
        Coefficients, in the dtype of X.
    intercept_ : ndarray, shape (K,) or (1,)
        Intercepts.
    n_iter_ : int
        Iterations or epochs; for `partial_fit` the number of calls.
    loss_curve_ : list of float
        The objective after each iteration; for "sgd" its mean during each epoch, for `partial_fit` during each call.
    validation_loss_curve_ : list of float
        The loss of rows held out after each epoch, where there are such rows.
    n_features_in_ : int
        d.
    feature_names_in_ : ndarray, shape (d,)
        The columns of X, where they have names.
    temperature_ : float
        The number that `predict_proba` divides logits by, after `fit_temperature`.

    Notes
    -----
    An evaluation takes O(n d K) time and reads X once; extra memory does not depend on n (but for 16 bytes a row for
    labels and weights).  X may be a `numpy.memmap` larger than memory; float32 and float64, of any strides, CSR and CSC
    are not copied ("sgd" makes CSR of CSC).  Half precision is converted to float32, other dtypes to float64.  Passes
    compute in the dtype of X as long as that tells a better point from a worse one, and in float64 after that.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastsoftmax import SoftmaxRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> SoftmaxRegression().fit(X, y).score(X, y) > 0.96
    True
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        solver: str = "lbfgs",
        tol: float = 1e-4,
        max_iter: int = 100,
        batch_size: int = 1024,
        learning_rate: str | float = "auto",
        momentum: float = 0.9,
        warm_start: bool = False,
        random_state: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        classes: ArrayLike | None = None,
        verbose: int = 0,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.warm_start = warm_start
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.classes = classes
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """The tags by which scikit-learn knows this classifier."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "SoftmaxRegression":
        """Fit the model.

        Parameters
        ----------
        X : {array_like, CSR, CSC}, shape (n, d)
            Features.
        y : array_like, shape (n,) or (n, K)
            Labels, of two classes or more; or probabilities of the classes, of a floating dtype, which add up to 1 in
            each row: soft labels, votes, or what another model says.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0 of the rows.

        Returns
        -------
        SoftmaxRegression
            Itself.
        """
        parameters.check(self)
        with np.errstate(all="ignore"):  # whatever the caller has set: infinities are looked for, and lead to errors
            fitted, trouble = self._fitted(X, y, sample_weight)
        if trouble:
            warnings.warn(trouble, ConvergenceWarning, stacklevel=2)
        self._adopt(dict.fromkeys(FITTED, None) | fitted)
        return self

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> "SoftmaxRegression":
        """Learn from some more rows: one pass by mini-batches, whatever the solver.

        Each row counts as a new one: the penalty is weighed against all rows seen so far.

        Parameters
        ----------
        X : {array_like, CSR, CSC}, shape (n, d)
            Features.
        y : array_like, shape (n,) or (n, K)
            Labels or probabilities, as for `fit`.
        classes : array_like, shape (K,), optional
            All labels that there will be.  Needed at the first call, unless y holds probabilities, or the model has
            been made with them.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0 of the rows, in units of those of earlier calls.

        Returns
        -------
        SoftmaxRegression
            Itself, as `fit` does.
        """
        parameters.check(self)
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not defined for partial_fit, which does not see all rows; pass a dict of "
                "weights, for example from sklearn.utils.class_weight.compute_class_weight"
            )
        with np.errstate(all="ignore"):
            fitted, value = self._learned(X, y, classes, sample_weight)
        if trouble := convergence.strayed(self, value, len(fitted["classes_"])):
            warnings.warn(trouble, ConvergenceWarning, stacklevel=2)
        curve = fitted["loss_curve_"]
        del curve[fitted["n_iter_"] - 1 :]  # of a call that was interrupted below
        curve.append(value)
        self._adopt(fitted)
        return self

    def _fitted(self, X: Any, y: Any, sample_weight: Any) -> tuple[dict[str, Any], str]:
        """The attributes of a fit, and what is to be warned of."""
        x, y, columns = inputs.examples(self, X, y)
        classes, target = inputs.coded(y, self.classes)
        start = coefficients.start(self, classes, x.shape[1])
        data = training_rows.weighted(x, target, classes, sample_weight, self.class_weight)
        training_rows.none_left(data, sample_weight, self.class_weight)
        loss = parameters.loss(self, classes, data.total(), x.dtype)
        known = columns | {"classes_": classes}
        callbacks = Callbacks(self, x, y, sample_weight, lambda theta: known | coefficients.attributes(theta, x.dtype))
        with Progress(self.max_iter, shown=bool(self.verbose)) as progress:

            def report(step: solvers.Step) -> bool:
                progress.update(step)
                return callbacks.iterated(step.theta)

            callbacks.begin(start)
            solution, validation = self._solve(data, loss, classes, start, report)
            fitted = known | coefficients.attributes(solution.theta, x.dtype) | validation
            fitted["loss_curve_"], fitted["n_iter_"] = solution.losses, len(solution.losses)
            fitted["_online"] = State(rows=len(target), weight=data.total())
            callbacks.end(fitted)
        return fitted, "" if callbacks.stopped else convergence.trouble(self, solution, x.dtype)

    def _learned(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> tuple[dict[str, Any], float]:
        """The attributes after a call of `partial_fit`, and the mean loss of its rows."""
        first = not hasattr(self, "classes_")
        x, y, fitted = inputs.examples(self, X, y, reset=first, by_rows=True)
        known, target = inputs.coded_online(self, y, classes, first=first)
        d = x.shape[1]
        theta = coefficients.zeros(known, d) if first else coefficients.theta_of(self, known, d)
        state = State() if first else getattr(self, "_online", State())
        data = training_rows.weighted(x, target, known, sample_weight, self.class_weight)
        loss = parameters.loss(self, known, state.weight + data.total(), x.dtype)
        random = check_random_state(self.random_state)
        theta, value, state = learn(data, loss, theta, state, parameters.schedule(self), random)
        fitted |= {"classes_": known, "_online": state, "temperature_": None} | coefficients.attributes(theta, x.dtype)
        fitted["loss_curve_"] = [] if first else getattr(self, "loss_curve_", [])
        fitted["n_iter_"] = 1 if first else getattr(self, "n_iter_", 0) + 1
        return fitted, value

    def _adopt(self, fitted: dict[str, Any]) -> None:
        """Set attributes of a fit all at once, as they belong together, and delete those that are None."""
        self.__dict__ = {
            name: value for name, value in (vars(self) | fitted).items() if fitted.get(name, self) is not None
        }

    def _solve(
        self, data: Data, loss: Loss, classes: Array, start: Array, report: solvers.Report
    ) -> tuple[solvers.Solution, dict[str, Any]]:
        """The solution, and the losses of rows held out as an attribute, where there are some."""
        options: dict[str, Any] = {"tol": self.tol, "max_iter": self.max_iter, "report": report}
        if self.solver != "sgd":
            return solvers.minimise(data, loss, start, method=self.solver, **options), {}
        random = check_random_state(self.random_state)
        held_out = None
        if self.early_stopping:
            held_out = training_rows.held_out(data, classes, self.validation_fraction, random)
        solution, validation = sgd.descend(
            data, loss, start, schedule=parameters.schedule(self), held_out=held_out, random=random, **options
        )
        return solution, {} if held_out is None else {"validation_loss_curve_": validation}

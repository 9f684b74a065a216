"""`SoftmaxRegression`: a scikit-learn classifier on the fused linear passes."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import api, linear, parameters, sgd, solvers
from .compressed import require_sound
from .devices import in_main_memory
from .objective import Data, Loss
from .progress import Progress

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"SoftmaxRegression needs scikit-learn 1.6 or newer ({error}); "
        "install it with: pip install 'fastsoftmax[sklearn]'"
    ) from error

from .hooks import CallbackSupportMixin, Hooks, with_callbacks

Array = NDArray[Any]
_COPY = "pass a copy of {0} in main memory"


class SoftmaxRegression(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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
        "lbfgs" and "newton-cg" end when no element of the objective's gradient is larger, and the objective can be
        expected to decrease by 0.003 `tol` at most, relatively; "sgd" when the objective has
        stopped to improve by so much in 5 epochs, at a hundredth of the first step size at last.
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
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is to know of this classifier."""
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
        y : array_like, shape (n,)
            Labels, of two classes or more.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0 of the rows.

        Returns
        -------
        SoftmaxRegression
            Itself.
        """
        parameters.check(self)
        x, y = self._validated(X, y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes to tell apart, got one class: {classes[0]!r}")
        start = self._start(classes, x.shape[1])
        self.classes_ = classes
        data = Data(x, labels.astype(np.int64, copy=False), self._weights(x, labels, sample_weight))
        loss = self._loss(data.total(), x.dtype)
        hooks = Hooks(self, x, y, sample_weight)
        with Progress(self.max_iter, shown=bool(self.verbose)) as progress:

            def report(step: solvers.Step) -> bool:
                progress.update(step)
                return hooks.iterated(step.theta)

            hooks.begin(start)
            solution = self._solve(data, loss, start, report)
            self._keep(solution.theta, x.dtype)
            hooks.end()
        self.loss_curve_, self.n_iter_ = solution.losses, len(solution.losses)
        self._online = sgd.State(len(labels), None, None, data.total())
        if not solution.converged and not hooks.stopped:
            warnings.warn(
                f"{self.solver} did not converge in max_iter={self.max_iter} iterations (tol={self.tol:g}); "
                "raise max_iter or tol, or scale the features",
                ConvergenceWarning,
                stacklevel=2,
            )
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
        y : array_like, shape (n,)
            Labels.
        classes : array_like, shape (K,), optional
            All labels that there will be.  Needed at the first call.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0 of the rows.

        Returns
        -------
        SoftmaxRegression
            Itself.
        """
        parameters.check(self)
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not defined for partial_fit, which does not see all rows; pass a dict of "
                "weights, for example from sklearn.utils.class_weight.compute_class_weight"
            )
        first = not hasattr(self, "classes_")
        known = self._classes(classes, first=first)
        x, y = self._validated(X, y, reset=first, by_rows=True)
        labels = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if (unknown := known[labels] != y).any():
            raise ValueError(
                f"y must hold labels out of classes={known.tolist()}, got {np.unique(y[unknown]).tolist()}"
            )
        self.classes_ = known
        if first:
            self.loss_curve_, self.n_iter_, self._online = [], 0, sgd.State(0, None, None, 0.0)
        theta = self._zeros(x.shape[1]) if first else self._theta()
        data = Data(x, labels.astype(np.int64, copy=False), self._weights(x, labels, sample_weight))
        loss = self._loss(self._online.weight + data.total(), x.dtype)
        random = check_random_state(self.random_state)
        theta, value, self._online = sgd.learn(data, loss, theta, self._online, self._schedule(), random)
        self._keep(theta, x.dtype)
        self.loss_curve_.append(value)
        self.n_iter_ += 1
        return self

    def decision_function(self, X: Any) -> Array:
        """The logits, (n, K); for two classes that of the second, (n,)."""
        x = self._features(X)
        logits = np.asarray(x @ self.coef_.T)
        logits += self.intercept_.astype(logits.dtype, copy=False)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: Any) -> Array:
        """The most probable labels, (n,), without the logits of all rows."""
        x = self._features(X)
        labels: Array = self.classes_[linear.linear_predict(x, *self._layers())]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (n, K)."""
        x = self._features(X)
        return linear.linear_predict_proba(x, *self._layers())

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (n, K), also of those too small to be told from 0."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        return api.log_softmax(logits, out=logits)

    def _solve(self, data: Data, loss: Loss, start: Array, report: solvers.Report) -> solvers.Solution:
        if self.solver != "sgd":
            return solvers.minimise(
                data, loss, start, method=self.solver, tol=self.tol, max_iter=self.max_iter, report=report
            )
        random = check_random_state(self.random_state)
        held_out = None
        if self.early_stopping:
            _, held_out = train_test_split(
                np.arange(len(data.labels)),
                test_size=self.validation_fraction,
                stratify=data.labels,
                random_state=random,
            )
        solution, validation = sgd.descend(
            data,
            loss,
            start,
            schedule=self._schedule(),
            tol=self.tol,
            max_iter=self.max_iter,
            held_out=held_out,
            random=random,
            report=report,
        )
        if held_out is not None:
            self.validation_loss_curve_ = validation
        return solution

    def _schedule(self) -> sgd.Schedule:
        rate = None if self.learning_rate == "auto" else float(self.learning_rate)
        return sgd.Schedule(int(self.batch_size), rate, float(self.momentum))

    def _loss(self, weight: float, dtype: Any) -> Loss:
        penalty = 1 / (self.C * weight)
        return Loss(len(self.classes_), penalty, float(self.label_smoothing), bool(self.fit_intercept), dtype)

    def _validated(self, X: Any, y: Any, *, reset: bool = True, by_rows: bool = False) -> tuple[Any, Array]:
        in_main_memory("SoftmaxRegression", _COPY, X=X, y=y)
        require_sound(X, "X")
        sparse = ("csr",) if by_rows or self.solver == "sgd" else ("csr", "csc")
        x, y = validate_data(self, X, y, reset=reset, accept_sparse=sparse, dtype=_dtype(X))
        check_classification_targets(y)
        return x, y

    def _features(self, X: Any) -> Any:
        check_is_fitted(self)
        in_main_memory("SoftmaxRegression", _COPY, X=X)
        require_sound(X, "X")
        return validate_data(self, X, reset=False, accept_sparse=("csr", "csc"), dtype=_dtype(X))

    def _weights(self, x: Any, labels: Array, sample_weight: Any) -> Array | None:
        """Weights of the rows with those of their classes; None where all are 1."""
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, x, dtype=np.float64)
            if weight.min() < 0:
                raise ValueError(f"sample_weight must not be negative, got {weight.min()} at {int(weight.argmin())}")
            if not weight.any():
                raise ValueError("sample_weight must not be zero for every row: at least one weight must be positive")
        if self.class_weight is None:
            return weight
        if self.class_weight == "balanced":
            sums = np.bincount(labels, weights=weight, minlength=len(self.classes_))
            of_class = np.divide(sums.sum() / len(sums), sums, out=np.zeros(len(sums)), where=sums > 0)
        else:
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        return np.asarray(of_class[labels] if weight is None else weight * of_class[labels], np.float64)

    def _classes(self, classes: ArrayLike | None, *, first: bool) -> Array:
        """The labels that `partial_fit` is to tell apart."""
        if classes is None:
            if first:
                raise ValueError("classes must be passed on the first call to partial_fit: all labels there will be")
            known: Array = self.classes_
            return known
        found = np.unique(np.asarray(classes))
        if not first and not np.array_equal(found, self.classes_):
            raise ValueError(f"classes must be those of the first call, {self.classes_.tolist()}, got {found.tolist()}")
        if len(found) < 2:
            raise ValueError(f"classes must hold at least two labels, got {found.tolist()}")
        return found

    def _zeros(self, features: int) -> Array:
        return np.zeros((_rows(self.classes_), features + 1))

    def _theta(self) -> Array:
        return np.concatenate([self.coef_, self.intercept_[:, None]], axis=1).astype(np.float64)

    def _start(self, classes: Array, features: int) -> Array:
        """θ to begin a fit with."""
        shape = (_rows(classes), features + 1)
        if not self.warm_start or not hasattr(self, "coef_"):
            return np.zeros(shape)
        theta = self._theta()
        if theta.shape != shape:
            raise ValueError(
                f"warm_start needs coef_ of shape {(shape[0], features)} for these classes and features, got "
                f"{self.coef_.shape} from the last fit; set warm_start=False"
            )
        if not self.fit_intercept:
            theta[:, -1] = 0
        return theta

    def _keep(self, theta: Array, dtype: Any) -> None:
        self.coef_, self.intercept_ = theta[:, :-1].astype(dtype), theta[:, -1].astype(dtype)

    def _layers(self) -> tuple[Array, Array]:
        """Weight (K, d) and bias (K,)."""
        if len(self.classes_) > 2:
            return self.coef_, self.intercept_
        return (
            np.concatenate([np.zeros_like(self.coef_), self.coef_]),
            np.concatenate([np.zeros_like(self.intercept_), self.intercept_]),
        )


def _rows(classes: Array) -> int:
    return 1 if len(classes) == 2 else len(classes)


def _dtype(X: Any) -> Any:
    """What scikit-learn may convert X to: half precision to float32, all but float32 and float64 to float64."""
    return np.float32 if getattr(X, "dtype", None) == np.float16 else [np.float64, np.float32]

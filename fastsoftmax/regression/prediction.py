"""The methods of a fitted `SoftmaxRegression`: logits, labels, probabilities and their temperature."""

import warnings
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from ..api import linear, softmax
from . import coefficients, inputs, temperature, training_rows

Array = NDArray[Any]


class Predicting:
    """A fitted model with `classes_`, `coef_` and `intercept_`."""

    classes: Any
    classes_: Array
    coef_: Any
    intercept_: Array

    def decision_function(self, X: Any) -> Array:
        """The logits, (n, K); for two classes that of the second, (n,).  No temperature divides them."""
        x = inputs.features(self, X)
        with np.errstate(all="ignore"):
            logits = np.asarray(x @ coefficients.dense(self).T)
            logits += self.intercept_.astype(logits.dtype, copy=False)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: Any) -> Array:
        """The most probable labels, (n,), without the logits of all rows."""
        x = inputs.features(self, X)
        labels: Array = self.classes_[linear.linear_predict(x, *coefficients.layers(self))]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (n, K)."""
        x = inputs.features(self, X)
        return linear.linear_predict_proba(x, *(part / self._temperature for part in coefficients.layers(self)))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (n, K), also of those too small to be told from 0."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        logits /= self._temperature
        return softmax.log_softmax(logits, out=logits)

    def fit_temperature(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        r"""Calibrate the probabilities of a fitted model on rows that it was not fitted to.

        All logits are divided by the number T > 0, kept in ``temperature_``, with which the mean cross-entropy of these
        rows is smallest.  The labels that are predicted stay.  `fit` and `partial_fit` forget the temperature.

        Parameters
        ----------
        X : {array_like, CSR, CSC}, shape (n, d)
            Features.
        y : array_like, shape (n,) or (n, K)
            Labels, out of ``classes_``, or probabilities, as for `fit`.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0 of the rows.

        Returns
        -------
        SoftmaxRegression
            Itself.

        Warns
        -----
        ConvergenceWarning
            If no temperature is best, because all rows are predicted right, or no better than at random.  The last
            that was tried is kept, from e⁻¹⁰ to e¹⁰.

        Notes
        -----
        Newton's method for 1 / T, in which the loss is convex, takes four to eight steps of two passes over X each, in
        float64.  Extra memory does not depend on n.  As C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration
        of modern neural networks", ICML 2017, and ``CalibratedClassifierCV(method="temperature")`` of scikit-learn.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastsoftmax import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression(C=0.01).fit(X[::2], y[::2])  # so strong a penalty makes it too modest
        >>> bool(model.fit_temperature(X[1::2], y[1::2]).temperature_ < 0.5)
        True
        """
        inputs.fitted(self)
        x, y, _ = inputs.examples(self, X, y, reset=False)
        _, target = inputs.coded(y, self.classes_ if self.classes is None or y.ndim == 1 else self.classes)
        data = training_rows.weighted(x, target, self.classes_, sample_weight, None)
        with np.errstate(all="ignore"):
            found = temperature.best(data, self.classes_, coefficients.theta_of(self, self.classes_, x.shape[1]))
        if found.trouble:
            warnings.warn(found.trouble, ConvergenceWarning, stacklevel=2)
        self.temperature_ = found.temperature
        return self

    def sparsify(self) -> Self:
        """Keep ``coef_`` as a CSR matrix, which takes less room where more than half of it is 0.

        Predictions make it dense for their time.  `densify` undoes it.
        """
        inputs.fitted(self)
        self.coef_ = scipy.sparse.csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Keep ``coef_`` as an ndarray, as `fit` makes it."""
        inputs.fitted(self)
        self.coef_ = coefficients.dense(self)
        return self

    @property
    def _temperature(self) -> float:
        return float(getattr(self, "temperature_", 1.0))

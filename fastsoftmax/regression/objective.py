"""The objective of softmax regression: loss, gradient and curvature by the fused linear pass.

Parameters are one array θ of shape (R, d + 1): a row of coefficients a class with its intercept in the last column.
Two classes have one row, R = 1: the first class then has the logit 0, so that the softmax of (0, w·x + b) is the
logistic function, and w is penalised as `sklearn.linear_model.LogisticRegression` penalises it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..api import linear
from ..core import interrupts

Array = NDArray[Any]


class Data(NamedTuple):
    """The data that a model is fitted to."""

    x: Any  # (n, d): ndarray, memmap, CSR or CSC
    target: Array  # (n,) int64, 0 .. K-1; or (n, K), the classes' probabilities
    weight: Array | None  # (n,) float64, in units of `unit`; None: all 1
    unit: float = 1.0  # a power of two that leaves weights near 1, as float32 has no others

    def rows(self, index: Any) -> "Data":
        """Some of the rows, copied."""
        weight = None if self.weight is None else self.weight[index]
        return Data(self.x[index], self.target[index], weight, self.unit)

    def total(self) -> float:
        """The sum of the weights."""
        return self.unit * float(len(self.target) if self.weight is None else self.weight.sum())


class Loss(NamedTuple):
    """The loss that is minimised, apart from the data."""

    classes: int  # K
    penalty: float  # λ: what half the squared norm of the coefficients is multiplied by
    label_smoothing: float
    intercept: bool
    dtype: Any  # float32 or float64: what passes over the data compute in

    @property
    def rows(self) -> int:
        """R, the rows of θ."""
        return 1 if self.classes == 2 else self.classes

    def layers(self, theta: Array, dtype: Any = None) -> tuple[Array, Array]:
        """Weight (K, d) and bias (K,) of the linear pass."""
        full = theta if self.classes > 2 else np.concatenate([np.zeros_like(theta), theta])
        full = full.astype(dtype or self.dtype, copy=False)
        return np.ascontiguousarray(full[:, :-1]), np.ascontiguousarray(full[:, -1])

    def _flat(self, weight: Any, bias: Any) -> Array:
        """(R, d + 1) in float64 of what the linear pass gives for weight and bias."""
        skip = self.classes - self.rows
        result = np.empty((self.rows, weight.shape[1] + 1))
        result[:, :-1] = weight[skip:]
        result[:, -1] = bias[skip:] if self.intercept else 0.0
        return result

    def __call__(self, data: Data, theta: Array, scale: float = 1.0) -> tuple[float, Array]:
        r"""The objective and its gradient.

        .. math:: \frac{1}{\sum_i s_i} \sum_i s_i \ell_i + \frac{λ}{2} \lVert W \rVert^2

        with the mean over rows multiplied by `scale`, which makes it unbiased for a batch of weighted rows.
        """
        interrupts.check()
        weight, bias = self.layers(theta)
        loss, _, grad_weight, grad_bias = linear.linear_cross_entropy_and_grad(
            data.x,
            weight,
            data.target,
            bias,
            sample_weight=data.weight,
            label_smoothing=self.label_smoothing,
        )
        grad = self._flat(grad_weight, grad_bias)
        loss = float(loss)
        if scale != 1.0:
            loss *= scale
            grad *= scale
        if self.penalty:
            # Coefficients of features in small units have squares that overflow where the penalty is as small.
            shrunk = self.penalty**0.5 * theta[:, :-1]
            loss += 0.5 * float(np.vdot(shrunk, shrunk))
            grad[:, :-1] += self.penalty * theta[:, :-1]
        return loss, grad

    def hessian_product(self, data: Data, theta: Array, direction: Array) -> Array:
        """The product of the objective's Hessian at θ with a direction, (R, d + 1), without n·K numbers."""
        weight, bias = self.layers(theta)
        along = self.layers(direction)
        product = linear.linear_hessian_product(
            data.x, weight, bias, *along, sample_weight=data.weight, reduction="mean"
        )
        result = self._flat(*product)
        if self.penalty:
            result[:, :-1] += self.penalty * direction[:, :-1]
        return result

    def variances(self, x: Array, theta: Array) -> Array:
        """p (1 - p) of the classes that have a row of θ, (n, R): the curvature of a row's loss along its logits."""
        p = linear.linear_predict_proba(x, *self.layers(theta, np.result_type(x.dtype, np.float32)))
        p = p[:, self.classes - self.rows :]
        return np.asarray(p * (1 - p))

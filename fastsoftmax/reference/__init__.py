"""The public functions in plain float64 NumPy: the specification, and the oracle of the tests.

Everything is converted to float64, nothing is fused, and nothing is taken from the formulas that the kernels compile.
Each function also takes the dtype to compute in: ``dtype=numpy.longdouble`` is a yardstick for float64, and
``dtype=numpy.float32`` says what these formulas lose when they are evaluated as they stand.
"""

from .boosting import cross_entropy_grad_hess
from .divergence import kl_divergence, kl_divergence_and_grad
from .linear import (
    linear_cross_entropy,
    linear_cross_entropy_and_grad,
    linear_hessian_product,
    linear_predict,
    linear_predict_proba,
    linear_row_stats,
    linear_top_k,
)
from .losses import cross_entropy, cross_entropy_and_grad
from .maps import log_softmax, log_softmax_vjp, logsumexp, softmax, softmax_vjp
from .statistics import row_stats, row_stats_vjp

__all__ = [
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy_grad_hess",
    "kl_divergence",
    "kl_divergence_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "linear_hessian_product",
    "linear_predict",
    "linear_predict_proba",
    "linear_row_stats",
    "linear_top_k",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "row_stats",
    "row_stats_vjp",
    "softmax",
    "softmax_vjp",
]

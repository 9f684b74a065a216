"""Softmax, cross-entropy and their gradients in fused, compiled passes over NumPy arrays.

Public is what this module lists in ``__all__``, `fastsoftmax.reference`, and what is imported when it is asked for:
`fastsoftmax.SoftmaxRegression`, which needs scikit-learn, `fastsoftmax.cuda`, which needs numba-cuda, and
`fastsoftmax.boosting`, for LightGBM and XGBoost.
Importing the package imports NumPy, not Numba: that happens at the first call that computes.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import reference
from .api.boosting import GradHess, cross_entropy_grad_hess
from .api.cross_entropy import LossAndGrad, cross_entropy, cross_entropy_and_grad
from .api.divergence import kl_divergence, kl_divergence_and_grad
from .api.linear import (
    HessianProduct,
    LinearLossAndGrad,
    linear_cross_entropy,
    linear_cross_entropy_and_grad,
    linear_hessian_product,
    linear_predict,
    linear_predict_proba,
    linear_row_stats,
    linear_top_k,
    workspace_bytes,
)
from .api.softmax import log_softmax, log_softmax_vjp, logsumexp, softmax, softmax_vjp
from .api.statistics import RowStats, TopK, row_stats, row_stats_vjp
from .core.untraced import untraced as _untraced
from .cpu import forks as _forks  # noqa: F401  sees every fork from here on
from .system import show_versions, warmup
from .version import __version__

__all__ = [
    "GradHess",
    "HessianProduct",
    "LinearLossAndGrad",
    "LossAndGrad",
    "RowStats",
    "TopK",
    "__version__",
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
    "reference",
    "row_stats",
    "row_stats_vjp",
    "show_versions",
    "softmax",
    "softmax_vjp",
    "warmup",
    "workspace_bytes",
]

_ON_DEMAND = ("boosting", "cuda", "jax")

_untraced(*(globals()[name] for name in __all__))

if _TYPE_CHECKING:
    from .regression.estimator import SoftmaxRegression as SoftmaxRegression


def __getattr__(name: str) -> _Any:
    """Names that need an extra or a while: `SoftmaxRegression`, and modules."""
    if name in _ON_DEMAND:
        return _import_module(f".{name}", __name__)
    if name == "SoftmaxRegression":
        from .regression.estimator import SoftmaxRegression  # noqa: PLC0415

        return SoftmaxRegression
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "SoftmaxRegression", *_ON_DEMAND})

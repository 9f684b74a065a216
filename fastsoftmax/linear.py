"""The public functions of linear maps: from features to loss, gradients and predictions, without the logits."""

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check, check_linear

Array = NDArray[Any]


class LinearLossAndGrad(NamedTuple):
    """The loss, and its gradients with respect to features, weights and bias; None for what was not asked for."""

    loss: Any
    grad_x: Array | None
    grad_weight: Array | None
    grad_bias: Array | None


class TopK(NamedTuple):
    """The classes of the largest logits of each row, in falling order, and their log-probabilities."""

    indices: NDArray[np.int64]
    log_proba: Array


@cache
def _run() -> Any:
    """The module that computes, at the first call that does: importing Numba takes half a second."""
    return importlib.import_module(".run_linear", __package__)


def linear_cross_entropy(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    block_rows: int | None = None,
) -> Any:
    options = check.options(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    problem = check_linear.loss(
        x, weight, target, bias, class_weight, sample_weight, options, block_rows=block_rows
    )
    return _run().cross_entropy(problem)[0]


def linear_cross_entropy_and_grad(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike | None = None,
    wrt: str | Sequence[str] = ("weight", "bias"),
    out: Mapping[str, Array] | None = None,
    block_rows: int | None = None,
) -> LinearLossAndGrad:
    options = check.options(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    problem = check_linear.loss(
        x, weight, target, bias, class_weight, sample_weight, options,
        block_rows=block_rows, grad_output=grad_output, wrt=wrt, out=out,
    )
    value, grads = _run().cross_entropy(problem)
    return LinearLossAndGrad(value, grads.get("x"), grads.get("weight"), grads.get("bias"))


def linear_hessian_product(
    x: Any,
    weight: ArrayLike,
    bias: ArrayLike | None,
    weight_direction: ArrayLike,
    bias_direction: ArrayLike | None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Array, Array | None]:
    problem, direction, factors = check_linear.hessian(
        x, weight, bias, weight_direction, bias_direction, sample_weight, reduction
    )
    return _run().hessian_product(problem, direction, factors)


def linear_predict(x: Any, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray[np.int64]:
    return _run().predict(check_linear.linear(x, weight, bias))


def linear_predict_proba(
    x: Any, weight: ArrayLike, bias: ArrayLike | None = None, *, out: Array | None = None
) -> Array:
    return _run().predict_proba(*check_linear.proba(x, weight, bias, out))


def linear_top_k(x: Any, weight: ArrayLike, bias: ArrayLike | None = None, *, k: int) -> TopK:
    problem = check_linear.linear(x, weight, bias)
    return TopK(*_run().top_k(problem, check_linear.positive("k", k, problem.classes)))

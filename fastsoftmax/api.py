"""The public functions: documentation, and ``run(check(...))``."""

import importlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check
from .spec import LOG_SOFTMAX, SOFTMAX

Array = NDArray[Any]
__all__ = []


class LossAndGrad(NamedTuple):
    """The loss and its gradient with respect to the logits."""

    loss: Any
    grad: Array


def _run() -> Any:
    """The module that computes; it is imported at the first call, because importing Numba takes half a second."""
    global _run
    module = importlib.import_module(".run", __package__)
    _run = lambda: module  # noqa: E731
    return module


def softmax(x, axis=-1, *, out=None):
    r = check.row_map(x, axis, out)
    y = _run().row_map(r, "softmax", SOFTMAX)
    return out if out is not None else y if axis == -1 else np.moveaxis(y, -1, axis)

def log_softmax(x, axis=-1, *, out=None):
    r = check.row_map(x, axis, out)
    y = _run().row_map(r, "softmax", LOG_SOFTMAX)
    return out if out is not None else y if axis == -1 else np.moveaxis(y, -1, axis)

def logsumexp(x, axis=-1, *, keepdims=False):
    r = check.row_map(x, axis, None)
    return _run().logsumexp(r)[()]

def softmax_vjp(y, grad, axis=-1, *, out=None):
    r = check.product(y, grad, axis, out)
    g = _run().row_map(r, "vjp", SOFTMAX)
    return out if out is not None else g if axis == -1 else np.moveaxis(g, -1, axis)

def log_softmax_vjp(y, grad, axis=-1, *, out=None):
    r = check.product(y, grad, axis, out)
    g = _run().row_map(r, "vjp", LOG_SOFTMAX)
    return out if out is not None else g if axis == -1 else np.moveaxis(g, -1, axis)

def cross_entropy(logits, target, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, focal_gamma=0.0, temperature=1.0, softcap=None, reduction="mean"):
    o = check.options(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    return _run().cross_entropy(check.cross_entropy(logits, target, axis, class_weight, sample_weight, o), False)[0]

def cross_entropy_and_grad(logits, target, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, focal_gamma=0.0, temperature=1.0, softcap=None, reduction="mean", grad_output=None, out=None):
    o = check.options(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    loss, grad = _run().cross_entropy(check.cross_entropy(logits, target, axis, class_weight, sample_weight, o, grad_output, out), True)
    return LossAndGrad(loss, out if out is not None else grad if axis == -1 else np.moveaxis(grad, -1, axis))

"""The losses: signatures, documentation, and how the library is called for them."""

from typing import Any

import jax.numpy as jnp

from ..api import cross_entropy as api
from ..api import linear
from ..core.options import options as checked
from ..cpu import check
from ..cpu.linear import check as check_linear
from ..cuda.arrays.lent import Lent
from . import formulas
from .calls import Struct, computed, empty, fitted, floating, from_end, indices, maybe, row_shape
from .derivatives import Function, Loss

LINEAR = ("x", "weight", "bias")


def _logits(constants: Any, loss: Any, grads: Any, up: Any, x: Any, target: Any, *others: Any) -> None:
    axis, o = constants
    out = grads[0] if grads else None
    target, more = indices(target), zip(("class_weight", "sample_weight", "where", "class_offset"), others, strict=True)
    used = {**o._asdict(), "axis": axis, **dict(more)}
    if out is None:
        loss[...] = api.cross_entropy(x, target, **used)
        return
    found = api.cross_entropy_and_grad(x, target, **used, grad_output=up, out=out).loss
    if loss is not None:
        loss[...] = found


def _features(constants: Any, loss: Any, grads: Any, up: Any, *arrays: Any) -> None:
    (o,) = constants
    x, weight, bias, target, *others = arrays
    if isinstance(x, Lent):
        raise NotImplementedError(
            "linear_cross_entropy computes on the CPU alone in JAX, got features on a GPU, where it leaves products to "
            "PyTorch and CuPy; pass cross_entropy the logits x @ weight.T + bias, or put all on jax.devices('cpu')[0]"
        )
    more = zip(("class_weight", "sample_weight", "class_offset"), others, strict=True)
    used = {**o._asdict(), **dict(more)}
    out = {name: grad for name, grad in zip(LINEAR, grads, strict=False) if grad is not None}
    if not out:
        loss[...] = linear.linear_cross_entropy(x, weight, target, bias, **used)
        return
    used |= {"grad_output": up, "wrt": tuple(out), "out": out}
    found = linear.linear_cross_entropy_and_grad(x, weight, target, bias, **used).loss
    if loss is not None:
        loss[...] = found


def _rows(constants: Any, x: Any, *_: Any) -> Struct:
    axis, o = constants
    return Struct(row_shape(x, axis) if o.reduction == "none" else (), computed(x))


def _rows_of_features(constants: Any, x: Any, weight: Any, *_: Any) -> Struct:
    return Struct(x.shape[:1] if constants[0].reduction == "none" else (), computed(x, weight))


def _apart(constants: Any, *given: Any) -> bool:
    """Whether rows share nothing, neither a mean nor numbers of classes."""
    return constants[-1].reduction == "none" and given[2] is None and given[5] is None


CROSS_ENTROPY = Loss(Function(_logits, _rows, formulas.cross_entropy, 1, 6, _apart))
LINEAR_CROSS_ENTROPY = Loss(
    Function(_features, _rows_of_features, formulas.linear_cross_entropy, 3, 7, lambda *_: False)
)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    where: Any = None,
    class_offset: Any = None,
    reduction: str = "mean",
) -> Any:
    """`fastsoftmax.cross_entropy` of JAX's arrays.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Logits of K classes.
    target : array_like, shape (...) or (..., K)
        Class indices of an integer dtype, or probabilities of a floating one.
    axis : int, default -1
        The axis of the classes.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 of the rows.
    ignore_index : int, default -100
        Rows with this class index have loss 0 and gradient 0.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction
        As for `fastsoftmax.cross_entropy`, which has the formula; constants, not tracers.
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `logits`.
    class_offset : array_like, shape (K,), optional
        What is added to the logits after softcap and temperature; -inf leaves a class out.

    Returns
    -------
    jax.Array
        The loss: float32 for half types, else in the dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value, while JAX traces; for class indices out of range an
        error of XLA's, with this one's text, when they are computed.

    Notes
    -----
    Where a gradient is wanted, "mean" and "sum" compute it with the loss in one pass.  "none" (and float16, whose
    small gradients need a scaler's factor) computes it in the backward pass, with the upstream gradient folded in.
    Under `jax.vmap` a mean is a call for each, and so is "none" with a number for each class; other rows of "none" are
    one call.  There are reverse derivatives of any order, and no forward ones (`jax.jvp`).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, fastsoftmax.jax as fj
    >>> logits, target = jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 1])
    >>> loss, grad = jax.jit(jax.value_and_grad(fj.cross_entropy))(logits, target)
    >>> print(loss.round(4), grad.round(4))
    0.1809 [[-0.1345  0.1345]
     [ 0.0237 -0.0237]]
    """
    o = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    x, target, where = floating(logits), jnp.asarray(target), maybe(jnp.asarray, where)
    by_class, by_row, offset = (maybe(floating, w) for w in (class_weight, sample_weight, class_offset))
    axis, adjust = from_end(axis, x, "logits"), (empty(where), empty(offset))
    check.cross_entropy(empty(x), empty(target), axis, empty(by_class), empty(by_row), o, adjust=adjust)
    return CROSS_ENTROPY.value((axis, o), x, target, by_class, by_row, fitted(where, x), offset)


def linear_cross_entropy(
    x: Any,
    weight: Any,
    target: Any,
    bias: Any = None,
    *,
    class_weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    class_offset: Any = None,
    reduction: str = "mean",
) -> Any:
    """`fastsoftmax.linear_cross_entropy` of JAX's arrays: of logits ``x Wᵀ + b`` that are never there all at once.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Features.
    weight : array_like, shape (K, d)
        Weights; for ``x @ W + b`` pass ``W.T``, which XLA copies.
    target : array_like, shape (n,) or (n, K)
        Class indices of an integer dtype, or probabilities of a floating one.
    bias : array_like, shape (K,), optional
        The bias b.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    sample_weight : array_like, shape (n,), optional
        Weights >= 0 of the rows.
    ignore_index : int, default -100
        Rows with this class index have loss 0 and gradient 0.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction
        As for `fastsoftmax.cross_entropy`, which has the formula; constants, not tracers.
    class_offset : array_like, shape (K,), optional
        What is added to the logits after softcap and temperature; -inf leaves a class out.

    Returns
    -------
    jax.Array
        The loss: float64 if `x` or `weight` is, else float32.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`.

    Notes
    -----
    Gradients by `x`, `weight` and `bias` are computed as those of `cross_entropy` are, each only where it is wanted.
    Derivatives by anything else, and second ones, hold all logits.  Under `jax.vmap` there is a call for each.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, fastsoftmax.jax as fj
    >>> x, weight = jnp.array([[1.0, 2.0]]), jnp.zeros((2, 2))
    >>> print(jax.grad(fj.linear_cross_entropy, argnums=1)(x, weight, jnp.array([0])))
    [[-0.5 -1. ]
     [ 0.5  1. ]]
    """
    o = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    x, weight, target = floating(x), floating(weight), jnp.asarray(target)
    bias, *others = (maybe(floating, w) for w in (bias, class_weight, sample_weight, class_offset))
    by_class, by_row, offset = map(empty, others)
    check_linear.loss(
        *(empty(x), empty(weight), empty(target), empty(bias), by_class, by_row), options=o, class_offset=offset
    )
    return LINEAR_CROSS_ENTROPY.value((o,), x, weight, bias, target, *others)

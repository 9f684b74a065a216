"""The public functions: documentation, and ``run(check(...))``."""

import importlib
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import memo
from ..core.conversion import truth, whole
from ..core.devices import on_cuda
from ..core.dtypes import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from ..core.interrupts import Deferred
from ..core.options import Options
from ..core.options import options as checked
from ..core.weights import SINGLE
from ..cpu import check

Array = NDArray[Any]


class LossAndGrad(NamedTuple):
    """The loss, and its gradient with respect to the logits as they were given."""

    loss: Any
    grad: Array


#: As ``LossAndGrad(*found)``, with one function less.
_pair: Callable[[Any], LossAndGrad] = partial(tuple.__new__, LossAndGrad)


@cache
def _run() -> Any:
    """The module that computes, at the first call that does: importing Numba takes half a second."""
    with Deferred():
        return importlib.import_module("..cpu.run", __package__)


@cache
def _cuda() -> Any:
    """The same for arrays on a GPU."""
    with Deferred():
        return importlib.import_module("..cuda.backend", __package__)


#: By the type of arrays on a GPU: the module that repeats calls on such arrays, if there is one.
_repeats = memo.shared()


def _elsewhere(x: Any, y: Any, axis: Any, out: Any, *wanted: Any) -> Any:
    """What a function from rows to rows or to numbers gives on a GPU; None for arrays that lie in main memory."""
    again = _repeats.get(type(x))
    found = None if again is None else again.mapped(x, y, axis, out, wanted)
    if found is None and on_cuda(x, y, out):
        _repeats[type(x)] = _cuda().repeats(x)
        found = _cuda().mapped(x, y, axis, out, *wanted)
    return found


#: What `run` has prepared for calls, by what they look like; None where there is nothing to prepare.
_prepared = memo.shared(4096)  # some 2 KB each
_UNKNOWN = object()


def _prepare(form: Any, make: str, *arguments: Any) -> None:
    """Have later calls that look like this one, which went well, prepared."""
    if form is not None and _prepared.find(form, _UNKNOWN) is _UNKNOWN:
        _prepared.keep(form, getattr(_run(), make)(*arguments))


def _mapped(x: ArrayLike, y: Any, axis: Any, out: Array | None, kernel: str, variant: int) -> Any:
    """(row-wise result, output) of a function from rows to rows, or to a number a row."""
    form = check.form(x, y, axis, out, kernel, variant) if type(x) is np.ndarray else None
    if form is None:
        found = _elsewhere(x, y, axis, out, kernel, variant)
        if found is not None:
            return None, found
    else:
        prepared = _prepared.find(form)
        if prepared is not None:
            found = prepared(x, y, out)
            if found is not None:
                return found
    return _mapped_anew(form, x, y, whole("axis", axis, "an integer"), out, kernel, variant)


@np.errstate(all="ignore")  # whatever the caller has NumPy do: infinities and NaN are results like others
def _mapped_anew(form: Any, x: ArrayLike, y: Any, axis: int, out: Array | None, kernel: str, variant: int) -> Any:
    problem = check.row_map(x, axis, out) if kernel == "softmax" else check.product(x, y, axis, out)
    result = written = None
    if variant == LOGSUMEXP:
        result = _run().logsumexp(problem)[()]
    else:
        written = _run().row_map(problem, kernel, variant)
    _prepare(form, "ready_map", problem, kernel, variant, check.Given(x, y, axis, out))
    return result, _as_given(written, axis, out)


def _as_given(written: Any, axis: Any, out: Array | None) -> Any:
    """An output with its axes as the caller has them."""
    if out is not None:
        return out
    return written if axis == -1 or written is None else np.moveaxis(written, -1, axis)


def _normalised(x: ArrayLike, axis: Any, out: Array | None, variant: int) -> Array:
    if axis is None or isinstance(axis, tuple):
        found: Array | None = _elsewhere(x, None, axis, out, "softmax", variant)
        result = _over_axes_anew(x, axis, out, variant) if found is None else found
    else:
        _, result = _mapped(x, None, axis, out, "softmax", variant)
    return result


def _plain(up: Any) -> bool:
    """Whether an upstream gradient is none, or a number that every computing dtype holds."""
    return up is None or (type(up) is float and (-SINGLE <= up <= SINGLE or not math.isfinite(up)))


@np.errstate(all="ignore")  # as in `_mapped_anew`
def _over_axes_anew(x: ArrayLike, axis: Any, out: Array | None, variant: int) -> Any:
    several = check.over_axes(x, axis, out)
    if variant != LOGSUMEXP:
        return _run().map_over_axes(several, variant)
    return _run().logsumexp_over_axes(several)[()], several.axes


def _loss(
    logits: ArrayLike,
    target: ArrayLike,
    axis: Any,
    weights: tuple[Any, Any],
    options: Options,
    grad_output: Any = None,
    out: Any = None,
    *,
    grad: bool,
    check_targets: Any = None,
) -> Any:
    """(loss, gradient or None) of a cross-entropy; `weights` are those of classes and of samples."""
    form, found = None, None
    if weights[0] is None and weights[1] is None:
        if type(logits) is not np.ndarray:
            again = _repeats.get(type(logits))
            if again is not None and not check_targets and _plain(grad_output):
                up = 1.0 if grad_output is None else grad_output
                found = again.cross_entropy(logits, target, axis, options, up, out, grad=grad)
        elif grad_output is None:
            form = check.form(logits, target, axis, out, grad, options)
            prepared = _prepared.find(form)
            found = None if prepared is None else prepared(logits, target, out)
    if found is not None:
        return found
    if form is None and on_cuda(logits, target, *weights, grad_output, out):
        _repeats[type(logits)] = _cuda().repeats(logits)
        given = logits, target, axis, weights, options, grad_output, out
        return _cuda().cross_entropy(*given, grad=grad, check_targets=check_targets)
    return _loss_anew(form, logits, target, whole("axis", axis, "an integer"), weights, options, grad_output, out, grad)


@np.errstate(all="ignore")  # as in `_mapped_anew`
def _loss_anew(
    form: Any,
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weights: tuple[Any, Any],
    options: Options,
    grad_output: Any,
    out: Any,
    grad: bool,
) -> Any:
    problem = check.cross_entropy(logits, target, axis, *weights, options, grad_output, out)
    loss, written = _run().cross_entropy(problem, grad=grad)
    _prepare(form, "ready_loss", problem, grad, check.Given(logits, target, axis, out))
    return loss, _as_given(written, axis, out)


def softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = -1, *, out: Array | None = None) -> Array:
    r"""Softmax along one axis, or jointly along several.

    .. math:: p_j = \exp(x_j - m) / \sum_i \exp(x_i - m), \qquad m = \max_i x_i

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        Where the probabilities sum to 1; None means all axes, and () none: each element is alone.
    out : ndarray, optional
        Where to write the result: the shape of `x`, the dtype of the result.  It may be `x` itself.

    Returns
    -------
    ndarray
        Probabilities in the shape of `x`, in its dtype (float64 for integers).  A row that holds NaN or +inf, or
        nothing but -inf, is NaN; -inf among other values has probability exactly 0.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n) time, one pass over memory; no temporary grows with `x`, except that axes which cannot be merged into one are
    copied to the result first.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.softmax([0.0, 0.0, 0.0, 0.0])
    array([0.25, 0.25, 0.25, 0.25])
    >>> fs.softmax([[1000.0, 1000.0], [0.0, -float("inf")]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return _normalised(x, axis, out, SOFTMAX)


def log_softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = -1, *, out: Array | None = None) -> Array:
    r"""Logarithm of the softmax along one axis, or jointly along several.

    .. math:: \log p_j = (x_j - m) - \log \sum_i \exp(x_i - m)

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        Where the probabilities sum to 1; None means all axes, and () none: each element is alone.
    out : ndarray, optional
        Where to write the result: the shape of `x`, the dtype of the result.  It may be `x` itself.

    Returns
    -------
    ndarray
        Log-probabilities in the shape of `x`, in its dtype (float64 for integers).  A row that holds NaN or +inf, or
        nothing but -inf, is NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n) time, as for `softmax`.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> np.exp(fs.log_softmax([1.0, 1.0])).tolist()
    [0.5, 0.5]
    """
    return _normalised(x, axis, out, LOG_SOFTMAX)


def logsumexp(x: ArrayLike, axis: int | tuple[int, ...] | None = -1, *, keepdims: bool = False) -> Any:
    r"""Logarithm of the sum of exponentials, along one axis or several.

    .. math:: \mathrm{lse} = m + \log \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        What is summed over; None means all axes, and () none: each element is alone.
    keepdims : bool, default False
        Keep the axes that were summed over, with length 1.

    Returns
    -------
    ndarray or scalar
        In the dtype of `x` (float64 for integers).  -inf where all elements are -inf, +inf where one is +inf, NaN where
        one is NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n) time; long rows are read once.  Axes which cannot be merged into one are copied, some rows at a time.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> float(fs.logsumexp([1000.0, -float("inf")]))
    1000.0
    """
    if type(keepdims) is not bool:
        keepdims = truth("keepdims", keepdims)
    if type(x) is not np.ndarray:
        found = _elsewhere(x, None, axis, None, "softmax", LOGSUMEXP, keepdims)
        if found is not None:
            return found
    if axis is None or isinstance(axis, tuple):
        result, axis = _over_axes_anew(x, axis, None, LOGSUMEXP)
    else:
        result, _ = _mapped(x, None, axis, None, "softmax", LOGSUMEXP)
    return np.expand_dims(result, axis) if keepdims else result


def softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    r"""Vector-Jacobian product of `softmax`, from its output.

    .. math:: \frac{\partial L}{\partial x_j} = y_j \left(g_j - \sum_i g_i y_i\right)

    Parameters
    ----------
    y : array_like
        What `softmax` returned.
    grad : array_like
        The gradient g of a scalar L with respect to `y`, of the same shape.  It is read in the dtype that is computed
        in: float32 where `y` is of a half type.
    axis : int, default -1
        The axis of the softmax.
    out : ndarray, optional
        Where to write the result: the shape of `y`, the dtype of the result.  It may be `y` or `grad` itself.

    Returns
    -------
    ndarray
        The gradient of L with respect to the softmax's input, in the shape and dtype of `y` (float64 for integers).

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n) time; sums of long rows are accumulated in float64.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.softmax_vjp([0.5, 0.5], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    result: Array = _mapped(y, grad, axis, out, "vjp", SOFTMAX)[1]
    return result


def log_softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    r"""Vector-Jacobian product of `log_softmax`, from its output.

    .. math:: \frac{\partial L}{\partial x_j} = g_j - \exp(y_j) \sum_i g_i

    Parameters
    ----------
    y : array_like
        What `log_softmax` returned, which is never above 0.  Other numbers are not refused; above 88 (709 in float64)
        their exponentials overflow, and the row is infinite or NaN.
    grad : array_like
        The gradient g of a scalar L with respect to `y`, of the same shape.  It is read in the dtype that is computed
        in: float32 where `y` is of a half type.
    axis : int, default -1
        The axis of the softmax.
    out : ndarray, optional
        Where to write the result: the shape of `y`, the dtype of the result.  It may be `y` or `grad` itself.

    Returns
    -------
    ndarray
        The gradient of L with respect to the input of log_softmax, in the shape and dtype of `y` (float64 for
        integers).

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n) time; sums of long rows are accumulated in float64.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> fs.log_softmax_vjp(np.log([0.5, 0.5]), [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    result: Array = _mapped(y, grad, axis, out, "vjp", LOG_SOFTMAX)[1]
    return result


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    check_targets: bool | None = None,
) -> Any:
    r"""Cross-entropy between logits and targets.

    With :math:`z = \mathrm{softcap}(x) / \text{temperature}`, :math:`\log p_j = (z_j - m) - \log \sum_i e^{z_i - m}`,
    class weights w (1 if not given), smoothing ε and K classes, the loss of a row with class index t is

    .. math:: \ell = (1-ε)\, w_t (1 - p_t)^γ (-\log p_t) + \frac{ε}{K} \sum_j w_j (-\log p_j) + w_t λ\, \mathrm{lse}^2

    and that of a row with probabilities q (which need not sum to 1)

    .. math:: \ell = \sum_j w_j \left((1-ε) q_j + \frac{ε}{K}\right) (-\log p_j) + λ\, \mathrm{lse}^2

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Scores of K classes, of any strides.  float16 and bfloat16 are computed in float32, integers in float64.
    target : array_like, shape (...) or (..., K)
        Class indices of an integer dtype, or probabilities of a floating one in the shape of `logits`.
    axis : int, default -1
        The axis of the classes in `logits` (and in probabilities).
    class_weight : array_like, shape (K,), optional
        Weights w >= 0 of the classes.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 that multiply the rows' losses.  A mean divides by their sum, so that their unit means nothing to
        it; otherwise they, and class weights, are numbers that the computing dtype holds.
    ignore_index : int, default -100
        Rows with this class index have loss 0 and gradient 0, whatever their logits.  Probabilities have no such rows:
        with them it must be negative, and means nothing.
    label_smoothing : float in [0, 1], default 0
        ε: how much of the target is spread over all classes (Szegedy et al., 2016).
    z_loss : float, default 0
        λ: penalty on the squared log-normaliser lse (Chowdhery et al., 2022).  At most 1.3e154, as products have no
        number beyond.  Above 1.8e19 all logits are computed in float64; on a GPU float32 ones are refused there.
    focal_gamma : float, default 0
        γ: focal loss, which plays down rows that are already right (Lin et al., 2017).  For class indices; it does not
        touch the smoothing term.  At most as large as `z_loss`.
    temperature : float > 0, default 1
        What the logits are divided by, after the softcap: no larger than `z_loss` may be, nor its inverse.
    softcap : float > 0, optional
        c: logits are replaced by c·tanh(x / c).  One that the computing dtype has no number for caps nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum of the rows' losses by the sum of the rows' weights: of ``w_t * sample_weight`` over rows
        that are not ignored, or of `sample_weight` alone for probabilities.
    check_targets : bool, optional
        Whether class indices out of range raise an error.  On the CPU they always do, whatever is said here.  On a GPU
        None and False leave it at NaN in such a row's loss and gradient, as nothing waits for the GPU then; True waits
        for it once, and raises before anything is written.

    Returns
    -------
    scalar, or ndarray of shape (...) for "none"
        float32 for half precision, else in the dtype of the logits.  Sums over rows are accumulated in float64 in a
        fixed order.  The mean of no rows is NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.  Labels are checked
        before anything is computed.

    Notes
    -----
    O(n) time, one pass over memory, no temporary that grows with the logits.  Semantics are those of
    ``torch.nn.functional.cross_entropy`` where it has the option, except that 0·(-log 0) is 0.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    A probability of 0.9 for the true class costs 0.105, one of 0.2 costs 1.609:

    >>> import numpy as np, fastsoftmax as fs
    >>> losses = fs.cross_entropy(np.log([[0.9, 0.1], [0.8, 0.2]]), [0, 1], reduction="none")
    >>> losses.round(3).tolist()
    [0.105, 1.609]
    """
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    weights = class_weight, sample_weight
    return _loss(logits, target, axis, weights, options, grad=False, check_targets=check_targets)[0]


def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    check_targets: bool | None = None,
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
) -> LossAndGrad:
    r"""`cross_entropy` and its gradient with respect to the logits, in one pass.

    .. math:: \frac{\partial \ell}{\partial z_j} = A p_j - B_j - C [j = t]

    For the plain loss A = C = 1 and B = 0: the gradient is p − y.  With the symbols of `cross_entropy`,

    ==============================  ===========================================  ======================
    loss                            A                                            B_j, C
    ==============================  ===========================================  ======================
    class index                     (1−ε) w_t + ε/K Σw                           ε/K w_j, (1−ε) w_t
    focal (c in place of 1 − ε)     (1−ε) w_t c + ε/K Σw                         ε/K w_j, (1−ε) w_t c
    probabilities                   Σ_j B_j                                      w_j ((1−ε) q_j + ε/K), 0
    z-loss                          \+ 2 λ lse w_t (2 λ lse for probabilities)    unchanged
    ==============================  ===========================================  ======================

    with :math:`c = (1-p_t)^γ \left(1 + γ p_t \frac{-\log p_t}{1-p_t}\right)`; the softcap multiplies by
    :math:`1 - \tanh^2(x_j / c)` and the temperature by its inverse.

    Parameters
    ----------
    logits, target, axis, class_weight, sample_weight, ignore_index
        As for `cross_entropy`.
    label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction, check_targets
        As for `cross_entropy`.
    grad_output : scalar, or array_like of shape (...) for "none", default 1
        The upstream gradient that the gradient is multiplied by, in the same pass.
    out : ndarray, optional
        Where to write the gradient: the shape of `logits`, the dtype of the gradient.  It may be `logits` itself.

    Returns
    -------
    LossAndGrad
        ``(loss, grad)``: the loss as from `cross_entropy`, and the gradient in the shape and dtype of the logits
        (float64 for integers).  Rows that are ignored have gradient 0.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    Notes
    -----
    O(n) time: each logit is read from memory once and each gradient written once.  ``1 - p_t`` is computed from the
    other classes' terms, so that the gradient of a confident row keeps its digits.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> loss, grad = fs.cross_entropy_and_grad(np.zeros((1, 2)), [0])
    >>> round(float(loss), 4), grad.tolist()
    (0.6931, [[-0.5, 0.5]])
    """
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, temperature, softcap, reduction)
    weights = class_weight, sample_weight
    found = _loss(logits, target, axis, weights, options, grad_output, out, grad=True, check_targets=check_targets)
    return _pair(found)

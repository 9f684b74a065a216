"""Softmax, its logarithm, log-sum-exp, and vector-Jacobian products: signatures and documentation."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..core.conversion import truth
from ..core.dtypes import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from .backends import backend

Array = NDArray[Any]


def softmax(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Softmax along one axis, or jointly along several.

    .. math:: p_j = \exp(x_j - m) / \sum_i \exp(x_i - m), \qquad m = \max_i x_i

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        Where the probabilities sum to 1; None means all axes, and () none: each element is alone.
    where : array_like of bool, optional
        The elements that are there, as a mask that broadcasts to `x`: others are not looked at, as if they were -inf.
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
    result: Array = backend(x, out, where).rows(x, None, axis, out, "softmax", SOFTMAX, where=where)
    return result


def log_softmax(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Logarithm of the softmax along one axis, or jointly along several.

    .. math:: \log p_j = (x_j - m) - \log \sum_i \exp(x_i - m)

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        Where the probabilities sum to 1; None means all axes, and () none: each element is alone.
    where : array_like of bool, optional
        The elements that are there, as a mask that broadcasts to `x`: others are not looked at, as if they were -inf.
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
    result: Array = backend(x, out, where).rows(x, None, axis, out, "softmax", LOG_SOFTMAX, where=where)
    return result


def logsumexp(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    *,
    where: ArrayLike | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    r"""Logarithm of the sum of exponentials, along one axis or several.

    .. math:: \mathrm{lse} = m + \log \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    Parameters
    ----------
    x : array_like
        Numbers of any shape and strides.  float16 and bfloat16 are computed in float32, integers in float64.
    axis : int, tuple of int or None, default -1
        What is summed over; None means all axes, and () none: each element is alone.
    where : array_like of bool, optional
        The elements that are there, as a mask that broadcasts to `x`: others are not looked at, as if they were -inf.
    b : array_like, optional
        Factors of the exponentials, of any sign, that broadcast to `x`: the logarithm is of ``|sum_j b_j exp(x_j)|``.
        With them, and with `return_sign`, this is `scipy.special.logsumexp`.  On a GPU they are an array there, in the
        dtype of `x`, or in float32 beside a half type.
    keepdims : bool, default False
        Keep the axes that were summed over, with length 1.
    return_sign : bool, default False
        Return the sign of the sum as well; without it a negative sum has the logarithm NaN.

    Returns
    -------
    ndarray or scalar, or a pair of them with `return_sign`
        In the dtype of `x` (float64 for integers), whatever that of `b` is.  -inf where all elements are -inf or there
        is none, +inf where one is +inf, NaN where one is NaN.

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
    >>> value, sign = fs.logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> round(float(value), 6), float(sign)  # log(exp(2) - exp(1))
    (1.541325, -1.0)
    """
    keep = keepdims is not False and truth("keepdims", keepdims)
    if b is None and return_sign is False:
        return backend(x, where).rows(x, None, axis, None, "softmax", LOGSUMEXP, keep, where)
    return backend(x, b, where).signed_logsumexp(x, axis, b, keep, truth("return_sign", return_sign), where)


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
    result: Array = backend(y, grad, out).rows(y, grad, axis, out, "vjp", SOFTMAX)
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
    result: Array = backend(y, grad, out).rows(y, grad, axis, out, "vjp", LOG_SOFTMAX)
    return result

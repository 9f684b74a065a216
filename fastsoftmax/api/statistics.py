"""Statistics of rows of logits, several of them in one pass: signatures and documentation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.options import transforms
from ..core.statistics import wanted
from .backends import backend

Array = NDArray[Any]


class TopK(NamedTuple):
    """The classes of the largest logits of each row, in falling order, and their log-probabilities."""

    indices: NDArray[np.int64]
    log_proba: Array


class RowStats(NamedTuple):
    """Statistics of each row, None for those that were not asked for.

    Those that are real numbers have the dtype that is computed in: float64 for float64 and integers, else float32.
    """

    log_prob: Any = None
    """The target's log-probability."""
    entropy: Any = None
    """The entropy of the probabilities, in nats."""
    log_sum_exp: Any = None
    """The logarithm of the sum of the logits' exponentials."""
    argmax: Any = None
    """int64: the class of the largest logit, of equal ones the first."""
    max_prob: Any = None
    """The largest probability."""
    correct: Any = None
    """bool: whether the target is the argmax."""
    rank: Any = None
    """int64: the number of classes with a larger logit than the target's."""
    margin: Any = None
    """The target's logit less the largest of the others."""
    top_k: TopK | None = None
    """The k largest classes, falling, equal ones by index, and their log-probabilities; both of shape (..., k)."""


def by_name(found: dict[str, Any]) -> RowStats:
    """A `RowStats` of the statistics that a backend has found, which has `top_k` as a pair."""
    top = found.pop("top_k", None)
    return RowStats(**found, top_k=None if top is None else TopK(*top))


def row_stats(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    want: str | Sequence[str],
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    k: int = 5,
) -> RowStats:
    r"""Statistics of each row of logits, any of them in one pass: log-probability, entropy, argmax, rank and others.

    With :math:`z = \mathrm{softcap}(x) / \text{temperature}`, :math:`\mathrm{lse} = \log \sum_j e^{z_j}`,
    :math:`p_j = e^{z_j - \mathrm{lse}}` and the target's class t they are

    ============= ==================================================================================
    "log_prob"    :math:`\log p_t`
    "entropy"     :math:`H = -\sum_j p_j \log p_j`, in nats (Shannon, 1948), with 0·log 0 = 0
    "log_sum_exp" lse
    "argmax"      the class of the largest logit, the first of equal ones, as `numpy.argmax` has it
    "max_prob"    :math:`\max_j p_j`
    "correct"     whether the argmax is t
    "rank"        the number of classes with a larger logit than t
    "margin"      :math:`z_t - \max_{j \ne t} z_j`
    "top_k"       the k classes of the largest logits and their log-probabilities
    ============= ==================================================================================

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Scores of K classes, of any strides.  float16 and bfloat16 are computed in float32, integers in float64.
    target : array_like of int, shape (...), optional
        Class indices.  "log_prob", "correct", "rank" and "margin" need them.
    want : str or sequence of str
        The names of what is wanted.  What is not costs nothing.
    axis : int, default -1
        The axis of the classes in `logits`.
    temperature : float > 0, default 1
        What the logits are divided by, after the softcap.
    softcap : float > 0, optional
        c: logits are replaced by c·tanh(x / c).
    ignore_index : int, default -100
        Rows with this class index are not read.  Theirs are -1 for "argmax", "rank" and the indices of "top_k", False
        for "correct", and 0 for the rest.
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `logits`.  Others are not looked at, as if their logit
        were -inf.
    class_offset : array_like, shape (K,), optional
        What is added to the logits after softcap and temperature, as in `cross_entropy`; -inf masks a class.
    k : int in [1, K], default 5
        How many classes "top_k" gives.

    Returns
    -------
    RowStats
        A NamedTuple of arrays of shape (...), or scalars, in the order above; None for what is not wanted.  Real
        numbers are float32 for half precision, else in the dtype of the logits (float64 for integers); indices are
        int64.  "top_k" is a `TopK` of arrays of shape (..., k), whatever `axis` is.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.  Labels are checked
        before anything is computed.

    Notes
    -----
    O(n) time, one pass over memory while a row fits a second-level cache; "top_k" reads the logits once more.

    Log-probabilities are never above 0 and entropies never below.  Both keep their relative precision where they are
    near 0, in rows that are all but certain: they are within a few ulps, and at most one more for each unit between
    the two largest logits, as rounding that difference costs up to this.

    Logits are compared as they come, or as z with `where` or `class_offset`; NaN is the largest.  Rows that hold NaN
    have no other real statistics; nor have rows of nothing but -inf, or with +inf, but for "log_sum_exp".

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.
    No labels are checked there: statistics of a row whose label is out of range are NaN, -1 and False.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    >>> stats = fs.row_stats(logits, [0, 1], want=("log_prob", "entropy", "correct"))
    >>> stats.log_prob.round(3).tolist(), stats.entropy.round(3).tolist(), stats.correct.tolist()
    ([-0.408, -1.099], [0.832, 1.099], [True, False])
    >>> fs.row_stats(logits, want="top_k", k=2).top_k.indices.tolist()
    [[0, 1], [0, 1]]
    """
    variant, options = wanted(want, target=target is not None), transforms(ignore_index, temperature, softcap)
    at, adjust = backend(logits, target, where, class_offset), (where, class_offset)
    return by_name(at.row_stats(logits, target, variant, axis, options, k, adjust))


def row_stats_vjp(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    log_prob: ArrayLike | None = None,
    entropy: ArrayLike | None = None,
    log_sum_exp: ArrayLike | None = None,
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Gradient of statistics of rows, by the upstream gradients of some of them, in one pass.

    For upstream gradients a of the log-probability, b of the entropy H and c of the log-sum-exp it is

    .. math:: \frac{\partial L}{\partial z_j} = a\,([j = t] - p_j) - b\, p_j (\log p_j + H) + c\, p_j

    times the derivative of z by the logit, with 0·log 0 = 0.  (From :math:`\partial p_j / \partial z_i =
    p_j ([i = j] - p_i)`.)

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Scores of K classes, as for `row_stats`.
    target : array_like of int, shape (...), optional
        Class indices, which `log_prob` needs.
    log_prob, entropy, log_sum_exp : scalar, or array_like of shape (...), optional
        The gradients of a scalar L with respect to these statistics; one of them at least.
    axis : int, default -1
        The axis of the classes in `logits`.
    temperature : float > 0, default 1
        What the logits are divided by, after the softcap.
    softcap : float > 0, optional
        c: logits are replaced by c·tanh(x / c).
    ignore_index : int, default -100
        Rows with this class index are not read; their gradient is 0.
    where, class_offset
        As for `row_stats`; classes that are left out have gradient 0.
    out : ndarray, optional
        Where to write the result: the shape of `logits`, the dtype of the result.  It may be `logits` itself.

    Returns
    -------
    ndarray
        The gradient of L with respect to `logits`, in their shape and dtype (float64 for integers).

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    Notes
    -----
    O(n) time, one pass over memory while a row fits a second-level cache.  ``1 - p_t`` keeps its digits in rows that
    are all but certain.  Rows that hold NaN or +inf, or nothing but -inf, are NaN.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.
    A row whose label is out of range is NaN there.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> fs.row_stats_vjp(np.zeros((1, 4)), [1], log_prob=1.0)  # of what a policy gradient multiplies
    array([[-0.25,  0.75, -0.25, -0.25]])
    >>> fs.row_stats_vjp(np.array([[1.0, 0.0]]), entropy=[1.0]).round(3)
    array([[-0.197,  0.197]])
    """
    upstreams, options = (log_prob, entropy, log_sum_exp), transforms(ignore_index, temperature, softcap)
    at, adjust = backend(logits, target, *upstreams, out, where, class_offset), (where, class_offset)
    result: Array = at.row_stats_vjp(logits, target, upstreams, axis, options, out, adjust)
    return result

"""Divergences between a student and a teacher, as distillation wants them: signatures and documentation."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..core.divergence import arrays_of, divergence_options, teacher_as_given
from .backends import backend
from .cross_entropy import LossAndGrad

Array = NDArray[Any]


def kl_divergence(
    student: ArrayLike,
    teacher: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    axis: int = -1,
    temperature: float = 1.0,
    teacher_is: str = "logits",
    direction: str | float = "forward",
    tail: str | None = None,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    r"""Divergence of a student's distribution from a teacher's, by the student's logits.

    With :math:`p = \operatorname{softmax}(x / T)` of the student, q of the teacher and
    :math:`m = β q + (1 - β) p` the divergence of a row is

    .. math::
        \text{forward: } \sum_j q_j \log \frac{q_j}{p_j}, \qquad
        \text{reverse: } \sum_j p_j \log \frac{p_j}{q_j}, \qquad
        β\text{: } β \sum_j q_j \log \frac{q_j}{m_j} + (1 - β) \sum_j p_j \log \frac{p_j}{m_j}

    the last being the generalised Jensen-Shannon divergence (Agarwal et al., 2024).

    Parameters
    ----------
    student : array_like, shape (..., K)
        Logits x of K classes, of any strides.  float16 and bfloat16 are computed in float32, integers in float64.
    teacher : array_like, shape (..., K), or a pair (indices, log_prob) of shapes (..., k)
        What `teacher_is` says, read in the dtype that is computed in.  A pair, which needs a `tail`, lists k classes
        of each row, each once and in any order, and their log-probabilities at the temperature: such as the teacher's
        most probable ones, which `row_stats` finds (``top_k``; it puts them last, and rows of index -1, which it
        ignored, are to be left out).
    axis : int, default -1
        The axis of the classes in both.
    temperature : float > 0, default 1
        T: what the student's logits are divided by, and the teacher's if those are logits.  The value is not multiplied
        by :math:`T^2`; Hinton et al. (2015) do that, so that gradients do not shrink as T grows.
    teacher_is : {"logits", "log_prob", "prob"}, default "logits"
        Whether `teacher` holds logits, log-probabilities, or probabilities.
    direction : {"forward", "reverse"} or float in (0, 1), default "forward"
        The divergence; a number is β.
    tail : {"ignore", "renormalize", "bucket"}, optional
        What becomes of the classes that a pair does not list.  "ignore": the sum over j is that of the listed classes
        alone, which may be negative; forward only.  "renormalize": q of the listed classes is divided by its sum and 0
        elsewhere, p is left as it is; not in reverse.  "bucket": all other classes together are one more class, with
        what is left of 1 in both; nothing, where the listed q add up to 1 or more.
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `student`.  Others are not looked at in either, as if they
        had the logit -inf, or the probability 0; both arrays are copied without them, but on a GPU.  Not for a pair.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 that multiply the rows' divergences; a mean divides by their sum.  0 times infinity is NaN, as in
        torch: rows of an infinite divergence are to be left out.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the number of rows (torch's "batchmean" for one axis of rows).

    Returns
    -------
    scalar, or ndarray of shape (...) for "none"
        float32 for half precision, else in the dtype of the logits.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    Notes
    -----
    O(n) time, one pass over memory while two rows fit a second-level cache.  With a pair each logit of the
    student's is read once, and the teacher's other classes cost nothing.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.
    A teacher of another dtype than the student's or the one that is computed in is refused there, and so are pairs of
    indices that are not int64 or int32, or of arrays that are not C-contiguous with the classes last.  Indices are not
    looked at before: a row of which one is out of range, or comes twice, is NaN.

    Never negative, unless a tail is ignored: the terms added up are :math:`q \log(q / p) - q + p`, which are not, each
    with its digits where p is near q.  For a dense teacher's numbers that add up to M rather than 1 this is M - 1 less
    than the formula above, in the forward direction, and 1 - M less in the other.  0·log 0 is 0.  A row of the
    student's that holds NaN or +inf, or nothing but -inf, is NaN.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> student, teacher = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> round(float(fs.kl_divergence(student, teacher)), 6)
    0.110944
    >>> round(float(fs.kl_divergence(student, teacher, direction=0.5)), 6)
    0.028535
    >>> listed = np.array([[0]]), np.log([[0.75]])
    >>> round(float(fs.kl_divergence(student, listed, tail="bucket")), 6)
    0.130812
    """
    options = divergence_options(temperature, reduction)
    teacher = teacher_as_given(teacher, tail, teacher_is)
    at, kind = backend(student, *arrays_of(teacher), sample_weight, where), (teacher_is, direction)
    return at.divergence(student, teacher, axis, kind, sample_weight, options, None, None, False, where)[0]


def kl_divergence_and_grad(
    student: ArrayLike,
    teacher: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    axis: int = -1,
    temperature: float = 1.0,
    teacher_is: str = "logits",
    direction: str | float = "forward",
    tail: str | None = None,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
) -> LossAndGrad:
    r"""Divergence of a student from a teacher, and its gradient with respect to the student's logits.

    The gradient of a row is 1 / T times

    .. math::
        \text{forward: } M p_j - q_j, \qquad
        \text{reverse: } p_j \Big(\log \frac{p_j}{q_j} - \sum_i p_i \log \frac{p_i}{q_i}\Big), \qquad
        β\text{: } (1 - β)\, p_j \Big(\log \frac{p_j}{m_j} - \sum_i p_i \log \frac{p_i}{m_i}\Big)

    where M is the sum of the teacher's probabilities.  Classes in one bucket share its gradient by their p.

    Parameters
    ----------
    student : array_like, shape (..., K)
        Logits of K classes, as for `kl_divergence`.
    teacher : array_like, shape (..., K), or a pair (indices, log_prob) of shapes (..., k)
        As for `kl_divergence`; it gets no gradient.
    axis : int, default -1
        The axis of the classes in both.
    temperature : float > 0, default 1
        T, as for `kl_divergence`.
    teacher_is : {"logits", "log_prob", "prob"}, default "logits"
        Whether `teacher` holds logits, log-probabilities, or probabilities.
    direction : {"forward", "reverse"} or float in (0, 1), default "forward"
        The divergence; a number is β.
    tail : {"ignore", "renormalize", "bucket"}, optional
        What becomes of the classes that a pair does not list, as for `kl_divergence`.
    where : array_like of bool, optional
        The classes that are there, as for `kl_divergence`; others have gradient 0.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 that multiply the rows' divergences; a mean divides by their sum.
    reduction : {"mean", "sum", "none"}, default "mean"
        As for `kl_divergence`.
    grad_output : scalar, or array_like of shape (...) for "none", default 1
        The upstream gradient, which multiplies the gradient.
    out : ndarray, optional
        Where to write the gradient: the shape of `student`, the dtype of the gradient.  It may be `student` itself.

    Returns
    -------
    LossAndGrad
        ``(loss, grad)``: what `kl_divergence` returns, and the gradient in the shape and dtype of `student`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    Notes
    -----
    O(n) time, one pass over memory while two rows fit a second-level cache.  ``p - q`` keeps its digits where p is
    near q.

    On a GPU what `kl_divergence` says holds; `out` may be the student or a dense teacher, and lies apart otherwise.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> loss, grad = fs.kl_divergence_and_grad(np.zeros((1, 2)), np.array([[0.75, 0.25]]), teacher_is="prob")
    >>> round(float(loss), 6), grad.tolist()
    (0.130812, [[-0.25, 0.25]])
    """
    options = divergence_options(temperature, reduction)
    teacher, kind = teacher_as_given(teacher, tail, teacher_is), (teacher_is, direction)
    at = backend(student, *arrays_of(teacher), sample_weight, grad_output, out, where)
    loss, grad = at.divergence(student, teacher, axis, kind, sample_weight, options, grad_output, out, True, where)
    return LossAndGrad(loss, grad)

"""The cross-entropy and its gradient: signatures and documentation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from ..core.options import options as checked
from .backends import backend

Array = NDArray[Any]


class LossAndGrad(NamedTuple):
    """The loss, and its gradient with respect to the logits as they were given."""

    loss: Any
    grad: Array


#: As ``LossAndGrad(*results)``, with one function less.
_pair: Callable[[Any], LossAndGrad] = partial(tuple.__new__, LossAndGrad)


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
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
    reduction: str = "mean",
    check_targets: bool | None = None,
) -> Any:
    r"""Cross-entropy between logits and targets.

    With :math:`z = \mathrm{softcap}(x) / \text{temperature}`, :math:`\log p_j = (z_j - m) - \log \sum_i e^{z_i - m}`,
    class weights w (1 if not given), smoothing ε and K classes, the loss of a row with class index t is

    .. math::
        \ell = (1-ε)\, w_t (1 - p_t)^γ \left(-\log p_t + η (1 - p_t)\right)
        + \frac{ε}{K} \sum_j w_j (-\log p_j) + w_t λ\, \mathrm{lse}^2

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
    poly_epsilon : float >= -1, default 0
        η: Poly-1 loss, which adds η (1 - p_t) to the target's term (Leng et al., 2022); the focal factor multiplies
        both.  Below -1 the loss would be negative, and rise with p_t.  For class indices; at most as large as `z_loss`.
    temperature : float > 0, default 1
        What the logits are divided by, after the softcap: no larger than `z_loss` may be, nor its inverse.
    softcap : float > 0, optional
        c: logits are replaced by c·tanh(x / c).  One that the computing dtype has no number for caps nothing.
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `logits`.  Those where it is False have probability and
        gradient 0 and are not looked at, as if their logit were -inf; smoothing spreads over K classes and leaves them
        out; as targets they cost +inf.  A row without any class is NaN.
    class_offset : array_like, shape (K,), optional
        o: what is added to the logits after softcap and temperature, ``z = softcap(x) / temperature + o``: log-priors
        and logit adjustment (Menon et al., 2021).  -inf masks a class; with `where` or this, so does a logit of -inf.
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
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    at = backend(logits, target, class_weight, sample_weight, where, class_offset)
    weights, adjust = (class_weight, sample_weight), (where, class_offset)
    return at.loss(logits, target, *weights, None, None, axis, options, False, check_targets, *adjust)[0]


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
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    class_offset: ArrayLike | None = None,
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
    focal, Poly-1                   (1−ε) w_t c + ε/K Σw                         ε/K w_j, (1−ε) w_t c
    probabilities                   Σ_j B_j                                      w_j ((1−ε) q_j + ε/K), 0
    z-loss                          \+ 2 λ lse w_t (2 λ lse for probabilities)    unchanged
    ==============================  ===========================================  ======================

    with :math:`c = (1-p_t)^γ \left(1 + η p_t + γ p_t \left(\frac{-\log p_t}{1-p_t} + η\right)\right)`; the softcap
    multiplies by :math:`1 - \tanh^2(x_j / c)` and the temperature by its inverse.

    Parameters
    ----------
    logits, target, axis, class_weight, sample_weight, ignore_index
        As for `cross_entropy`.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap
        As for `cross_entropy`.
    where, class_offset, reduction, check_targets
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
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    at = backend(logits, target, class_weight, sample_weight, grad_output, out, where, class_offset)
    weights, adjust = (class_weight, sample_weight), (where, class_offset)
    return _pair(at.loss(logits, target, *weights, grad_output, out, axis, options, True, check_targets, *adjust))

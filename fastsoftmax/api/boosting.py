"""Gradient and diagonal of the Hessian, as gradient boosting wants them: signature and documentation."""

from typing import Any, NamedTuple

from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..core.hessian import boosting_options
from .backends import backend

Array = NDArray[Any]


class GradHess(NamedTuple):
    """The gradient with respect to the logits, and the diagonal of the Hessian."""

    grad: Array
    hess: Array


def cross_entropy_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    temperature: float = 1.0,
    hessian: str = "diagonal",
    min_hessian: float = 0.0,
    dtype: DTypeLike | None = None,
    out: tuple[Array, Array] | None = None,
) -> GradHess:
    r"""Gradient of the cross-entropy and the diagonal of its Hessian, row by row, in one pass: for gradient boosting.

    Of the losses of `cross_entropy` with ``reduction="none"``, so that nothing is divided by a number of rows:

    .. math::
        g_j = \frac{\partial \ell}{\partial x_j} = \frac{A\, p_j - B\, w_j - C\,[j = t]}{T}, \qquad
        h_j = \frac{\partial^2 \ell}{\partial x_j^2} = \frac{A\, p_j (1 - p_j)}{T^2}

    where T is the temperature, and A = C = w, B = 0 for weights w and no option; the focal loss adds
    :math:`f''\,(p_j - [j = t])^2 / T^2`, where f'' is its second derivative by :math:`-\log p_t`.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Scores of K classes (margins), of any strides.  float16 and bfloat16 are computed in float32, integers in
        float64.
    target : array_like, shape (...) or (..., K)
        Class indices of an integer dtype, or probabilities of a floating one in the shape of `logits`.
    axis : int, default -1
        The axis of the classes in `logits` (and in probabilities).
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 that multiply both results.
    ignore_index : int, default -100
        Rows with this class index have gradient 0 and Hessian `min_hessian`, whatever their logits.
    label_smoothing : float in [0, 1], default 0
        How much of the target is spread over all classes.
    focal_gamma : float, default 0
        γ of the focal loss; for class indices, and ``hessian="diagonal"``.
    temperature : float > 0, default 1
        What the logits are divided by.
    hessian : {"diagonal", "upper", "lightgbm", "residual"}, default "diagonal"
        "diagonal" is the exact one.  "upper" is twice p (1 - p), XGBoost's up to version 3; "lightgbm" K / (K - 1)
        times it, LightGBM's (Friedman, 2001).  "residual" is ``|g| / T``: the distance of p from the target.
    min_hessian : float >= 0, default 0
        What smaller values are raised to; the focal loss's may be negative.
    dtype : dtype, optional
        Of the results: that of the logits (float64 for integers), which is the default, or float32.
    out : tuple of two ndarrays, optional
        Where to write gradient and Hessian, each in the shape of `logits`.  The first may be `logits` itself.

    Returns
    -------
    GradHess
        ``(grad, hess)`` in the shape and memory order of `logits`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.  Labels are checked
        before anything is computed.

    Notes
    -----
    O(n) time, one pass over memory, also where float32 is written from float64, and where rows and classes are in
    Fortran order, as LightGBM has them.  ``1 - p`` keeps its digits where p is all but 1.

    Arrays on a GPU, of any library, give arrays of their kind on the caller's current stream; see `fastsoftmax.cuda`.
    New ones have the logits' memory order if CuPy's or PyTorch's, else C order.  No labels are checked: a row whose
    label is out of range is NaN.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> grad, hess = fs.cross_entropy_grad_hess(np.zeros((2, 4)), [0, 3])
    >>> grad[0].tolist(), hess[0].tolist()
    ([-0.75, 0.25, 0.25, 0.25], [0.1875, 0.1875, 0.1875, 0.1875])
    """
    options = boosting_options(ignore_index, label_smoothing, focal_gamma, temperature)
    outs = out if isinstance(out, tuple | list) else (out,)
    at, weights = backend(logits, target, class_weight, sample_weight, *outs), (class_weight, sample_weight)
    return GradHess(*at.grad_hess(logits, target, weights, axis, options, hessian, min_hessian, dtype, out))

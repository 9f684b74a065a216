"""The functions of torch's tensors: signatures and documentation."""

import math
from typing import Any

from .losses import CROSS_ENTROPY
from .tensors import local

Tensor = Any


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    dim: int | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    check_targets: bool | None = None,
) -> Any:
    r"""`fastsoftmax.cross_entropy` of tensors, with the axes of ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : Tensor, shape (K,), (N, K) or (N, K, d1, ...)
        Logits of K classes.
    target : Tensor, shape of `input` without K, or that of `input`
        Class indices of an integer dtype, or probabilities of a floating one.
    weight : Tensor, shape (K,), optional
        Weights >= 0 of the classes.
    dim : int, optional
        The dimension of the classes; by default 1, or that of logits which have one.
    sample_weight : Tensor, shape of `input` without K, optional
        Weights >= 0 of the rows.
    ignore_index : int, default -100
        Rows with this class index have loss 0 and gradient 0.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction, check_targets
        As for `fastsoftmax.cross_entropy`, which has the formula.

    Returns
    -------
    Tensor
        The loss: float32 for half types, else in the dtype of `input`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    Notes
    -----
    If `input` needs a gradient, "mean" and "sum" compute it with the loss in one pass, and a backward pass that begins
    there has nothing left to do; "none" (and float16, whose small gradients need a scaler's factor) computes it in the
    backward pass, with the upstream gradient folded in.  Gradients by probabilities and weights, and second
    derivatives, are there too; they are computed by plain torch operations, which is slow.

    Examples
    --------
    >>> import torch, fastsoftmax.torch as ft
    >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]], requires_grad=True)
    >>> loss = ft.cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=0.1)
    >>> round(loss.item(), 4)
    0.2809
    """
    input, target, weight, sample_weight = local(input=input, target=target, weight=weight, sample_weight=sample_weight)
    terms = [label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, math.inf if softcap is None else softcap]
    axis = (0 if input.ndim == 1 else 1) if dim is None else dim
    return CROSS_ENTROPY(input, target, weight, sample_weight, axis, ignore_index, terms, reduction, check_targets)

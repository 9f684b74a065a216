"""Losses, divergences and statistics of torch's tensors: signatures and documentation."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..api.statistics import RowStats, TopK
from ..core.divergence import Listed, teacher_as_given
from ..core.statistics import asked, wanted
from . import losses, rowwise
from .tensors import local

Tensor = Any


class CrossEntropy(NamedTuple):
    """A loss and the statistics that were asked for, which are the fields of `fastsoftmax.RowStats`."""

    loss: Any
    log_prob: Any = None
    entropy: Any = None
    log_sum_exp: Any = None
    argmax: Any = None
    max_prob: Any = None
    correct: Any = None
    rank: Any = None
    margin: Any = None
    top_k: Any = None


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
    where: Tensor | None = None,
    class_offset: Tensor | None = None,
    reduction: str = "mean",
    check_targets: bool | None = None,
    stats: str | Sequence[str] = (),
    k: int = 5,
) -> Any:
    """`fastsoftmax.cross_entropy` of tensors, with the axes of ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : Tensor, shape (K,), (N, K) or (N, K, d1, ...)
        Logits of K classes, which lie along `dim` if that is given.
    target : Tensor, shape of `input` without K, or that of `input`
        Class indices of an integer dtype, or probabilities of a floating one.
    weight, sample_weight : Tensor, optional
        Weights >= 0 of the classes, of shape (K,), and of the rows, of the shape of `input` without K.
    ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap
        As for `fastsoftmax.cross_entropy`, which has the formula.
    where, class_offset, reduction, check_targets
        As there; `where` broadcasts to `input`.
    stats : str or sequence of str, default ()
        Statistics of rows to be computed as well, by the names that `fastsoftmax.row_stats` has; `k` is for "top_k".

    Returns
    -------
    Tensor, or CrossEntropy with `stats`
        The loss: float32 for half types, else in the dtype of `input`.  Of the statistics "log_prob", "entropy" and
        "log_sum_exp" are differentiable.

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
    >>> loss, *_ = found = ft.cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=0.1, stats="correct")
    >>> round(loss.item(), 4), found.correct.tolist()
    (0.2809, [True, True])
    """
    input, target, weight, where, class_offset, sample_weight = local(
        input=input, target=target, weight=weight, where=where, class_offset=class_offset, sample_weight=sample_weight
    )
    terms = _terms(label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap)
    axis = (0 if input.ndim == 1 else 1) if dim is None else dim
    axis = -1 if axis == input.ndim - 1 else axis  # the usual one, for which small calls are prepared
    loss = losses.CROSS_ENTROPY(
        *(input, target, weight, where, class_offset, sample_weight),
        *(axis, ignore_index, terms, reduction, check_targets),
    )
    if not stats:
        return loss
    want = wanted(stats, target=True)
    found = rowwise.ROW_STATISTICS(input, target, where, class_offset, axis, terms[-2:], ignore_index, k, want)
    return CrossEntropy(loss, *_by_name(found, want))


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    class_offset: Tensor | None = None,
    reduction: str = "mean",
    block_rows: int | None = None,
    check_targets: bool | None = None,
    shift: int = 0,
    stats: str | Sequence[str] = (),
    k: int = 5,
) -> Any:
    """The loss of the logits ``x @ weight.T + bias``, which are never there all at once.

    Parameters
    ----------
    x : Tensor, shape (..., d)
        Features.
    weight, bias : Tensor, shape (K, d) and (K,)
        As of `torch.nn.Linear`.  Under autocast they and `x` are cast to its dtype.
    target : Tensor, shape (...) or (..., K)
        Class indices of an integer dtype, or probabilities of a floating one.
    class_weight, sample_weight, ignore_index, label_smoothing, ..., block_rows, check_targets
        As for `fastsoftmax.linear_cross_entropy`.
    shift : int >= 0, default 0
        How many steps of a sequence class indices lie ahead: features at step i of ``x``, of shape (..., n, d), predict
        the class at step ``i + shift``.  The last features predict nothing, and nothing is copied but the indices.
    stats : str or sequence of str, default ()
        As for `cross_entropy`.

    Returns
    -------
    Tensor, or CrossEntropy with `stats`
        As from `cross_entropy`.  Row by row it is shorter by `shift`.

    Examples
    --------
    >>> import torch, fastsoftmax.torch as ft
    >>> x, weight = torch.ones(1, 3, 2), torch.zeros(4, 2, requires_grad=True)
    >>> ft.linear_cross_entropy(x, weight, torch.tensor([[0, 1, 2]]), shift=1).backward()
    >>> weight.grad[:, 0].tolist()
    [0.25, -0.25, -0.25, 0.25]
    """
    x, weight, target, bias = local(x=x, weight=weight, target=target, bias=bias)
    class_weight, class_offset, sample_weight = local(
        class_weight=class_weight, class_offset=class_offset, sample_weight=sample_weight
    )
    x, weight, bias = _autocast(x, weight, bias)
    rows = x.shape[:-1]
    if shift:
        target = _ahead(target, rows, shift, ignore_index)
    terms = _terms(label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap)
    x, flat = x.flatten(0, -2), None if sample_weight is None else sample_weight.flatten()
    target = target.flatten() if target.shape == rows else target.flatten(0, -2)
    loss = losses.LINEAR_CROSS_ENTROPY(
        *(x, weight, bias, target, class_weight, class_offset, flat),
        *(ignore_index, terms, reduction, check_targets, block_rows),
    )
    loss = _rows(loss, rows, shift) if reduction == "none" else loss
    if not stats:
        return loss
    want = wanted(stats, target=True)
    found = rowwise.LINEAR_STATISTICS(x, weight, bias, target, class_offset, terms[-2:], ignore_index, k, want)
    return CrossEntropy(loss, *_by_name([_rows(each, rows, shift) for each in found], want))


def row_stats(
    input: Tensor,
    target: Tensor | None = None,
    *,
    want: str | Sequence[str],
    dim: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: Tensor | None = None,
    class_offset: Tensor | None = None,
    k: int = 5,
) -> RowStats:
    """`fastsoftmax.row_stats` of tensors, of which "log_prob", "entropy" and "log_sum_exp" are differentiable.

    >>> import torch, fastsoftmax.torch as ft
    >>> logits = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    >>> found = ft.row_stats(logits, torch.tensor([0]), want=("entropy", "correct"))
    >>> found.entropy.sum().backward()
    >>> logits.grad.sum().abs().item() < 1e-6, found.correct
    (True, tensor([True]))
    """
    input, target, where, offset = local(input=input, target=target, where=where, class_offset=class_offset)
    names = wanted(want, target=target is not None)
    terms = _terms(temperature, softcap)
    found = rowwise.ROW_STATISTICS(input, target, where, offset, dim, terms, ignore_index, k, names)
    return RowStats(*_by_name(found, names))


def kl_divergence(
    student: Tensor,
    teacher: Tensor | tuple[Tensor, Tensor],
    *,
    dim: int = -1,
    temperature: float = 1.0,
    teacher_is: str = "logits",
    direction: str | float = "forward",
    tail: str | None = None,
    where: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`fastsoftmax.kl_divergence` of tensors; the teacher's gradient is slower than the student's.

    A teacher may list classes, as a pair (indices, log_prob): the ``top_k`` of `row_stats`, say.  It needs a `tail`.

    >>> import torch, fastsoftmax.torch as ft
    >>> student, teacher = torch.zeros(1, 2, requires_grad=True), torch.tensor([[0.75, 0.25]])
    >>> ft.kl_divergence(student, teacher, teacher_is="prob").backward()
    >>> student.grad
    tensor([[-0.2500,  0.2500]])
    >>> listed = torch.tensor([[0]]), torch.tensor([[0.75]]).log()
    >>> ft.kl_divergence(student, listed, tail="bucket").backward()
    >>> student.grad
    tensor([[-0.5000,  0.5000]])
    """
    if tail is None and isinstance(teacher, (tuple, list)):
        raise TypeError(
            "teacher must be a Tensor without tail, got a pair; pass tail='bucket', 'renormalize' or 'ignore'"
        )
    given = teacher_as_given(teacher, tail, teacher_is)
    listed, teacher = given[:2] if isinstance(given, Listed) else (None, given)
    tensors = local(student=student, teacher=teacher, listed=listed, where=where, sample_weight=sample_weight)
    which = (direction, 0.0) if isinstance(direction, str) else ("", direction)
    return losses.KL_DIVERGENCE(*tensors, dim, temperature, teacher_is, *which, tail or "", reduction)


def _terms(*values: Any) -> list[float]:
    """Options in the order of `fastsoftmax.core.options.TERMS`; infinity stands for no softcap."""
    return [*values[:-1], math.inf if values[-1] is None else values[-1]]


def _by_name(found: Sequence[Any], want: int) -> list[Any]:
    """The fields of a `RowStats` of results, which has those of `top_k` as a pair."""
    of = dict(zip(asked(want), found, strict=False))
    if "top_k" in of:
        of["top_k"] = TopK(*found[-2:])
    return [of.get(name) for name in RowStats._fields]


def _autocast(*tensors: Any) -> Any:
    """Tensors in the dtype of autocast, where it is on; float64 stays as it is."""
    kind = "cuda" if tensors[0].is_cuda else "cpu"
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return [t if t is None or t.dtype is torch.float64 else t.to(dtype) for t in tensors]


def _ahead(target: Any, rows: Any, shift: int, ignore_index: int) -> Any:
    """Class indices from some steps ahead, and nothing to predict for the last of each sequence."""
    if target.shape != rows:
        raise ValueError(
            f"shift needs class indices of shape {tuple(rows)}, got a target of shape {tuple(target.shape)}; "
            "shift the probabilities before the call"
        )
    return torch.nn.functional.pad(target[..., shift:], (0, min(shift, target.shape[-1])), value=ignore_index)


def _rows(found: Any, rows: Any, shift: int) -> Any:
    """Results of rows that were flattened, in the shape of the rows that predict something."""
    found = found.unflatten(0, rows)
    return found.narrow(len(rows) - 1, 0, max(rows[-1] - shift, 0)) if shift else found

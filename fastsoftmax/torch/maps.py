"""The maps of torch's tensors: signatures and documentation."""

from typing import Any

import torch

from . import rowwise
from .tensors import local

Tensor = Any


def softmax(input: Tensor, dim: int = -1, dtype: Any = None, *, where: Tensor | None = None) -> Tensor:
    """`fastsoftmax.softmax` of a tensor, with the arguments of `torch.softmax` and a mask that broadcasts to `input`.

    >>> import torch, fastsoftmax.torch as ft
    >>> ft.softmax(torch.zeros(4), where=torch.tensor([True, True, False, False]))
    tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """
    return _map(input, dim, dtype, where, log=False)


def log_softmax(input: Tensor, dim: int = -1, dtype: Any = None, *, where: Tensor | None = None) -> Tensor:
    """`fastsoftmax.log_softmax` of a tensor, with the arguments of `torch.log_softmax` and a mask as in `softmax`.

    >>> import torch, fastsoftmax.torch as ft
    >>> ft.log_softmax(torch.zeros(4)).exp()
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return _map(input, dim, dtype, where, log=True)


def logsumexp(
    input: Tensor, dim: int | tuple[int, ...] = -1, keepdim: bool = False, *, where: Tensor | None = None
) -> Tensor:
    """`fastsoftmax.logsumexp` of a tensor, with the arguments of `torch.logsumexp` and a mask as in `softmax`.

    >>> import torch, fastsoftmax.torch as ft
    >>> ft.logsumexp(torch.zeros(2, 4))
    tensor([1.3863, 1.3863])
    """
    input, where = local(input=input, where=where)
    dims = [dim] if isinstance(dim, int) else list(dim)
    found = rowwise.LOGSUMEXP(_wide(input), where, dims)
    for away in sorted(d % max(input.ndim, 1) for d in dims) if keepdim and input.ndim else ():
        found = found.unsqueeze(away)
    return found


def _map(input: Any, dim: int, dtype: Any, where: Any, *, log: bool) -> Any:
    input, where = local(input=input, where=where)
    x = _wide(input) if dtype is None else input.to(dtype)
    return rowwise.SOFTMAX(x, where, dim, log) if x.ndim else rowwise.SOFTMAX(x[None], where, dim, log)[0]


def _wide(input: Any) -> Any:
    """A tensor as torch's own maps have it under autocast, which on a GPU are of float32."""
    return input.float() if input.is_cuda and torch.is_autocast_enabled("cuda") else input

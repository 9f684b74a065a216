"""Tensors as the library's functions take them, without copies, and their results as tensors."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_NARROW = {torch.float16, torch.bfloat16, torch.float32}
_PLAIN = (torch.Tensor, torch.nn.Parameter)  # a set would end a graph of torch 2.4
#: The number of modes that see each operation: those that trace, or count, or have fake tensors.
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_stack = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def array(tensor: Any) -> Any:
    """A view of a tensor's memory, or on a GPU the tensor itself; None for None."""
    if tensor is None:
        return None
    if tensor.dtype is torch.bfloat16 and tensor.is_cpu:  # which NumPy does not know: its bits go through
        return tensor.detach().view(torch.int16).numpy(force=True).view(BFLOAT16)
    return tensor.numpy(force=True) if tensor.is_cpu else tensor.detach()


def factors(tensor: Any, *like: Any) -> Any:
    """Weights or upstream gradients, which GPUs read in the computing dtype and side by side."""
    if tensor is None or tensor.is_cpu:
        return array(tensor)
    return tensor.detach().to(computed(*like)).contiguous()


def indices(target: Any) -> Any:
    """A target, whose class indices GPUs read as int64 or int32, side by side."""
    if target is None or target.is_cpu or target.is_floating_point():
        return array(target)
    return (target if target.dtype in (torch.int32, torch.int64) else target.long()).contiguous()


def tensor(result: Any) -> Any:
    """A result, an array or a scalar of NumPy's or a tensor, as a tensor on the same memory."""
    if isinstance(result, torch.Tensor):
        return result
    found = np.asarray(result)
    try:
        return torch.from_numpy(found)
    except TypeError:  # of bfloat16
        return torch.from_numpy(found.view(np.int16)).view(torch.bfloat16)


def output(like: Any) -> Any:
    """An array for results in the shape of a tensor, with the strides of `torch.empty_like`.

    None where the library's own arrays have them: those above 4 MB come in large pages, and torch's do not.
    """
    return None if like.is_contiguous() or not like.is_cpu else torch.empty_like(like)


def row_shape(x: Any, dim: int) -> list[Any]:
    """The shape of a number for each row."""
    return [n for i, n in enumerate(x.shape) if i != dim % x.ndim]


def computed(*like: Any) -> Any:
    """The dtype that some tensors are computed in together."""
    return torch.float32 if all(t.dtype in _NARROW for t in like) else torch.float64


def seen(tensors: Sequence[Any]) -> bool:
    """Whether anything but autograd is to see an operation on tensors: a compiler, a transform, a mode, a subclass."""
    if torch.compiler.is_compiling() or _modes() or _stack():
        return True
    for t in tensors:  # noqa: SIM110  half a microsecond less than a generator
        if t is not None and (type(t) not in _PLAIN or not (t.is_cpu or t.is_cuda)):
            return True
    return False


def transforms() -> bool:
    """Whether a transform of `torch.func` looks on, and no compiler, which looks for itself."""
    return not torch.compiler.is_compiling() and _stack()


def local(**tensors: Any) -> Any:
    """Tensors on this process: of those that are spread over several, only ones of which each has a copy."""
    for t in tensors.values():
        if t is not None and type(t) not in _PLAIN:
            return [t if t is None or type(t) in _PLAIN else _local(name, t) for name, t in tensors.items()]
    return tensors.values()


def _local(name: str, tensor: Any) -> Any:
    if not isinstance(tensor, torch.Tensor):
        kind = type(tensor)
        raise TypeError(
            f"{name} must be a torch.Tensor, got a {kind.__module__}.{kind.__name__}; pass torch.as_tensor({name})"
        )
    placements = getattr(tensor, "placements", None)
    if placements is None or not hasattr(tensor, "full_tensor"):
        return tensor
    if all(placement.is_replicate() for placement in placements):
        return tensor.to_local()
    raise TypeError(
        f"{name} must be replicated over its mesh, got a DTensor with placements {placements}; "
        f"pass {name}.full_tensor(), which gathers it"
    )

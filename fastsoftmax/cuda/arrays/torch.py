"""PyTorch: tensors, the current stream of a device, and products."""

import sys
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

from ...core import memo
from ...core.strides import contiguous
from .library import NOWHERE, Description, Library, module
from .products import Products


class Torch(Products):
    """PyTorch, whose cuBLAS reads and writes rows that lie apart, and adds to what is there."""

    name = "torch"
    to_device = "torch.as_tensor({0}, device={1}.device)"
    cast = "{0}.to(torch.{1})"
    contiguous = "{0}.contiguous()"
    pitched = True
    adds = True

    def __init__(self) -> None:
        memo.on_clear(vars(self).clear)

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Tensors with a gradient, or a pending minus sign, look different from those without."""
        try:
            special = array.requires_grad or array.is_neg()
            return (array.shape, array.stride(), array.dtype, array.get_device(), special), array.data_ptr(), array
        except RuntimeError:  # a tensor that is sparse, say: one that no call can have is not hashable
            return [], 0, array

    def call_key(self, x: Any, y: Any, out: Any) -> Any:
        """For tensors on one GPU that calls can take, in as few steps as Python allows: half of a call.

        Strides of contiguous ones follow from their shape, and torch is faster to say that.
        """
        kind, device = type(x), x.get_device()
        y_at = at = 0
        second = result = None
        try:
            if device < 0 or x.requires_grad or x.is_neg():
                return None
            x_at = x.data_ptr()
            first = x.shape, x.is_contiguous() or x.stride(), x.dtype, device, x_at & 15 if x_at else None
            if y is not None:
                if type(y) is not kind or y.get_device() != device or y.requires_grad or y.is_neg():
                    return None
                y_at = y.data_ptr()
                second = y.shape, y.is_contiguous() or y.stride(), y.dtype, y_at & 15 if y_at else None
            if out is not None:
                if type(out) is not kind or out.get_device() != device or out.requires_grad or out.is_neg():
                    return None
                at = out.data_ptr()
                aligned = at & 15 if at else None
                result = out.shape, out.is_contiguous() or out.stride(), out.dtype, aligned, at == x_at, at == y_at
        except RuntimeError:  # as in `key`
            return None
        return (first, second, result), self.current_stream(device), x_at, y_at, at, None

    def describe(self, array: Any, key: Any) -> Description:
        """Strides become bytes."""
        if not key:
            return NOWHERE
        shape, strides, dtype, device, _ = key
        return Description(
            tuple(shape), tuple(s * dtype.itemsize for s in strides), str(dtype)[len("torch.") :], device
        )

    @cached_property
    def current_stream(self) -> Callable[[int], int]:
        """The current stream of a device, as torch tells it to the launches of its own compiler, if it can."""
        torch = module("torch")
        raw: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
        return raw or (lambda device: torch.cuda.current_stream(device).cuda_stream)

    def stream(self, array: Any) -> int:
        """The current stream of the tensor's device."""
        device = array.get_device()
        return self.current_stream(device) if device >= 0 else 0

    @cached_property
    def address(self) -> Any:
        """Torch's own function: ours around it would take twice as long."""
        return module("torch").Tensor.data_ptr

    def empty_like(self, array: Any, stream: int, dtype: str | None = None) -> Any:
        """By torch's caching allocator."""
        torch = sys.modules["torch"]
        return torch.empty_like(array) if dtype is None else torch.empty_like(array, dtype=getattr(torch, dtype))

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """By torch's caching allocator."""
        return _torch_empty(shape, dtype, like.device)

    def factory(self, like: Any, shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
        """Of torch's functions those that take least: a number is made after one that is kept for it."""
        torch = module("torch")
        if shape == ():
            return partial(torch.empty_like, _torch_number(dtype, like.device))
        how = {"dtype": getattr(torch, dtype), "device": like.device}
        return partial(torch.empty_strided, shape, contiguous(shape, 1), **how)

    def refused(self, array: Any, name: str) -> str | None:
        """Tensors without memory of their own are refused, and those that require a gradient."""
        if not self.key(array, 0)[0]:
            return (
                f"{name} must be a dense tensor with memory of its own, got one of layout {array.layout} that has no "
                f"address; use {name}.to_dense(), and no transform such as torch.func.vmap"
            )
        if array.requires_grad:
            return (
                f"{name} must not require a gradient, as this function is not differentiated by autograd; use "
                f"{name}.detach(), and cross_entropy_and_grad or the functions' products for gradients"
            )
        return f"{name} must have its minus sign applied; use {name}.resolve_neg()" if array.is_neg() else None

    def logits(self, x: Any, weight: Any, bias: Any, out: Any) -> None:
        """In one call: the bias is what the product is added to."""
        torch = module("torch")
        if bias is None:
            torch.mm(x, weight.T, out=out)
        else:
            torch.addmm(bias, x, weight.T, out=out)

    def product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, in float32 on the way for half types."""
        module("torch").mm(a, b, out=out)

    def add_product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, whose β is 1."""
        module("torch").addmm(out, a, b, out=out)

    def copy(self, array: Any, out: Any) -> None:
        """Rounded where that is narrower."""
        out.copy_(array)

    def zero(self, out: Any) -> None:
        """In place."""
        out.zero_()

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """Equal ones in the order of their places; which of them are among the k is PyTorch's choice."""
        torch = module("torch")
        places = torch.sort(torch.topk(rows, k, 1)[1], 1)[0]
        numbers, order = torch.sort(torch.gather(rows, 1, places), dim=1, descending=True, stable=True)
        return numbers, torch.gather(places, 1, order)

    def normalise(self, weights: Any, out: Any) -> None:
        """Summed in float64."""
        torch = module("torch")
        torch.div(weights, torch.sum(weights, 0, dtype=torch.float64), out=out)


class Derived(Library):
    """Classes that are derived from torch's: the memory of a tensor is not what they stand for, if they have any."""

    name = "torch"

    def refused(self, array: Any, name: str) -> str | None:
        """All of them."""
        kind = type(array)
        mend = f"{name}.to_local()" if hasattr(kind, "to_local") else f"{name}.as_subclass(torch.Tensor)"
        return (
            f"{name} must be a torch.Tensor or torch.nn.Parameter on a GPU, got a {kind.__module__}.{kind.__name__}, "
            f"whose memory may not be what it stands for; pass {mend}"
        )


def _torch_empty(shape: tuple[int, ...], dtype: str, device: Any) -> Any:
    torch = module("torch")
    return torch.empty_strided(shape, contiguous(shape, 1), dtype=getattr(torch, dtype), device=device)


@lru_cache(maxsize=64)
def _torch_number(dtype: str, device: Any) -> Any:
    """A tensor of one number, for others to be made after."""
    return _torch_empty((), dtype, device)


memo.on_clear(_torch_number.cache_clear)

"""The libraries whose arrays lie on GPUs: what arrays look like, their address, their stream, new ones of their kind.

None is imported: who has one of CuPy's arrays has imported CuPy.  Nothing here waits for a GPU or copies an element.
"""

import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from ...core import memo
from . import dlpack
from .array import Array

LEGACY = 1  # the default stream's handle, where 0 would be ambiguous


class Look(NamedTuple):
    """All that checks and plans depend on; strides in bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str  # NumPy's name, or what is wrong with it
    device: int
    readonly: bool = False


NOWHERE = Look((), (), "", -1)


class Library:
    """What has to be known of a library's arrays."""

    name = ""
    mutable = True
    current = True  # whether work is put on the library's current stream, whichever array it is for
    waits = False  # whether arrays were made to wait for when they were looked at
    to_device = "a copy on the GPU"  # how a user gets what is named {0} there
    cast = "{0} converted to {1}"
    contiguous = "a contiguous copy of {0}"

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """(what is hashed for the array's look, its address, what holds its memory): at a few attributes' cost."""
        raise NotImplementedError

    def call_key(self, x: Any, y: Any, out: Any) -> Any:
        """What `lookup.call_key` gives, where the library has a shorter way for such arrays; else None."""
        return None

    def look(self, array: Any, peeked: Any) -> Look:
        """What an array looks like, from the array and what was hashed for it."""
        raise NotImplementedError

    def stream(self, array: Any) -> int:
        """The handle of the stream that work on an array is put on."""
        raise NotImplementedError

    def like(self, array: Any, stream: int) -> Any:
        """A new array in the shape, dtype and, where it can be, memory order of another."""
        raise NotImplementedError

    def address(self, made: Any) -> int:
        """The address of a new array."""
        return int(made.pointer)

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """A new C-contiguous array on the device of another."""
        raise NotImplementedError

    def maker(self, like: Any, shape: tuple[int, ...], dtype: str) -> Callable[[], Any] | None:
        """What makes such new arrays again and again, where there is a shorter way than `new`."""
        return None

    def delivered(self, array: Any) -> Any:
        """A new array as the library's users know it."""
        return array

    def refused(self, array: Any, name: str) -> str | None:
        """What is wrong with an array that its look does not say."""
        return None


class Torch(Library):
    """PyTorch."""

    name = "torch"
    to_device = "torch.as_tensor({0}, device={1}.device)"
    cast = "{0}.to(torch.{1})"
    contiguous = "{0}.contiguous()"

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Tensors with a gradient, or a pending minus sign, look different from those without."""
        try:
            special = array.requires_grad or array.is_neg()
            return (array.shape, array.stride(), array.dtype, array.get_device(), special), array.data_ptr(), array
        except RuntimeError:  # a tensor that is sparse, say: one that no call can have is not hashable
            return [], 0, array

    def call_key(self, x: Any, y: Any, out: Any) -> Any:
        """For tensors of one type, in as few steps as Python allows: most of what such a call takes."""
        kind = type(x)
        if (y is not None and type(y) is not kind) or (out is not None and type(out) is not kind):
            return None
        y_at = at = 0
        second = result = None
        try:
            x_at = x.data_ptr()
            place = x_at & 15 if x_at else None
            first = x.shape, x.stride(), x.dtype, x.get_device(), x.requires_grad, x.is_neg(), place
            if y is not None:
                y_at = y.data_ptr()
                place = y_at & 15 if y_at else None
                second = y.shape, y.stride(), y.dtype, y.get_device(), y.requires_grad, y.is_neg(), place
            if out is not None:
                at = out.data_ptr()
                place = at & 15 if at else None
                result = out.shape, out.stride(), out.dtype, out.get_device(), out.requires_grad, out.is_neg(), place
        except RuntimeError:  # as in `peek`
            return None
        return (first, second, result, at == x_at, at == y_at), x_at, y_at, at, (x, y, out)

    def look(self, array: Any, peeked: Any) -> Look:
        """Strides become bytes."""
        if not peeked:
            return NOWHERE
        shape, strides, dtype, device, _ = peeked
        return Look(tuple(shape), tuple(s * dtype.itemsize for s in strides), str(dtype)[len("torch.") :], device)

    def stream(self, array: Any) -> int:
        """The current stream of the tensor's device."""
        device = array.get_device()
        return torch_stream()(device) if device >= 0 else 0

    def address(self, made: Any) -> int:
        """By one attribute."""
        return made.data_ptr()  # type: ignore[no-any-return]

    def like(self, array: Any, stream: int) -> Any:
        """By torch's caching allocator."""
        return _module("torch").empty_like(array)

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """By torch's caching allocator."""
        return _torch_empty(shape, dtype, like.device)

    def maker(self, like: Any, shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
        """Of torch's functions those that take least: a number is made after one that is kept for it."""
        torch = _module("torch")
        if shape == ():
            return partial(torch.empty_like, _torch_number(dtype, like.device))
        how = {"dtype": getattr(torch, dtype), "device": like.device}
        return partial(torch.empty_strided, shape, dlpack.contiguous(shape, 1), **how)

    def refused(self, array: Any, name: str) -> str | None:
        """What has no memory of its own, and whatever autograd would have to know of."""
        if not self.peek(array, 0)[0]:
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


class Elsewhere(Library):
    """Whatever lies in main memory; checks refuse it."""

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Not hashable, so that no call is ever like one with such an argument."""
        return [], 0, array

    def look(self, array: Any, peeked: Any) -> Look:
        """On no device."""
        return NOWHERE

    def stream(self, array: Any) -> int:
        """None, in truth."""
        return 0


class Derived(Elsewhere):
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


class Cupy(Library):
    """CuPy."""

    name = "cupy"
    to_device = "cupy.asarray({0})"
    cast = "{0}.astype(cupy.{1})"
    contiguous = "cupy.ascontiguousarray({0})"

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Strides are in bytes already."""
        memory = array.data
        return (array.shape, array.strides, array.dtype, memory.device_id), memory.ptr, array

    def look(self, array: Any, peeked: Any) -> Look:
        """As peeked."""
        shape, strides, dtype, device = peeked
        return Look(shape, strides, dtype_name(dtype), device)

    def stream(self, array: Any) -> int:
        """The current stream of the array's device."""
        return int(_module("cupy").cuda.get_current_stream(array.data.device_id).ptr)

    def address(self, made: Any) -> int:
        """By two attributes."""
        return int(made.data.ptr)

    def _on(self, array: Any) -> Any:
        return _module("cupy").cuda.Device(array.data.device_id)

    def like(self, array: Any, stream: int) -> Any:
        """By CuPy's memory pool, which goes by the current device."""
        with self._on(array):
            return _module("cupy").empty_like(array)

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """By CuPy's memory pool, which goes by the current device."""
        with self._on(like):
            return _module("cupy").empty(shape, dtype)


class Interface(Library):
    """Any array with the CUDA array interface; results are arrays of this package's own."""

    current = False

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """The interface makes a dictionary each time: some microseconds."""
        about = array.__cuda_array_interface__
        address, readonly = about["data"]
        masked = about.get("mask") is not None
        strides, dtype = about.get("strides"), about["typestr"]
        return (about["shape"], strides, dtype, device_of(address), readonly, masked), address, array

    def look(self, array: Any, peeked: Any) -> Look:
        """The interface leaves out the strides of a C-contiguous array."""
        shape, strides, typestr, device, readonly, masked = peeked
        dtype = np.dtype(typestr)
        if strides is None:
            strides = dlpack.contiguous(shape, dtype.itemsize)
        return Look(tuple(shape), tuple(strides), "masked" if masked else dtype_name(dtype), device, readonly)

    def stream(self, array: Any) -> int:
        """The stream that the array's contents are ordered on."""
        return array.__cuda_array_interface__.get("stream") or LEGACY

    def like(self, array: Any, stream: int) -> Any:
        """C-contiguous."""
        look = self.look(array, self.peek(array, stream)[0])
        return self.new(array, look.shape, look.dtype, stream)

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Of memory from NVIDIA's own pool."""
        return Array(shape, dtype, device_of(self.peek(like, stream)[1]), stream)


class Numba(Interface):
    """Numba's device arrays."""

    name = "numba"
    to_device = "cuda.to_device({0})"

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """By attributes, without the interface's dictionary."""
        address = array.device_ctypes_pointer.value or 0
        return (array.shape, array.strides, array.dtype, device_of(address), False, False), address, array

    def look(self, array: Any, peeked: Any) -> Look:
        """As peeked."""
        shape, strides, dtype, device, *_ = peeked
        return Look(shape, strides, dtype_name(dtype), device)

    def stream(self, array: Any) -> int:
        """The stream that an array was bound to, or the default one."""
        return int(array.stream) or LEGACY

    def address(self, made: Any) -> int:
        """By an attribute."""
        return made.device_ctypes_pointer.value or 0

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Bound to the stream of the call."""
        numba = _module("numba").cuda
        with numba.gpus[device_of(self.peek(like, stream)[1])]:
            bound = 0 if stream == LEGACY else numba.external_stream(stream)
            return numba.device_array(shape, np.dtype(dtype), stream=bound)


class Exchanged(Library):
    """Any array with DLPack: its producer makes our stream wait for what it still has to do."""

    current = False
    waits = True

    def peek(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Without its capsule an array's owner may overwrite the memory, as JAX does with donated arrays."""
        try:
            capsule = array.__dlpack__(stream=stream or LEGACY)
        except BufferError as error:
            raise TypeError(f"an array on a GPU cannot be read by DLPack: {error}") from error
        found = dlpack.read(capsule)
        return found[1:], found.pointer, capsule

    def look(self, array: Any, peeked: Any) -> Look:
        """As peeked."""
        return Look(*peeked)

    def stream(self, array: Any) -> int:
        """DLPack has no current stream: the default one."""
        return LEGACY

    def like(self, array: Any, stream: int) -> Any:
        """C-contiguous."""
        look = self.look(array, self.peek(array, stream)[0])
        return self.new(array, look.shape, look.dtype, stream)

    def new(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Of memory from NVIDIA's own pool."""
        return Array(shape, dtype, int(like.__dlpack_device__()[1]), stream)


class Jax(Exchanged):
    """JAX, whose arrays never change."""

    name = "jax"
    mutable = False
    to_device = "jax.device_put({0}, {1}.device)"
    cast = "{0}.astype({1!r})"
    contiguous = "a copy of {0} in the default layout"

    def delivered(self, array: Any) -> Any:
        """A JAX array of the same memory."""
        return _module("jax").dlpack.from_dlpack(array) if isinstance(array, Array) else array


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype; of another byte order it says so."""
    return dtype.name if dtype.isnative else f"byte-swapped {dtype.name}"


def _module(name: str) -> Any:
    """A library that is imported already, as there are arrays of its."""
    return sys.modules[name]


@lru_cache(maxsize=1)
def torch_stream() -> Any:
    """How torch tells the handle of a device's current stream: as to the launches of its own compiler, if it can."""
    torch = _module("torch")
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return raw or (lambda device: torch.cuda.current_stream(device).cuda_stream)


def _torch_empty(shape: tuple[int, ...], dtype: str, device: Any) -> Any:
    torch = _module("torch")
    return torch.empty_strided(shape, dlpack.contiguous(shape, 1), dtype=getattr(torch, dtype), device=device)


@lru_cache(maxsize=64)
def _torch_number(dtype: str, device: Any) -> Any:
    """A tensor of one number, for others to be made after."""
    return _torch_empty((), dtype, device)


for _function in (torch_stream, _torch_number):
    memo.on_clear(_function.cache_clear)


def device_of(address: int) -> int:
    """The GPU that an address belongs to; the current one for that of an empty array."""
    from ..toolkit import compiler  # noqa: PLC0415  so that this module says what arrays are like without a driver

    return compiler.device_of(address) if address else compiler.current_device()

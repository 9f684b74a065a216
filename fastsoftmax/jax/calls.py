"""Calls of the library from what XLA has compiled: buffers as arrays, axes of vmap, and derivatives."""

import ctypes
import mmap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..core.devices import on_cuda
from ..core.rules import axis_of
from ..cuda.arrays.lent import Lent

try:
    from jax.experimental.buffer_callback import buffer_callback as _buffer_callback
except ImportError:  # experimental: it may go as it came
    _buffer_callback = None

Struct: Any = jax.ShapeDtypeStruct
#: An entry of what is kept for the backward pass that says yes by its structure, as None says no: neither is an array.
YES: tuple[()] = ()
#: XLA's new memory comes in pages of 4 KB, which the system clears one by one: half the time of 1024x32000.
HUGE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
LARGE = 1 << 22  # bytes from which on NumPy asks for large pages, too


class Call(NamedTuple):
    """A kernel with its constants, as XLA calls it: equal ones are compiled once."""

    kernel: Callable[..., None]  # of constants, arrays to write, and arrays to read
    constants: Any
    written: int  # axes of the first result: those before are vmap's
    read: tuple[int, ...]  # axes of what is read
    rowwise: bool  # whether axes of vmap are rows like others

    def __call__(self, ctx: Any, outs: Sequence[Any], *buffers: Any) -> None:
        """Fill buffers with the results."""
        if on_cuda(outs[0]):
            lent = partial(Lent.of, stream=int(ctx.stream))
            self.fill(list(map(lent, outs)), [maybe(lent, b) for b in buffers])
        else:
            self.fill([in_large_pages(np.asarray(out)) for out in outs], [maybe(np.asarray, b) for b in buffers])

    def fill(self, outs: Sequence[Any], arrays: Sequence[Any]) -> None:
        """Fill arrays with the results."""
        batch = outs[0].shape[: outs[0].ndim - self.written]
        together, spread = not batch or self.rowwise, list(arrays)
        for i, (array, rank) in enumerate(zip(arrays, self.read, strict=True)):
            if batch and array is not None:
                spread[i] = broadcast(array, batch + array.shape[array.ndim - rank :])
                # On a GPU kernels read no numbers of rows that are broadcast.
                together = together and (isinstance(array, np.ndarray) or spread[i].shape == array.shape)
        if together:
            self.kernel(self.constants, outs, *spread)
            return
        for place in np.ndindex(batch):
            one = [None if a is None else a[(*place, ...)] for a in spread]
            self.kernel(self.constants, [out[(*place, ...)] for out in outs], *one)


class Returning(NamedTuple):
    """The same for `jax.pure_callback`, which wants new arrays."""

    call: Call
    results: tuple[Any, ...]  # shapes and dtypes

    def __call__(self, *arrays: Any) -> list[Any]:
        """The results."""
        given = [maybe(np.asarray, a) for a in arrays]
        pairs = zip(given, self.call.read, strict=True)
        batch = np.broadcast_shapes(*(a.shape[: a.ndim - rank] for a, rank in pairs if a is not None))
        outs = [np.empty(batch + result.shape, result.dtype) for result in self.results]
        self.call.fill(outs, given)
        return outs


def call(kernel: Any, constants: Any, results: Sequence[Any], *arrays: Any, rowwise: bool) -> list[Any]:
    """The results of a kernel, of arrays or None."""
    read = tuple(0 if a is None else a.ndim for a in arrays)
    made = Call(kernel, constants, len(results[0].shape), read, rowwise)
    if _buffer_callback is not None:
        found = _buffer_callback(made, list(results), vmap_method="expand_dims")(*arrays)
    else:
        returning = Returning(made, tuple(results))
        found = jax.pure_callback(returning, list(results), *arrays, vmap_method="expand_dims")
    return list(found)


def in_large_pages(out: Any) -> Any:
    """An array, which the system may give large pages where it has none yet: Linux does, others need not be asked."""
    if HUGE is not None and out.nbytes >= LARGE:
        begin = -out.ctypes.data % mmap.PAGESIZE  # what is left of the first page
        at, size = ctypes.c_void_p(out.ctypes.data + begin), ctypes.c_size_t(out.nbytes - begin)
        ctypes.CDLL(None).madvise(at, size, HUGE)  # advice: whether it is taken shows in the time alone
    return out


def broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    """An array with axes of vmap that it may not have."""
    return np.broadcast_to(array, shape) if isinstance(array, np.ndarray) else array.broadcast(shape)


def maybe(function: Callable[[Any], Any], value: Any) -> Any:
    """A function of a value; of None, None."""
    return None if value is None else function(value)


def fitted(where: Any, x: Any) -> Any:
    """A mask with as many axes as what it masks: vmap's come before them."""
    return None if where is None else where.reshape((1,) * (x.ndim - where.ndim) + where.shape)


def indices(target: Any) -> Any:
    """Class indices of NumPy's in int64, of which calls are prepared: JAX's are int32; all others as they are."""
    whole = isinstance(target, np.ndarray) and target.dtype.kind in "iu"
    return target.astype(np.int64, copy=False) if whole else target


def from_end(axis: Any, x: Any, name: str) -> int:
    """An axis counted from the end: vmap's come first."""
    ndim: int = x.ndim
    return axis_of(axis, ndim, name) - ndim


def row_shape(x: Any, axis: int) -> tuple[int, ...]:
    """The shape of a number for each row."""
    return tuple(n for i, n in enumerate(x.shape) if i != axis % x.ndim)


def floating(x: Any) -> Any:
    """An array of real numbers: what is none becomes JAX's default."""
    array = jnp.asarray(x)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def computed(*arrays: Any) -> Any:
    """The dtype that arrays are computed in, and losses are."""
    return jnp.float64 if any(a is not None and a.dtype == jnp.float64 for a in arrays) else jnp.float32


def like(array: Any) -> Any:
    """A result of the shape and dtype of an array."""
    return Struct(array.shape, array.dtype)


def empty(array: Any) -> Any:
    """An array of NumPy's with a shape and a dtype, and next to no memory: what checks look at while JAX traces."""
    return None if array is None else np.broadcast_to(np.ones((), array.dtype), array.shape)


def by_formula(formula: Callable[..., Any], constants: Any, given: Sequence[Any], upstream: Any) -> list[Any]:
    """Gradients of a formula in plain JAX; None for what has none."""
    real = [i for i, a in enumerate(given) if a is not None and jnp.issubdtype(a.dtype, jnp.floating)]

    def of_real(*arrays: Any) -> Any:
        all_of_them = list(given)
        for i, a in zip(real, arrays, strict=True):
            all_of_them[i] = a
        return formula(constants, *all_of_them)

    _, pull = jax.vjp(of_real, *(given[i] for i in real))
    result: list[Any] = [None] * len(given)
    for i, grad in zip(real, pull(upstream), strict=True):
        result[i] = grad
    return result


def differentiable(compute: Callable[..., Any], formula: Callable[..., Any]) -> Callable[..., Any]:
    """A function (constants, *arrays) by a kernel, whose derivatives are those of a formula."""
    function: Any = jax.custom_vjp(compute, nondiff_argnums=(0,))
    function.defvjp(
        lambda constants, *given: (function(constants, *given), given),  # so that this has a derivative too
        lambda constants, given, upstream: tuple(by_formula(formula, constants, given, upstream)),
    )
    made: Callable[..., Any] = function
    return made


def dense(upstream: Any) -> Any:
    """An upstream gradient, zeros where it is known to be 0."""
    return jnp.zeros(upstream.shape, upstream.dtype) if isinstance(upstream, SymbolicZero) else upstream

"""Functions of rows: softmax, its logarithm and log-sum-exp."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from ..api import softmax as maps
from ..core import rules
from ..core.options import Options
from ..cpu import check
from . import formulas
from .calls import Struct, call, computed, differentiable, empty, fitted, floating, from_end, like, maybe, row_shape
from .statistics import stats_vjp

MAPS = {False: (maps.softmax, maps.softmax_vjp), True: (maps.log_softmax, maps.log_softmax_vjp)}


def _map_kernel(constants: Any, outs: Any, x: Any, where: Any) -> None:
    axis, log = constants
    MAPS[log][0](x, axis, where=where, out=outs[0])


def _vjp_kernel(constants: Any, outs: Any, y: Any, grad: Any) -> None:
    axis, log = constants
    MAPS[log][1](y, grad, axis, out=outs[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _map(constants: Any, x: Any, where: Any) -> Any:
    return call(_map_kernel, constants, [like(x)], x, where, rowwise=True)[0]


def _map_forward(constants: Any, x: Any, where: Any) -> tuple[Any, Any]:
    y = _map(constants, x, where)
    return y, (y, where)


def _map_backward(constants: Any, kept: Any, grad: Any) -> tuple[Any, None]:
    y, where = kept
    return _vjp(constants, y, grad if where is None else jnp.where(where, grad, jnp.zeros_like(grad))), None


def _vjp_of_map(constants: Any, y: Any, grad: Any) -> Any:
    return call(_vjp_kernel, constants, [like(y)], y, grad, rowwise=True)[0]


_vjp = differentiable(_vjp_of_map, formulas.softmax_vjp)
_map.defvjp(_map_forward, _map_backward)


def _along(x: Any, axis: Any, where: Any, *, nothing: bool = False) -> tuple[tuple[int, ...], int, Any, Any]:
    """(axes; one axis, counted from the end as vmap's come first; an array and a mask whose axes these are made into).

    Several axes are joined at the end; there may be `nothing` along them.
    """
    axis, mask = rules.alone(axis, x.ndim), maybe(jnp.asarray, where)
    if axis is not None and not isinstance(axis, tuple):
        check.row_map(empty(x), axis, None, empty=nothing, where=empty(mask))
        axis = from_end(axis, x, "x")
        return (axis % x.ndim,), axis, x, fitted(mask, x)
    axes = check.over_axes(empty(x), axis, None, empty=nothing, where=empty(mask)).axes
    return axes, -1, _joined(x, axes), maybe(lambda mask: _joined(jnp.broadcast_to(mask, x.shape), axes), mask)


def _joined(x: Any, axes: tuple[int, ...]) -> Any:
    """An array whose last axis is made of some axes."""
    rest = x.ndim - len(axes)
    x = jnp.moveaxis(x, axes, range(rest, x.ndim))
    return x.reshape((*x.shape[:rest], math.prod(x.shape[rest:])))


def _map_of(x: Any, axis: Any, where: Any, *, log: bool) -> Any:
    x = floating(x)
    axes, along, rows, mask = _along(x, axis, where)
    y = _map((along, log), rows, mask)
    if rows is x:
        return y
    y = y.reshape((*rows.shape[:-1], *(x.shape[i] for i in axes)))
    return jnp.moveaxis(y, range(x.ndim - len(axes), x.ndim), axes)


def softmax(x: Any, axis: int | tuple[int, ...] | None = -1, *, where: Any = None) -> Any:
    """`fastsoftmax.softmax` of JAX's arrays.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int, tuple of int or None, default -1
        The axes that are summed over: None means all, and () none.
    where : array_like of bool, optional
        The elements that are there, as a mask that broadcasts to `x`: others are not looked at, as if they were -inf.

    Returns
    -------
    jax.Array
        The shape and dtype of `x`.

    Notes
    -----
    Several axes that are not the last ones are moved there and back by XLA.

    Examples
    --------
    >>> import jax.numpy as jnp, fastsoftmax.jax as fj
    >>> print(fj.softmax(jnp.zeros(3), where=jnp.array([True, True, False])))
    [0.5 0.5 0. ]
    """
    return _map_of(x, axis, where, log=False)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = -1, *, where: Any = None) -> Any:
    """`fastsoftmax.log_softmax` of JAX's arrays.

    Parameters
    ----------
    x, axis, where
        As for `softmax`.

    Returns
    -------
    jax.Array
        The shape and dtype of `x`.

    Examples
    --------
    >>> import jax.numpy as jnp, fastsoftmax.jax as fj
    >>> print(fj.log_softmax(jnp.array([0.0, 100.0])))
    [-100.    0.]
    """
    return _map_of(x, axis, where, log=True)


def _lse_kernel(axis: Any, outs: Any, x: Any, where: Any) -> None:
    outs[0][...] = maps.logsumexp(x, axis, where=where)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lse(axis: int, x: Any, where: Any) -> Any:
    return call(_lse_kernel, axis, [Struct(row_shape(x, axis), x.dtype)], x, where, rowwise=True)[0]


def _lse_forward(axis: int, x: Any, where: Any) -> tuple[Any, Any]:
    return _lse(axis, x, where), (x, where)


def _lse_backward(axis: int, kept: Any, upstream: Any) -> tuple[Any, None]:
    x, where = kept
    # Rows of which nothing is there have a value, -inf, and no gradient: they are ignored.
    used = maybe(lambda mask: jnp.where(jnp.broadcast_to(mask, x.shape).any(axis), 0, -100), where)
    up, constants = upstream.astype(computed(x)), (axis, Options(reduction="none"))
    return stats_vjp(constants, x, used, where, None, None, None, up), None


_lse.defvjp(_lse_forward, _lse_backward)


def logsumexp(x: Any, axis: int | tuple[int, ...] | None = -1, *, where: Any = None, keepdims: bool = False) -> Any:
    """`fastsoftmax.logsumexp` of JAX's arrays.

    Parameters
    ----------
    x, axis, where
        As for `softmax`.
    keepdims : bool, default False
        Keep the axes that were summed over, with length 1.

    Returns
    -------
    jax.Array
        In the dtype of `x`.

    Examples
    --------
    >>> import jax.numpy as jnp, fastsoftmax.jax as fj
    >>> print(fj.logsumexp(jnp.array([1000.0, -jnp.inf])))
    1000.0
    """
    axes, along, rows, mask = _along(floating(x), axis, where, nothing=True)
    found = _lse(along, rows, mask)
    return jnp.expand_dims(found, axes) if keepdims else found

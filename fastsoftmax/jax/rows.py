"""Functions of rows: softmax, its logarithm, log-sum-exp and statistics."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..api import softmax as maps
from ..api import statistics as api
from ..api.statistics import RowStats, TopK
from ..core import statistics
from ..core.conversion import positive
from ..core.options import Options, transforms
from ..cpu import derived
from . import formulas
from .calls import Struct, call, computed, differentiable, empty, floating, from_end, like, row_shape

MAPS = {False: (maps.softmax, maps.softmax_vjp), True: (maps.log_softmax, maps.log_softmax_vjp)}


def _map_kernel(constants: Any, outs: Any, x: Any) -> None:
    axis, log = constants
    MAPS[log][0](x, axis, out=outs[0])


def _vjp_kernel(constants: Any, outs: Any, y: Any, grad: Any) -> None:
    axis, log = constants
    MAPS[log][1](y, grad, axis, out=outs[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _map(constants: Any, x: Any) -> Any:
    return call(_map_kernel, constants, [like(x)], x, rowwise=True)[0]


def _map_forward(constants: Any, x: Any) -> tuple[Any, Any]:
    y = _map(constants, x)
    return y, y


def _vjp_of_map(constants: Any, y: Any, grad: Any) -> Any:
    return call(_vjp_kernel, constants, [like(y)], y, grad, rowwise=True)[0]


_vjp = differentiable(_vjp_of_map, formulas.softmax_vjp)
_map.defvjp(_map_forward, lambda constants, y, grad: (_vjp(constants, y, grad),))


def softmax(x: Any, axis: int = -1) -> Any:
    """`fastsoftmax.softmax` of JAX's arrays.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int, default -1
        The axis that is summed over.

    Returns
    -------
    jax.Array
        The shape and dtype of `x`.

    Examples
    --------
    >>> import jax.numpy as jnp, fastsoftmax.jax as fj
    >>> print(fj.softmax(jnp.array([0.0, 0.0])))
    [0.5 0.5]
    """
    x = floating(x)
    return _map((from_end(axis, x, "x"), False), x)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """`fastsoftmax.log_softmax` of JAX's arrays.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int, default -1
        The axis that is summed over.

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
    x = floating(x)
    return _map((from_end(axis, x, "x"), True), x)


def _stats_kernel(constants: Any, outs: Any, x: Any, target: Any) -> None:
    axis, o, variant, k = constants
    want = statistics.asked(variant)
    found = api.row_stats(x, target, want=want, axis=axis, k=max(k, 1), **_used(o))
    arrays = [a for name in want for a in _parts(getattr(found, name))]
    for out, array in zip(outs, arrays, strict=True):
        out[...] = array


def _used(o: Options) -> dict[str, Any]:
    """The options of what is no loss."""
    return {"temperature": o.temperature, "softcap": o.softcap, "ignore_index": o.ignore_index}


def _parts(value: Any) -> Sequence[Any]:
    """The arrays of a statistic: two of the k largest classes."""
    return value if isinstance(value, tuple) else (value,)


def _stats_vjp_kernel(constants: Any, outs: Any, x: Any, target: Any, *upstreams: Any) -> None:
    axis, o = constants
    ups = dict(zip(statistics.DIFFERENTIABLE, upstreams, strict=True))
    api.row_stats_vjp(x, target, axis=axis, **ups, **_used(o), out=outs[0])


def _vjp_of_stats(constants: Any, x: Any, target: Any, *upstreams: Any) -> Any:
    return call(_stats_vjp_kernel, constants, [like(x)], x, target, *upstreams, rowwise=True)[0]


_stats_vjp = differentiable(_vjp_of_stats, formulas.row_stats_vjp)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stats(constants: Any, x: Any, target: Any) -> list[Any]:
    axis, _, variant, k = constants
    rows = row_shape(x, axis)
    index = jax.dtypes.canonicalize_dtype(jnp.int64)
    real, whole = Struct(rows, computed(x)), Struct(rows, index)
    kinds = {statistics.REAL: [real], statistics.INDEX: [whole], statistics.TRUTH: [Struct(rows, bool)]}
    kinds[statistics.LARGEST] = [Struct((*rows, k), index), Struct((*rows, k), computed(x))]
    wanted = [s for s in statistics.STATISTICS if variant & statistics.BITS[s.name]]
    return call(_stats_kernel, constants, [one for s in wanted for one in kinds[s.kind]], x, target, rowwise=True)


def _stats_forward(constants: Any, x: Any, target: Any) -> tuple[Any, Any]:
    return _stats(constants, x, target), (x, target)


def _stats_backward(constants: Any, kept: Any, upstreams: Any) -> tuple[Any, Any]:
    by_name = dict(zip(_columns(constants[2]), upstreams, strict=True))
    ups = [by_name.get(name) for name in statistics.DIFFERENTIABLE]
    if all(up is None for up in ups):
        return jnp.zeros_like(kept[0]), None
    # What has no gradient, like the largest probability, is a constant: its upstream gradients are left alone.
    return _stats_vjp(constants[:2], *kept, *ups), None


def _columns(variant: int) -> list[str]:
    """The name of each array of `_stats`; that of the k largest classes comes twice."""
    return [name for name in statistics.asked(variant) for _ in range(1 + (name == "top_k"))]


_stats.defvjp(_stats_forward, _stats_backward)


def _lse_kernel(axis: Any, outs: Any, x: Any) -> None:
    outs[0][...] = maps.logsumexp(x, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lse(axis: int, x: Any) -> Any:
    rows = row_shape(x, axis)
    return call(_lse_kernel, axis, [Struct(rows, x.dtype)], x, rowwise=True)[0]


def _lse_forward(axis: int, x: Any) -> tuple[Any, Any]:
    return _lse(axis, x), x


def _lse_backward(axis: int, x: Any, upstream: Any) -> tuple[Any]:
    return (_stats_vjp((axis, Options(reduction="none")), x, None, None, None, upstream.astype(computed(x))),)


_lse.defvjp(_lse_forward, _lse_backward)


def logsumexp(x: Any, axis: int = -1, *, keepdims: bool = False) -> Any:
    """`fastsoftmax.logsumexp` of JAX's arrays, along one axis.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int, default -1
        The axis that is summed over.
    keepdims : bool, default False
        Keep that axis, with length 1.

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
    x = floating(x)
    axis = from_end(axis, x, "x")
    found = _lse(axis, x)
    return jnp.expand_dims(found, axis) if keepdims else found


def row_stats(
    logits: Any,
    target: Any = None,
    *,
    want: str | Sequence[str],
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    k: int = 5,
) -> RowStats:
    """`fastsoftmax.row_stats` of JAX's arrays, which has the formulas.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        Logits of K classes.
    target : array_like of int, shape (...), optional
        Class indices.  "log_prob", "correct", "rank" and "margin" need them.
    want : str or sequence of str
        The names of what is wanted: "log_prob", "entropy", "log_sum_exp", which have gradients; "argmax", "max_prob",
        "correct", "rank", "margin", "top_k", which are constants to JAX.
    axis : int, default -1
        The axis of the classes.
    temperature, softcap, ignore_index, k
        As for `fastsoftmax.row_stats`; constants, not tracers.

    Returns
    -------
    RowStats
        Arrays of shape (...), None for what is not wanted.  Real numbers are float32 for half types, else in the dtype
        of the logits; indices are of JAX's largest integer dtype.  "top_k" is a `TopK` of arrays of shape (..., k).

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, fastsoftmax.jax as fj
    >>> logits, actions = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([0])
    >>> stats = fj.row_stats(logits, actions, want=("log_prob", "entropy"))
    >>> f"{stats.log_prob[0]:.3f}, {stats.entropy[0]:.3f}"
    '-0.408, 0.832'
    """
    x, t = floating(logits), None if target is None else jnp.asarray(target)
    axis, options = from_end(axis, x, "logits"), transforms(ignore_index, temperature, softcap)
    variant = statistics.wanted(want, target=t is not None)
    derived.statistics(empty(x), empty(t), axis, options)
    k = positive("k", k, x.shape[axis]) if variant & statistics.BITS["top_k"] else 0
    found: dict[str, Any] = {}
    for name, array in zip(_columns(variant), _stats((axis, options, variant, k), x, t), strict=True):
        found.setdefault(name, []).append(array)
    values = {name: TopK(*arrays) if name == "top_k" else arrays[0] for name, arrays in found.items()}
    return RowStats(**values)

"""Statistics of rows, and their gradients."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..api import statistics as api
from ..api.statistics import RowStats, TopK
from ..core import statistics
from ..core.conversion import positive
from ..core.options import Options, transforms
from ..core.statistics import DIFFERENTIABLE
from ..cpu import derived
from . import formulas
from .calls import (
    YES,
    Struct,
    call,
    computed,
    differentiable,
    empty,
    fitted,
    floating,
    from_end,
    like,
    maybe,
    row_shape,
)


def _stats_kernel(constants: Any, outs: Any, x: Any, target: Any, where: Any, class_offset: Any) -> None:
    axis, o, variant, k = constants
    want, adjust = statistics.asked(variant), {"where": where, "class_offset": class_offset}
    found = api.row_stats(x, target, want=want, axis=axis, k=max(k, 1), **adjust, **_used(o))
    arrays = [a for name in want for a in _parts(getattr(found, name))]
    for out, array in zip(outs, arrays, strict=True):
        out[...] = array


def _used(o: Options) -> dict[str, Any]:
    """The options of what is no loss."""
    return {"temperature": o.temperature, "softcap": o.softcap, "ignore_index": o.ignore_index}


def _parts(value: Any) -> Sequence[Any]:
    """The arrays of a statistic: two of the k largest classes."""
    return value if isinstance(value, tuple) else (value,)


def _stats_vjp_kernel(constants: Any, outs: Any, x: Any, target: Any, where: Any, offset: Any, *ups: Any) -> None:
    axis, o = constants
    more = {**dict(zip(DIFFERENTIABLE, ups, strict=True)), "where": where, "class_offset": offset}
    api.row_stats_vjp(x, target, axis=axis, **more, **_used(o), out=outs[0])


def _vjp_of_stats(constants: Any, x: Any, *rest: Any) -> Any:
    return call(_stats_vjp_kernel, constants, [like(x)], x, *rest, rowwise=rest[2] is None)[0]


stats_vjp = differentiable(_vjp_of_stats, formulas.row_stats_vjp)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stats(constants: Any, x: Any, target: Any, where: Any, class_offset: Any) -> list[Any]:
    axis, _, variant, k = constants
    rows = row_shape(x, axis)
    index = jax.dtypes.canonicalize_dtype(jnp.int64)
    real, whole = Struct(rows, computed(x)), Struct(rows, index)
    kinds = {statistics.REAL: [real], statistics.INDEX: [whole], statistics.TRUTH: [Struct(rows, bool)]}
    kinds[statistics.LARGEST] = [Struct((*rows, k), index), Struct((*rows, k), computed(x))]
    wanted = [s for s in statistics.STATISTICS if variant & statistics.BITS[s.name]]
    results, arrays = [one for s in wanted for one in kinds[s.kind]], (x, target, where, class_offset)
    return call(_stats_kernel, constants, results, *arrays, rowwise=class_offset is None)


def _stats_forward(constants: Any, *primals: Any) -> tuple[Any, Any]:
    given = [maybe(lambda one: one.value, p) for p in primals]
    by_offset = YES if primals[-1] is not None and primals[-1].perturbed else None
    return _stats(constants, *given), (given, by_offset)


def _stats_backward(constants: Any, kept: Any, upstreams: Any) -> tuple[Any, ...]:
    given, by_offset = kept
    # What has no gradient, like the largest probability, is a constant: its upstream gradients are left alone.
    by_name = dict(zip(_columns(constants[2]), upstreams, strict=True))
    ups = [maybe(lambda up: None if isinstance(up, SymbolicZero) else up, by_name.get(n)) for n in DIFFERENTIABLE]
    if all(up is None for up in ups):
        return jnp.zeros_like(given[0]), None, None, maybe(jnp.zeros_like, given[-1])
    last = None if by_offset is None else formulas.row_stats_by_offset(constants[:2], *given, *ups)
    return stats_vjp(constants[:2], *given, *ups), None, None, last


def _columns(variant: int) -> list[str]:
    """The name of each array of `_stats`; that of the k largest classes comes twice."""
    return [name for name in statistics.asked(variant) for _ in range(1 + (name == "top_k"))]


_stats.defvjp(_stats_forward, _stats_backward, symbolic_zeros=True)


def row_stats(
    logits: Any,
    target: Any = None,
    *,
    want: str | Sequence[str],
    axis: int = -1,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    where: Any = None,
    class_offset: Any = None,
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
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `logits`.
    class_offset : array_like, shape (K,), optional
        What is added to the logits after softcap and temperature; -inf leaves a class out.

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
    x, offset = floating(logits), maybe(floating, class_offset)
    t, where = maybe(jnp.asarray, target), maybe(jnp.asarray, where)
    axis, options = from_end(axis, x, "logits"), transforms(ignore_index, temperature, softcap)
    variant = statistics.wanted(want, target=t is not None)
    derived.statistics(empty(x), empty(t), axis, options, (empty(where), empty(offset)))
    k = positive("k", k, x.shape[axis]) if variant & statistics.BITS["top_k"] else 0
    found: dict[str, Any] = {}
    results = _stats((axis, options, variant, k), x, t, fitted(where, x), offset)
    for name, array in zip(_columns(variant), results, strict=True):
        found.setdefault(name, []).append(array)
    values = {name: TopK(*arrays) if name == "top_k" else arrays[0] for name, arrays in found.items()}
    return RowStats(**values)

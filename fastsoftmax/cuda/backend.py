"""Functions of arrays on a GPU: prepared for arrays that look alike, or checked and prepared first.

A prepared call costs a few attributes of each array, one look-up, and the launches, in few functions: torch's tensors
take microseconds to be asked and made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import memo, rules
from ..core.conversion import positive
from ..core.dtypes import LOGSUMEXP, computed
from ..core.options import Options
from ..core.statistics import BITS, DIFFERENTIABLE
from ..core.statistics import upstreams as given_upstreams
from ..core.strides import Operand
from . import check
from .arrays.borrowed import keep
from .arrays.library import LEGACY, Argument, Library
from .arrays.lookup import argument, arguments, by_type, call_key, keys, library
from .check import Arguments
from .run import LossCall, MapCall
from .statistics import DerivativeCall, StatisticsCall
from .toolkit import compiler
from .upstream import upstream_fits, upstream_number
from .workspace import workspace


@dataclass(frozen=True, slots=True)  # whose attributes take 15 ns where a named tuple is unpacked in 42
class Prepared:
    """A call for operands that look alike."""

    call: Any
    shape: tuple[int, ...]  # of the loss, or of a number a row
    dtype: str
    factory: Callable[[], Any] | None  # makes that, where the library has a shorter way than `empty`
    reach: tuple[int, ...]  # between which distances from the operands an output may share memory with them
    waits: bool  # whether operands may be ordered on other streams
    exports: bool  # whether results are others than the library's until they are exported


_prepared = memo.shared(4096)  # calls, some 5 KB each


def _find(key: Any, x_at: int, y_at: int, at: int) -> Prepared | None:
    """The prepared call of a key, unless an output (0: none) shares memory with operands at some addresses."""
    try:
        prepared: Prepared | None = _prepared.get(key)
    except TypeError:  # an argument that no call can have
        return None
    if at and prepared is not None:
        low, high, y_low, y_high = prepared.reach
        if low < at - x_at < high or y_low < at - y_at < y_high:
            return None
    return prepared


def _may_wait(kind: Library, arrays: tuple[Argument | None, ...]) -> bool:
    """Whether some operand's contents may be ordered on another stream than a call on arrays of a library goes to."""
    return any(one is not None and not (one.library is kind and kind.current) for one in arrays)


def order(kind: Library, stream: int, device: int, arrays: tuple[Any, ...], owners: tuple[Any, ...]) -> list[Any]:
    """Have the call's stream wait for arrays that are ordered on another one.

    Returns the owners of their memory, to be kept until the call has run.
    """
    borrowed = []
    for array, owner in zip(arrays, owners, strict=True):
        if array is None:
            continue
        one = library(array)
        if one.waits:
            borrowed.append(owner)
        elif one is not kind or not kind.current:
            other = one.stream(array)
            if (other or LEGACY) != (stream or LEGACY):
                compiler.wait(device, stream, other)
                borrowed.append(owner)
    return borrowed


def _reach(out: Operand | None, *operands: Operand | None) -> tuple[int, ...]:
    """`Prepared.reach`; between 0 and 0 there is nothing."""
    reach: list[int] = []
    for operand in operands:
        if operand is None or out is None or operand == out or 0 in out.shape:
            reach += (0, 0)
        else:
            (low, high), (out_low, out_high) = operand.extent, out.extent
            reach += (low - out_high, high - out_low)
    return tuple(reach)


def rows(x: Any, y: Any, axis: Any, out: Any, kernel: str, variant: int, keepdims: bool = False) -> Any:
    """A function from rows to rows, or (of the variant LOGSUMEXP) to a number a row."""
    kind = by_type.get(type(x)) or library(x)
    look, stream, x_at, y_at, at, owners = kind.call_key(x, y, out) or call_key(kind, x, y, out)
    key = kind, look, axis, type(axis), kernel, variant, keepdims  # 1.0 and True are no axes, though equal to one
    prepared, written = _find(key, x_at, y_at, at), out
    if prepared is None:
        prepared, written = _prepare_map(key, (x, y, out), axis, kernel, variant, keepdims, stream)
    call, factory = prepared.call, prepared.factory
    borrowed = order(kind, stream, call.device, (x, y, out), owners) if prepared.waits else None
    if call.numbers:
        written = kind.empty(x, prepared.shape, prepared.dtype, stream) if factory is None else factory()
        call(x_at, 0, 0, kind.address(written), stream)
    else:
        if out is None:
            written = kind.empty_like(x, stream) if written is None else written
            at = kind.address(written)
        call(x_at, y_at, at, 0, stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return kind.exported(written) if prepared.exports else written


def _prepare_map(
    key: Any, arrays: tuple[Any, Any, Any], axis: Any, kernel: str, variant: int, keepdims: bool, stream: int
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first results go: the output, or a new array."""
    first, second, into = arguments(arrays, stream, required=(0, 1) if kernel == "vjp" else (0,))
    axis = rules.alone(axis, len(first.description.shape)) if kernel == "softmax" else axis
    axes: tuple[Any, ...] = (axis,)
    numbers = variant == LOGSUMEXP
    if kernel == "vjp":
        problem = check.product(first, second, axis, into)
    elif axis is None or isinstance(axis, tuple):
        problem, axes = check.over_axes(first, axis, into)
    else:
        problem = check.row_map(first, axis, into)
    about, written, reach = first.description, arrays[2], _reach(problem.out, problem.x, problem.y)
    axes = tuple(a % len(about.shape) for a in axes)
    if into is None and not numbers:
        written = first.library.empty_like(first.value, stream)
        problem = problem._replace(out=check.output(argument(written, stream), axes, about))
    shape = problem.x.shape[:-1]
    if keepdims:
        shape = tuple(1 if a in axes else n for a, n in enumerate(about.shape))
    call = MapCall(problem, kernel, variant, numbers=numbers)
    factory = first.library.factory(first.value, shape, about.dtype) if numbers else None
    waits, exports = _may_wait(first.library, (first, second, into)), into is None and not first.library.mutable
    return _prepared.keep(key, Prepared(call, shape, about.dtype, factory, reach, waits, exports)), written


def loss(
    logits: Any,
    target: Any,
    class_weight: Any,
    sample_weight: Any,
    grad_output: Any,
    out: Any,
    axis: Any,
    options: Options,
    grad: bool,
    check_targets: bool | None = None,
) -> tuple[Any, Any]:
    """(loss, gradient or None) of a cross-entropy."""
    kind = by_type.get(type(logits)) or library(logits)
    look, stream, x_at, y_at, at, owners = kind.call_key(logits, target, out) or call_key(kind, logits, target, out)
    up = 1.0 if grad_output is None else upstream_number(grad_output)
    each: tuple[Any, ...] = ()  # arrays with a number for each class, or row
    each_key, class_at, sample_at, up_at = None, 0, 0, 0
    if up is None or class_weight is not None or sample_weight is not None:
        each = class_weight, sample_weight, grad_output if up is None else None
        each_key, (class_at, sample_at, up_at), each_owners = keys(each, stream)
        owners = (*(owners or (logits, target, out)), *each_owners)
    key = kind, look, axis, type(axis), options, grad, each_key  # 1.0 and True are no axes, though equal to one
    prepared, written = _find(key, x_at, y_at, at), out
    if prepared is None:
        prepared, written = _prepare_loss(key, (logits, target, out), each, axis, options, grad, stream)
    call, factory = prepared.call, prepared.factory
    if grad_output is not None:
        upstream_fits(up, prepared.dtype)
    borrowed = order(kind, stream, call.device, (logits, target, out, *each), owners) if prepared.waits else None
    if grad and out is None:
        written = kind.empty_like(logits, stream) if written is None else written
        at = kind.address(written)
    value = kind.empty(logits, prepared.shape, prepared.dtype, stream) if factory is None else factory()
    places = x_at, y_at, at, class_at, sample_at, up_at, kind.address(value)
    state = call.states.get(stream) or call.state_for(stream, workspace(call.device, stream))
    call(places, stream, state, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    return (kind.exported(value), kind.exported(written)) if prepared.exports else (value, written)


def _prepare_loss(
    key: Any, arrays: tuple[Any, Any, Any], each: tuple[Any, ...], axis: Any, options: Options, grad: bool, stream: int
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    logits, target, out = arguments(arrays, stream, required=(0, 1))
    operands = Arguments(*(logits, target, *arguments(each or (None, None, None), stream), out))
    problem = check.cross_entropy(operands, axis, options, grad=grad)
    about, written = logits.description, arrays[-1]
    reach = _reach(problem.out, problem.x, problem.soft or check.flat(target))
    if grad and out is None:
        written = logits.library.empty_like(logits.value, stream)
        new = check.output(argument(written, stream), (axis % len(about.shape),), about)
        problem = problem._replace(out=new)
    shape = problem.x.shape[:-1] if options.reduction == "none" else ()
    dtype, waits = computed(about.dtype), _may_wait(logits.library, operands)
    factory = logits.library.factory(logits.value, shape, dtype)
    prepared = Prepared(LossCall(problem), shape, dtype, factory, reach, waits, not logits.library.mutable)
    return _prepared.keep(key, prepared), written


def row_stats(logits: Any, target: Any, variant: int, axis: Any, options: Options, k: Any) -> dict[str, Any]:
    """The statistics of a set, by name."""
    kind = by_type.get(type(logits)) or library(logits)
    look, stream, x_at, target_at, _, owners = kind.call_key(logits, target, None) or call_key(
        kind, logits, target, None
    )
    most = (k, type(k)) if variant & BITS["top_k"] else None
    key = kind, look, axis, type(axis), options, "statistics", variant, most
    prepared = _find(key, x_at, target_at, 0)
    if prepared is None:
        prepared = _prepare_statistics(key, (logits, target), axis, options, variant, k, stream)
    call = prepared.call
    borrowed = order(kind, stream, call.device, (logits, target), owners[:2]) if prepared.waits else None
    found = {
        name: kind.empty(logits, prepared.shape + each, dtype, stream) for name, (dtype, each) in call.written.items()
    }
    call(x_at, target_at, tuple(map(kind.address, found.values())), stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    if prepared.exports:
        found = {name: kind.exported(array) for name, array in found.items()}
    if most is not None:
        found["top_k"] = found.pop("indices"), found["top_k"]
    return found


def _prepare_statistics(
    key: Any, arrays: tuple[Any, Any], axis: Any, options: Options, variant: int, k: Any, stream: int
) -> Prepared:
    """A prepared call."""
    logits, target = arguments(arrays, stream, required=(0,))
    problem = check.statistics(logits, target, axis, options)
    waits, exports = _may_wait(logits.library, (logits, target)), not logits.library.mutable
    shape, dtype = problem.x.shape[:-1], computed(problem.x.dtype)
    most = positive("k", k, problem.x.shape[-1]) if variant & BITS["top_k"] else 0
    prepared = Prepared(StatisticsCall(problem, variant, most), shape, dtype, None, (0, 0, 0, 0), waits, exports)
    _prepared.keep(key, prepared)
    return prepared


def row_stats_vjp(logits: Any, target: Any, upstreams: tuple[Any, ...], axis: Any, options: Options, out: Any) -> Any:
    """The gradient of statistics, by their upstream gradients: numbers, or arrays."""
    kind = by_type.get(type(logits)) or library(logits)
    about = kind.call_key(logits, target, out) or call_key(kind, logits, target, out)
    look, stream, x_at, target_at, at, owners = about
    given_upstreams(upstreams, target=target is not None)
    named = list(zip(DIFFERENTIABLE, upstreams, strict=True))
    ups = [0.0 if value is None else upstream_number(value, name) for name, value in named]
    each = tuple(value if up is None else None for value, up in zip(upstreams, ups, strict=True))
    each_key, each_at, each_owners = keys(each, stream)
    which = tuple(value is not None for value in upstreams)
    key = kind, look, axis, type(axis), options, "derivatives", each_key, which
    prepared, written = _find(key, x_at, target_at, at), out
    if prepared is None:
        prepared, written = _prepare_derivative(key, (logits, target, out), each, axis, options, which, stream)
    call, owners = prepared.call, (*(owners or (logits, target, out)), *each_owners)
    for (name, _), up in zip(named, ups, strict=True):
        upstream_fits(up, prepared.dtype, name)
    borrowed = order(kind, stream, call.device, (logits, target, out, *each), owners) if prepared.waits else None
    if out is None:
        written = kind.empty_like(logits, stream) if written is None else written
        at = kind.address(written)
    call(x_at, target_at, at, each_at, tuple(up or 0.0 for up in ups), stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return kind.exported(written) if prepared.exports else written


def _prepare_derivative(
    key: Any,
    arrays: tuple[Any, Any, Any],
    each: tuple[Any, ...],
    axis: Any,
    options: Options,
    given: tuple[bool, ...],
    stream: int,
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    logits, target, out = arguments(arrays, stream, required=(0,))
    rows = arguments(each, stream)
    problem = check.derivative(logits, target, rows, axis, options, out)
    about, written = logits.description, arrays[-1]
    reach = _reach(problem.out, problem.x, None if target is None else check.flat(target))
    if out is None:
        written = logits.library.empty_like(logits.value, stream)
        new = check.output(argument(written, stream), (axis % len(about.shape),), about)
        problem = problem._replace(out=new)
    call = DerivativeCall(problem, given, tuple(array is not None for array in each))
    waits = _may_wait(logits.library, (logits, target, out, *rows))
    exports = out is None and not logits.library.mutable
    prepared = Prepared(call, problem.x.shape[:-1], computed(about.dtype), None, reach, waits, exports)
    _prepared.keep(key, prepared)
    return prepared, written

"""Functions of arrays on a GPU: prepared for arrays that look alike, or checked and prepared first.

A prepared call costs a few attributes of each array, one look-up, and the launches, in few functions: torch's tensors
take microseconds to be asked and made.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import memo
from ..core.dtypes import LOGSUMEXP
from ..core.operands import Operand, bounds
from ..core.options import Options
from . import check
from .arrays.borrowed import keep
from .arrays.lookup import LEGACY, Library, Seen, all_seen, call_key, keys, library, seen
from .check import Given, upstream_fits, upstream_number
from .run import LossCall, MapCall
from .toolkit import compiler
from .workspace import workspace


class Prepared(NamedTuple):
    """A call for operands that look alike."""

    call: Any
    shape: tuple[int, ...]  # of the loss, or of a number a row
    dtype: str
    make: Callable[[], Any] | None  # makes that, where the library has a shorter way than `new`
    reach: tuple[int, ...]  # between which distances from the operands an output may share memory with them
    waits: bool  # whether operands may be ordered on other streams
    delivers: bool  # whether results are handed over as the library knows them


_prepared = memo.shared(4096)  # calls, some 5 KB each


def _may_wait(kind: Library, arrays: tuple[Seen | None, ...]) -> bool:
    """Whether some operand's contents may be ordered on another stream than a call on arrays of a library goes to."""
    return any(one is not None and not (one.library is kind and kind.current) for one in arrays)


def order(kind: Library, stream: int, device: int, arrays: tuple[Any, ...], held: tuple[Any, ...]) -> list[Any]:
    """Have the call's stream wait for arrays that are ordered on another one.

    Returns what holds their memory: it is to be kept until the call has run.
    """
    borrowed = []
    for array, memory in zip(arrays, held, strict=True):
        if array is None:
            continue
        one = library(array)
        if one.waits:
            borrowed.append(memory)
        elif one is not kind or not kind.current:
            other = one.stream(array)
            if (other or LEGACY) != (stream or LEGACY):
                compiler.wait(device, stream, other)
                borrowed.append(memory)
    return borrowed


def _reach(out: Operand | None, *operands: Operand | None) -> tuple[int, ...]:
    """`Prepared.reach`; between 0 and 0 there is nothing."""
    reach: list[int] = []
    for operand in operands:
        if operand is None or out is None or operand == out or 0 in out.shape:
            reach += (0, 0)
        else:
            (low, high), (out_low, out_high) = bounds(operand), bounds(out)
            reach += (low - out_high, high - out_low)
    return tuple(reach)


def rows(x: Any, y: Any, axis: Any, out: Any, kernel: str, variant: int, keepdims: bool = False) -> Any:
    """A function from rows to rows, or (of the variant LOGSUMEXP) to a number a row."""
    kind = library(x)
    stream = kind.stream(x)
    looks, x_at, y_at, at, held = kind.call_key(x, y, out) or call_key(kind, x, y, out, stream)
    key = kind, looks, axis, type(axis), kernel, variant, keepdims  # 1.0 and True are no axes, though equal to one
    prepared, written = _prepared.find(key), out
    if prepared is None or _near(prepared.reach, at - x_at, at - y_at):
        prepared, written = _prepare_map((x, y, out), axis, kernel, variant, keepdims, stream)
        _prepared.keep(key, prepared)
    call, borrowed = prepared.call, None
    if prepared.waits:
        borrowed = order(kind, stream, call.device, (x, y, out), held)
    if call.numbers:
        written = kind.new(x, prepared.shape, prepared.dtype, stream) if prepared.make is None else prepared.make()
        call(x_at, 0, 0, kind.address(written), stream)
    else:
        if written is None:
            written = kind.like(x, stream)
        call(x_at, y_at, at if out is not None else kind.address(written), 0, stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return kind.delivered(written) if prepared.delivers else written


def _near(reach: tuple[int, ...], from_x: int, from_y: int) -> bool:
    """Whether an output, at some distances from the operands, may share memory with one that it is not itself."""
    return reach[0] < from_x < reach[1] or reach[2] < from_y < reach[3]


def _prepare_map(
    arrays: tuple[Any, Any, Any], axis: Any, kernel: str, variant: int, keepdims: bool, stream: int
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first results go: the output, or a new array."""
    first, second, into = all_seen(arrays, stream, required=(0, 1) if kernel == "vjp" else (0,))
    axes: tuple[Any, ...] = (axis,)
    numbers = variant == LOGSUMEXP
    if kernel == "vjp":
        problem = check.product(first, second, axis, into)
    elif axis is None or isinstance(axis, tuple):
        problem, axes = check.over_axes(first, axis, into)
    else:
        problem = check.row_map(first, axis, into)
    look, written, reach = first.look, arrays[2], _reach(problem.out, problem.x, problem.y)
    axes = tuple(a % len(look.shape) for a in axes)
    if into is None and not numbers:
        written = first.library.like(first.value, stream)
        problem = problem._replace(out=check.made(seen(written, stream), axes, look))
    shape = problem.x.shape[:-1]
    if keepdims:
        shape = tuple(1 if a in axes else n for a, n in enumerate(look.shape))
    call = MapCall(problem, kernel, variant, numbers=numbers)
    make = first.library.maker(first.value, shape, look.dtype) if numbers else None
    waits, delivers = _may_wait(first.library, (first, second, into)), into is None and not first.library.mutable
    return Prepared(call, shape, look.dtype, make, reach, waits, delivers), written


def loss(
    logits: Any,
    target: Any,
    class_weight: Any,
    sample_weight: Any,
    grad_output: Any,
    out: Any,
    axis: Any,
    options: Options,
    *,
    grad: bool,
    check_targets: bool | None = None,
) -> tuple[Any, Any]:
    """(loss, gradient or None) of a cross-entropy."""
    kind = library(logits)
    stream = kind.stream(logits)
    up = 1.0 if grad_output is None else upstream_number(grad_output)
    looks, x_at, y_at, at, held = kind.call_key(logits, target, out) or call_key(kind, logits, target, out, stream)
    each: tuple[Any, ...] = ()  # arrays with a number for each class, or row
    row_looks: Any = None
    places: tuple[int, ...] = (0, 0, 0)
    if up is None or class_weight is not None or sample_weight is not None:
        each = class_weight, sample_weight, grad_output if up is None else None
        row_looks, places, rows_held = keys(each, stream)
        held += rows_held
    key = kind, looks, axis, type(axis), options, grad, row_looks  # 1.0 and True are no axes, though equal to one
    prepared, written = _prepared.find(key), out
    if prepared is None or _near(prepared.reach, at - x_at, at - y_at):
        prepared, written = _prepare_loss((logits, target, out), each, axis, options, grad, stream)
        _prepared.keep(key, prepared)
    if grad_output is not None:
        upstream_fits(up, prepared.dtype)
    call, borrowed = prepared.call, None
    if prepared.waits:
        borrowed = order(kind, stream, call.device, (logits, target, out, *each), held)
    if grad and out is None:
        if written is None:
            written = kind.like(logits, stream)
        at = kind.address(written)
    value = kind.new(logits, prepared.shape, prepared.dtype, stream) if prepared.make is None else prepared.make()
    state = call.states.get(stream) or call.state_for(stream, workspace(call.device, stream))
    call((x_at, y_at, at, *places, kind.address(value)), stream, state, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    if prepared.delivers:
        return kind.delivered(value), None if written is None else kind.delivered(written)
    return value, written


def _prepare_loss(
    arrays: tuple[Any, Any, Any], each: tuple[Any, ...], axis: Any, options: Options, grad: bool, stream: int
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    logits, target, out = all_seen(arrays, stream, required=(0, 1))
    arguments = Given(*(logits, target, *all_seen(each or (None, None, None), stream), out))
    problem = check.cross_entropy(arguments, axis, options, grad=grad)
    look, written = logits.look, arrays[-1]
    reach = _reach(problem.out, problem.x, problem.soft or check.flat(target))
    if grad and out is None:
        written = logits.library.like(logits.value, stream)
        new = check.made(seen(written, stream), (axis % len(look.shape),), look)
        problem = problem._replace(out=new)
    shape = problem.x.shape[:-1] if options.reduction == "none" else ()
    dtype, waits = check.computed(look.dtype), _may_wait(logits.library, arguments)
    make = logits.library.maker(logits.value, shape, dtype)
    return Prepared(LossCall(problem), shape, dtype, make, reach, waits, not logits.library.mutable), written

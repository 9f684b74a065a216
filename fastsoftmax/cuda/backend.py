"""The public functions on GPU arrays: what a call looks like, the call that was prepared for it, and new results.

A call that looks like an earlier one costs a few attributes of each array, one look-up, and the launches: it is what
follows here, step by step and with few functions, while checks and preparations are made once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import memo
from ..core.dtypes import LOGSUMEXP
from ..core.operands import Operand, bounds
from ..core.options import Options
from . import again, check
from .arrays.borrowed import keep
from .arrays.library import Torch
from .arrays.lookup import LEGACY, Library, Seen, all_seen, library, seen
from .check import Given, upstream_fits, upstream_number
from .run import LossCall, MapCall
from .toolkit import compiler
from .workspace import workspace

NOTHING = None, 0, None  # what an argument that was left out looks like, its address, and what holds its memory


class Prepared(NamedTuple):
    """A call for operands that look alike."""

    call: Any
    shape: tuple[int, ...]  # of the loss, or of a number a row
    dtype: str
    make: Callable[[], Any] | None  # makes that, where the library has a shorter way than `new`
    reach: tuple[int, ...]  # between which distances from the operands an output may share memory with them
    waits: bool  # whether operands may be ordered on other streams


_prepared = memo.shared(4096)  # calls, some 5 KB each


def _may_wait(kind: Library, given: tuple[Seen | None, ...]) -> bool:
    """Whether some operand's contents may be ordered on another stream than a call on arrays of a library goes to."""
    return any(one is not None and not (one.library is kind and kind.current) for one in given)


def order(kind: Library, stream: int, device: int, given: tuple[Any, ...], held: tuple[Any, ...]) -> list[Any]:
    """Have the call's stream wait for arrays that are ordered on another one.

    Returns what holds their memory: it is to be kept until the call has run.
    """
    borrowed = []
    for array, memory in zip(given, held, strict=True):
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


def place_of(address: int) -> int | None:
    """What kernels are chosen by of an address; None for one that is no memory's."""
    return address & 15 if address else None


def _near(reach: tuple[int, ...], from_x: int, from_y: int) -> bool:
    """Whether an output, at some distances from the operands, may share memory with one that it is not itself."""
    return reach[0] < from_x < reach[1] or reach[2] < from_y < reach[3]


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


def repeats(array: Any) -> Any:
    """The module that repeats calls on arrays of a type, of which one is given; None where none does."""
    return again if isinstance(library(array), Torch) else None


class Wanted(NamedTuple):
    """What is to be made of each row."""

    kernel: str
    variant: int
    keepdims: bool = False

    @property
    def numbers(self) -> bool:
        """Whether it is a number, and no row."""
        return self.kernel == "softmax" and self.variant == LOGSUMEXP


def mapped(x: Any, y: Any, axis: Any, out: Any, *wanted: Any) -> Any:
    """A function from rows to rows or to numbers; `wanted` are the fields of `Wanted`."""
    kind = library(x)
    stream = kind.stream(x)
    x_look, x_at, x_held = kind.peek(x, stream)
    y_look, y_at, y_held = NOTHING if y is None else library(y).peek(y, stream)
    look, at, held = NOTHING if out is None else library(out).peek(out, stream)
    x_is, y_is = at == x_at and look == x_look, at == y_at and look == y_look
    places = place_of(x_at), place_of(y_at), place_of(at), x_is, y_is
    # 1.0 and True are no axes, though they are equal to one.
    key = (kind, axis, type(axis), wanted, type(y), type(out), places, x_look, y_look, look)
    prepared = _prepared.find(key)
    written = out
    if prepared is None or _near(prepared.reach, at - x_at, at - y_at):
        prepared, written = _prepare_map((x, y, out), axis, Wanted(*wanted), stream)
        _prepared.keep(key, prepared)
    again.learn(x, y, out, (axis, type(axis), wanted), prepared)
    call, borrowed = prepared.call, None
    if prepared.waits:
        borrowed = order(kind, stream, call.device, (x, y, out), (x_held, y_held, held))
    if call.numbers:
        written = kind.new(x, prepared.shape, prepared.dtype, stream) if prepared.make is None else prepared.make()
        call(x_at, 0, 0, kind.address(written), stream)
    else:
        if written is None:
            written = kind.like(x, stream)
        call(x_at, y_at, at if out is not None else kind.address(written), 0, stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return written if out is not None else kind.delivered(written)


def _prepare_map(arrays: tuple[Any, Any, Any], axis: Any, what: Wanted, stream: int) -> tuple[Prepared, Any]:
    """A prepared call, and where its first results go: the output, or a new array."""
    first = seen(arrays[0], stream)
    second, into = all_seen(arrays[1:], stream)
    if axis is None or isinstance(axis, tuple):
        problem, axes = check.over_axes(first, axis, into)
    elif second is None:
        problem, axes = check.row_map(first, axis, into), (axis,)
    else:
        problem, axes = check.product(first, second, axis, into), (axis,)
    look, written, reach = first.look, arrays[2], _reach(problem.out, problem.x, problem.y)
    axes = tuple(a % len(look.shape) for a in axes)
    if into is None and not what.numbers:
        written = first.library.like(first.value, stream)
        problem = problem._replace(out=check.made(seen(written, stream), axes, look))
    shape = problem.x.shape[:-1]
    if what.keepdims:
        shape = tuple(1 if a in axes else n for a, n in enumerate(look.shape))
    call = MapCall(problem, what.kernel, what.variant, numbers=what.numbers)
    make = first.library.maker(first.value, shape, look.dtype) if what.numbers else None
    return Prepared(call, shape, look.dtype, make, reach, _may_wait(first.library, (first, second, into))), written


def _row_wise(given: tuple[Any, ...], stream: int) -> tuple[Any, tuple[int, ...], tuple[Any, ...]]:
    """(what row-wise operands look like, of what kind they are and how aligned; addresses; what holds their memory)."""
    looks, places, held = zip(*(NOTHING if a is None else library(a).peek(a, stream) for a in given), strict=True)
    return (looks, *((type(a), place_of(place)) for a, place in zip(given, places, strict=True))), places, held


def cross_entropy(
    logits: Any,
    target: Any,
    axis: Any,
    weights: tuple[Any, Any],
    options: Options,
    grad_output: Any,
    out: Any,
    *,
    grad: bool,
    check_targets: bool | None,
) -> tuple[Any, Any]:
    """(loss, gradient or None) of a cross-entropy."""
    kind = library(logits)
    stream = kind.stream(logits)
    up = upstream_number(grad_output)
    x_look, x_at, x_held = kind.peek(logits, stream)
    y_look, y_at, y_held = library(target).peek(target, stream)
    look, at, held = NOTHING if out is None else library(out).peek(out, stream)
    rows: Any = None
    row_wise: tuple[int, ...] = (0, 0, 0)
    rows_held: tuple[Any, ...] = (None, None, None)
    each = (*weights, None if up is not None else grad_output)  # a number for each row, or class
    if up is None or weights[0] is not None or weights[1] is not None:
        rows, row_wise, rows_held = _row_wise(each, stream)
    places = place_of(x_at), place_of(y_at), place_of(at), at == x_at and look == x_look
    key = (kind, axis, type(axis), options, grad, type(target), type(out), places, x_look, y_look, look, rows)
    prepared = _prepared.find(key)
    written = out
    if prepared is None or _near(prepared.reach, at - x_at, at - y_at):
        prepared, written = _prepare_loss((logits, target, *each, out), axis, options, grad, stream)
        _prepared.keep(key, prepared)
    upstream_fits(up, prepared.dtype)
    if rows is None:
        again.learn(logits, target, out, again.constants(axis, options, grad), prepared)
    call, borrowed = prepared.call, None
    if prepared.waits:
        memory = x_held, y_held, *rows_held, held
        borrowed = order(kind, stream, call.device, (logits, target, *each, out), memory)
    if grad and written is None:
        written = kind.like(logits, stream)
    loss = kind.new(logits, prepared.shape, prepared.dtype, stream) if prepared.make is None else prepared.make()
    to = at if out is not None or not grad else kind.address(written)
    room = call.rooms.get(stream) or call.roomed(stream, workspace(call.device, stream))
    call((x_at, y_at, to, *row_wise, kind.address(loss)), stream, room, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    if kind.mutable:
        return loss, written
    return kind.delivered(loss), None if written is None else kind.delivered(written)


def _prepare_loss(arrays: Any, axis: Any, options: Options, grad: bool, stream: int) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    given = Given(*all_seen(arrays, stream))
    problem = check.cross_entropy(given, axis, options, grad=grad)
    look, written = given.logits.look, arrays[-1]
    reach = _reach(problem.out, problem.x, problem.soft or check.flat(given.target))
    if grad and given.out is None:
        written = given.logits.library.like(given.logits.value, stream)
        new = check.made(seen(written, stream), (axis % len(look.shape),), look)
        problem = problem._replace(out=new)
    shape = problem.x.shape[:-1] if options.reduction == "none" else ()
    dtype, waits = check.computed(look.dtype), _may_wait(given.logits.library, given)
    make = given.logits.library.maker(given.logits.value, shape, dtype)
    return Prepared(LossCall(problem), shape, dtype, make, reach, waits), written

"""Functions of arrays on a GPU: prepared for arrays that look alike, or checked and prepared first.

A prepared call costs a few attributes of each array, one look-up, and the launches, in few functions: torch's tensors
take microseconds to be asked and made.
"""

from typing import Any

from ..core import rules
from ..core.divergence import Listed
from ..core.dtypes import LOGSUMEXP, computed
from ..core.options import Options
from . import check, derived, hessian, statistics
from .arrays.borrowed import keep
from .arrays.lookup import argument, arguments, by_type, call_key, keys, library
from .check import Arguments
from .prepared import Prepared, calls, find, may_wait, order, reach_of
from .run import LossCall, MapCall
from .upstream import upstream_fits, upstream_number
from .workspace import workspace

NOWHERE: tuple[int, ...] = (0,) * 5  # the addresses of arrays that there are none of
row_stats, row_stats_vjp, grad_hess = statistics.row_stats, statistics.row_stats_vjp, hessian.grad_hess


def rows(
    x: Any, y: Any, axis: Any, out: Any, kernel: str, variant: int, keepdims: bool = False, where: Any = None
) -> Any:
    """A function from rows to rows, or (of the variant LOGSUMEXP) to a number a row."""
    kind = by_type.get(type(x)) or library(x)
    look, stream, x_at, y_at, at, owners = kind.call_key(x, y, out) or call_key(kind, x, y, out)
    arrays: tuple[Any, ...] = (x, y, out)
    each_key, mask_at = None, 0
    if where is not None:
        each_key, (mask_at,), each_owners = keys((where,), stream)
        arrays, owners = (*arrays, where), (*(owners or arrays), *each_owners)
    # 1.0 and True are no axes, though equal to one.
    key = kind, look, axis, type(axis), kernel, variant, keepdims, each_key
    prepared, written = find(key, x_at, y_at, at), out
    if prepared is None:
        prepared, written = _prepare_map(key, (x, y, out, where), axis, kernel, variant, keepdims, stream)
    call, factory = prepared.call, prepared.factory
    borrowed = order(kind, stream, call.device, arrays, owners) if prepared.waits else None
    if call.numbers:
        written = kind.empty(x, prepared.shape, prepared.dtype, stream) if factory is None else factory()
        call(x_at, 0, 0, kind.address(written), stream, mask_at)
    else:
        if out is None:
            written = kind.empty_like(x, stream) if written is None else written
            at = kind.address(written)
        call(x_at, y_at, at, 0, stream, mask_at)
    if borrowed:
        keep(call.device, stream, borrowed)
    return kind.exported(written) if prepared.exports else written


def _prepare_map(
    key: Any, arrays: tuple[Any, ...], axis: Any, kernel: str, variant: int, keepdims: bool, stream: int
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first results go: the output, or a new array."""
    first, second, into, where = arguments(arrays, stream, required=(0, 1) if kernel == "vjp" else (0,))
    axis = rules.alone(axis, len(first.description.shape)) if kernel == "softmax" else axis
    axes: tuple[Any, ...] = (axis,)
    numbers = variant == LOGSUMEXP
    if kernel == "vjp":
        problem = check.product(first, second, axis, into)
    elif axis is None or isinstance(axis, tuple):
        problem, axes = check.over_axes(first, axis, into, where, empty=numbers)
    else:
        problem = check.row_map(first, axis, into, where, empty=numbers)
    about, written, reach = first.description, arrays[2], reach_of(problem.out, problem.x, problem.y)
    axes = tuple(a % len(about.shape) for a in axes)
    if into is None and not numbers:
        written = first.library.empty_like(first.value, stream)
        problem = problem._replace(out=check.output(argument(written, stream), axes, about))
    shape = problem.x.shape[:-1]
    if keepdims:
        shape = tuple(1 if a in axes else n for a, n in enumerate(about.shape))
    call = MapCall(problem, kernel, variant, numbers=numbers)
    factory = first.library.factory(first.value, shape, about.dtype) if numbers else None
    waits, exports = may_wait(first.library, (first, second, into, where)), into is None and not first.library.mutable
    return calls.keep(key, Prepared(call, shape, about.dtype, factory, reach, waits, exports)), written


def signed_logsumexp(x: Any, axis: Any, b: Any, keepdims: bool, return_sign: bool, where: Any = None) -> Any:
    """The logarithm of a sum of exponentials with factors; of its size, and its sign, if that is wanted."""
    kind = by_type.get(type(x)) or library(x)
    look, stream, x_at, b_at, _, owners = kind.call_key(x, b, None) or call_key(kind, x, b, None)
    each_key, (mask_at,), each_owners = keys((where,), stream)
    key = kind, look, axis, type(axis), "weighted", keepdims, return_sign, each_key
    prepared = find(key, x_at, b_at, 0) or _prepare_signed(key, (x, b, where), axis, keepdims, return_sign, stream)
    call, arrays = prepared.call, (x, b, where)
    owners = *(owners or arrays)[:2], *each_owners
    borrowed = order(kind, stream, call.device, arrays, owners) if prepared.waits else None
    found = tuple(kind.empty(x, prepared.shape, prepared.dtype, stream) for _ in range(1 + return_sign))
    call(x_at, b_at, kind.address(found[1]) if return_sign else 0, kind.address(found[0]), stream, mask_at)
    if borrowed:
        keep(call.device, stream, borrowed)
    found = tuple(map(kind.exported, found)) if prepared.exports else found
    return found if return_sign else found[0]


def _prepare_signed(
    key: Any, arrays: tuple[Any, ...], axis: Any, keepdims: bool, return_sign: bool, stream: int
) -> Prepared:
    """A prepared call of the same."""
    x, b, where = arguments(arrays, stream, required=(0,))
    axis = rules.alone(axis, len(x.description.shape))
    problem, axes = derived.signed_sum(x, b, axis if axis is None or isinstance(axis, tuple) else (axis,), where)
    about, shape = x.description, problem.x.shape[:-1]
    if keepdims:
        axes = tuple(a % len(about.shape) for a in axes)
        shape = tuple(1 if a in axes else n for a, n in enumerate(about.shape))
    call = MapCall(problem, "weighted", (b is not None, return_sign), numbers=True)
    waits, exports = may_wait(x.library, (x, b, where)), not x.library.mutable
    prepared: Prepared = calls.keep(key, Prepared(call, shape, about.dtype, None, (0, 0, 0, 0), waits, exports))
    return prepared


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
    where: Any = None,
    class_offset: Any = None,
    taught: tuple[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """(loss, gradient or None) of a cross-entropy; of a divergence from what is `taught`, with a direction."""
    kind = by_type.get(type(logits)) or library(logits)
    look, stream, x_at, y_at, at, owners = kind.call_key(logits, target, out) or call_key(kind, logits, target, out)
    up = 1.0 if grad_output is None else upstream_number(grad_output)
    each: tuple[Any, ...] = ()  # arrays with a number for each class, or row
    each_key, each_at = None, NOWHERE
    plain = class_weight is None and sample_weight is None and where is None and class_offset is None
    if up is None or not plain:
        each = class_weight, sample_weight, grad_output if up is None else None, class_offset, where
        each_key, each_at, each_owners = keys(each, stream)
        owners = (*(owners or (logits, target, out)), *each_owners)
    key = kind, look, axis, type(axis), options, grad, each_key, taught  # 1.0 and True are no axes, though equal to one
    prepared, written = find(key, x_at, y_at, at), out
    if prepared is None:
        prepared, written = _prepare_loss(key, (logits, target, out), each, axis, options, grad, stream, taught)
    call, factory = prepared.call, prepared.factory
    if grad_output is not None:
        upstream_fits(up, prepared.dtype)
    borrowed = order(kind, stream, call.device, (logits, target, out, *each), owners) if prepared.waits else None
    if grad and out is None:
        written = kind.empty_like(logits, stream) if written is None else written
        at = kind.address(written)
    value = kind.empty(logits, prepared.shape, prepared.dtype, stream) if factory is None else factory()
    places = x_at, y_at, at, *each_at, kind.address(value)
    state = call.states.get(stream) or call.state_for(stream, workspace(call.device, stream))
    call(places, stream, state, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    return (kind.exported(value), kind.exported(written)) if prepared.exports else (value, written)


def _prepare_loss(
    key: Any,
    arrays: tuple[Any, Any, Any],
    each: tuple[Any, ...],
    axis: Any,
    options: Options,
    grad: bool,
    stream: int,
    taught: tuple[Any, Any] | None,
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    logits, target, out = arguments(arrays, stream, required=(0, 1))
    class_weight, sample_weight, up, class_offset, where = arguments(each or (None,) * 5, stream)
    operands = Arguments(logits, target, class_weight, sample_weight, up, out, class_offset, where)
    if taught is None:
        problem = check.cross_entropy(operands, axis, options, grad=grad)
    else:
        of = derived.divergence if class_weight is None else derived.listed
        problem = of(operands, taught, axis, options, grad=grad)
    about, written = logits.description, arrays[-1]
    reach = reach_of(problem.out, problem.x, problem.soft or check.flat(target))
    if grad and out is None:
        written = logits.library.empty_like(logits.value, stream)
        new = check.output(argument(written, stream), (axis % len(about.shape),), about)
        problem = problem._replace(out=new)
    shape = problem.x.shape[:-1] if options.reduction == "none" else ()
    dtype, waits = computed(about.dtype), may_wait(logits.library, operands)
    factory = logits.library.factory(logits.value, shape, dtype)
    prepared = Prepared(LossCall(problem), shape, dtype, factory, reach, waits, not logits.library.mutable)
    return calls.keep(key, prepared), written


def divergence(
    student: Any,
    teacher: Any,
    axis: Any,
    kind: tuple[Any, Any],
    sample_weight: Any,
    options: Options,
    grad_output: Any,
    out: Any,
    grad: bool,
    where: Any = None,
) -> tuple[Any, Any]:
    """(divergence, gradient or None) of a student from its teacher: a loss of another kernel.

    A pair takes the places of class indices and of weights of classes.
    """
    log_prob = None
    if isinstance(teacher, Listed):
        kind, log_prob, teacher = (teacher.tail, kind[1]), teacher.log_prob, teacher.indices
    arguments = student, teacher, log_prob, sample_weight, grad_output, out, axis, options, grad
    return loss(*arguments, where=where, taught=kind)

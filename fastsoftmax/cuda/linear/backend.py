"""Functions of features on a GPU: prepared for arrays that look alike, or checked and prepared first."""

from collections.abc import Callable
from typing import Any

from ...core import memo, rules
from ...core.conversion import positive
from ...core.dtypes import SOFTMAX
from ...core.options import Options
from ...core.statistics import BITS
from ..arrays.borrowed import keep
from ..arrays.lookup import argument, arguments, keys, library
from ..check import Map
from ..prepared import order
from ..run import MapCall
from ..upstream import upstream_fits, upstream_number
from ..workspace import workspace
from . import check
from .check import Arguments, Linear
from .chunks import Arrays
from .predict import TopCall, fill, predict_classes
from .run import HessianCall, LinearCall, StatisticsPass

SORTED = 16  # times less rows a chunk where a library sorts all logits: their places and copies take so much more
REQUIRED = 0, 1, 3  # features, weights, and what follows the bias: target or direction
_prepared = memo.shared(1024)  # calls, some 10 KB each


def loss(
    x: Any,
    weight: Any,
    bias: Any,
    target: Any,
    class_weight: Any,
    sample_weight: Any,
    grad_output: Any,
    options: Options,
    block_rows: Any,
    wrt: Any = (),
    out: Any = None,
    *,
    check_targets: bool | None = None,
    class_offset: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """(loss, gradients by name) of a cross-entropy."""
    up = upstream_number(grad_output)
    arrays = x, weight, bias, target, class_weight, sample_weight, grad_output if up is None else None, class_offset
    kind, names = library(x), rules.wrt_names(wrt)
    stream = kind.stream(x)
    (looks, places, held), results = keys(arrays, stream), rules.outputs(out, names)
    # With outputs, whether they lie where something is still to be read depends on every address.
    apart = (tuple(results), keys(tuple(results.values()), stream)[:2], places) if results else None
    key = kind, options, names, block_rows, type(block_rows), looks, apart
    call = _prepared.find(key)
    if call is None:
        outputs = {name: argument(a, stream) for name, a in results.items()}
        problem = check.loss(
            Arguments(*arguments(arrays, stream, required=REQUIRED)), options, names, outputs, block=block_rows
        )
        call = _prepared.keep(key, LinearCall(problem))
    upstream_fits(up, call.dtype)
    # What is multiplied, and where gradients go, is of the library whose current stream this is.
    borrowed = order(kind, stream, call.device, arrays[3:], held[3:])
    linear, of_name = call.linear, {"x": x, "weight": weight, "bias": bias}
    for name in call.wanted:
        if name not in results:
            results[name] = kind.empty(x, tuple(of_name[name].shape), linear.dtype, stream)
    value = kind.empty(x, () if call.reduced else (linear.rows,), call.dtype, stream)
    state, operands = call.state_for(workspace(call.device, stream)), Arrays(x, weight, bias, linear.library, stream)
    call(operands, (*places[3:], kind.address(value)), results, state, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    return value, results


def _checked(
    rule: Callable[..., Linear], arrays: tuple[Any, ...], required: tuple[int, ...] = REQUIRED, **rest: Any
) -> tuple[Linear, Arrays]:
    """Logits by a rule of `check` from array arguments, of which features, weights and bias are the first."""
    x, weight, bias, *_ = arrays
    stream = library(x).stream(x)
    problem = rule(*arguments(arrays, stream, required=required), **rest)
    return problem, Arrays(x, weight, bias, problem.library, stream)


def predict(x: Any, weight: Any, bias: Any) -> Any:
    """The class of the largest logit of each row."""
    return predict_classes(*_checked(check.linear, (x, weight, bias)))


def predict_proba(x: Any, weight: Any, bias: Any, out: Any) -> Any:
    """The probabilities of the classes for each row: all logits are written where they go, and replaced there."""
    problem, arrays = _checked(check.proba, (x, weight, bias, out), required=(0, 1))
    result = arrays.empty((problem.rows, problem.classes), problem.dtype) if out is None else out
    at = problem.library.address(result)
    key = "softmax", problem, at & 15
    call = _prepared.get(key)
    if call is None:
        z = problem.logits(problem.rows)._replace(address=at)
        call = _prepared.keep(key, MapCall(Map(z, None, z, problem.device), "softmax", SOFTMAX, numbers=False))
    fill(problem, arrays, result)
    call(at, 0, at, 0, arrays.stream)
    return result


def top_k(x: Any, weight: Any, bias: Any, k: Any) -> tuple[Any, Any]:
    """(classes, log-probabilities) of the k largest logits of each row."""
    problem, arrays = _checked(check.linear, (x, weight, bias))
    k = positive("k", k, problem.classes)
    if problem.library.sorts:
        problem = problem._replace(chunk=max(1, problem.chunk // SORTED))
    key = "top", problem
    call: TopCall = _prepared.get(key) or _prepared.keep(key, TopCall(problem))
    return call(arrays, k, workspace(problem.device, arrays.stream).lock)


def row_stats(
    x: Any, weight: Any, target: Any, bias: Any, variant: int, options: Options, k: Any, block_rows: Any, offset: Any
) -> dict[str, Any]:
    """The statistics of a set, by name."""
    kind, arrays, most = library(x), (x, weight, bias, target, offset), bool(variant & BITS["top_k"])
    stream = kind.stream(x)
    looks, places, held = keys(arrays, stream)
    key = kind, options, "statistics", variant, (k, type(k)) if most else None, block_rows, type(block_rows), looks
    call: StatisticsPass | None = _prepared.find(key)
    if call is None:
        given = arguments(arrays, stream, required=(0, 1))
        problem = check.statistics(*given, options=options, block=block_rows)
        number = positive("k", k, problem.linear.classes) if most else 0
        call = _prepared.keep(key, StatisticsPass(problem, variant, number))
    borrowed = order(kind, stream, call.device, arrays[3:], held[3:])
    shape = (call.linear.rows,)
    found = {name: kind.empty(x, shape + each, dtype, stream) for name, (dtype, each) in call.written.items()}
    operands, to = Arrays(x, weight, bias, call.linear.library, stream), tuple(map(kind.address, found.values()))
    call(operands, places[3], to, places[4])
    if borrowed:
        keep(call.device, stream, borrowed)
    if most:
        found["top_k"] = found.pop("indices"), found["top_k"]
    return found


def hessian_product(
    x: Any,
    weight: Any,
    bias: Any,
    weight_direction: Any,
    bias_direction: Any,
    sample_weight: Any,
    reduction: Any,
) -> tuple[Any, Any | None]:
    """The Hessian of the loss by weights and bias, times a direction."""
    direction = weight_direction, bias_direction
    problem, arrays = _checked(check.hessian, (x, weight, bias, *direction, sample_weight), reduction=reduction)
    key = "hessian", problem
    call: HessianCall = _prepared.get(key) or _prepared.keep(key, HessianCall(problem))
    return call(arrays, direction, sample_weight, mean=reduction == "mean")

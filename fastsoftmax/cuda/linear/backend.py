"""The public functions of linear maps on GPU arrays: what a call looks like, the pass prepared for it, new results."""

from typing import Any, NamedTuple

from ...core import memo, rules
from ...core.conversion import positive
from ...core.dtypes import SOFTMAX
from ...core.options import Options
from .. import backend
from ..arrays.borrowed import keep
from ..arrays.lookup import all_seen, library, seen
from ..check import Map, upstream_fits, upstream_number
from ..run import MapCall
from ..workspace import workspace
from . import check as check_linear_cuda
from . import predict as run_predict_cuda
from .check import Given
from .chunks import Arrays
from .run import HessianCall, LinearCall

SORTED = 16  # times less rows a chunk where a library sorts all logits: their places and copies take so much more
_prepared = memo.shared(1024)  # calls, some 10 KB each


class Looks(NamedTuple):
    """What arguments look like, and their addresses."""

    looks: tuple[Any, ...]  # with how their addresses are aligned
    places: tuple[int, ...]
    held: tuple[Any, ...]  # what holds their memory


def _look(arrays: tuple[Any, ...], stream: int) -> Looks:
    if not arrays:
        return Looks((), (), ())
    found = [backend.NOTHING if a is None else library(a).peek(a, stream) for a in arrays]
    looks, places, held = zip(*found, strict=True)
    aligned = map(backend.place_of, places)
    return Looks(tuple(zip(map(type, arrays), looks, aligned, strict=True)), places, held)


def cross_entropy(
    arrays: tuple[Any, ...],
    options: Options,
    grad_output: Any,
    wrt: Any,
    out: Any,
    block: Any,
    *,
    check_targets: bool | None,
) -> tuple[Any, dict[str, Any]]:
    """(loss, gradients by name) for features, weights, bias, target, class weights and sample weights."""
    up = upstream_number(grad_output)
    given, names = (*arrays, grad_output if up is None else None), rules.wrt_names(wrt)
    kind = library(arrays[0])
    stream = kind.stream(arrays[0])
    look, to = _look(given, stream), rules.outputs(out, names)
    target, *weights = look.places[3:]
    into = _look(tuple(to.values()), stream)
    # With outputs, whether they lie where something is still to be read depends on every address.
    apart = (tuple(to), into[:2], look.places) if to else None
    key = (kind, options, names, block, type(block), look.looks, apart)
    call = _prepared.find(key)
    if call is None:
        about = Given(*all_seen(given, stream))
        outputs = {name: seen(a, stream) for name, a in to.items()}
        call = _prepared.keep(key, LinearCall(check_linear_cuda.loss(about, options, names, outputs, block=block)))
    upstream_fits(up, call.dtype)
    # What is multiplied, and where gradients go, is of the library whose current stream this is.
    borrowed = backend.order(kind, stream, call.device, given[3:], look.held[3:])
    by_name, x = dict(zip(("x", "weight", "bias"), arrays, strict=False)), arrays[0]
    linear, results = call.linear, dict(to)
    for name in call.wanted:
        if name not in results:
            results[name] = kind.new(x, tuple(by_name[name].shape), linear.dtype, stream)
    loss = kind.new(x, () if call.reduced else (linear.rows,), call.dtype, stream)
    room = call.roomed(workspace(call.device, stream))
    places = (target, *weights, kind.address(loss))
    operands = Arrays(arrays[0], arrays[1], arrays[2], kind, stream)
    call(operands, places, results, room, 1.0 if up is None else up, check_targets)
    if borrowed:
        keep(call.device, stream, borrowed)
    return loss, results


def predict(x: Any, weight: Any, bias: Any) -> Any:
    """The class of the largest logit of each row."""
    kind, given = library(x), (x, weight, bias)
    stream = kind.stream(x)
    problem = check_linear_cuda.linear(*all_seen(given, stream))
    return run_predict_cuda.predict(problem, Arrays(x, weight, bias, kind, stream))


def predict_proba(x: Any, weight: Any, bias: Any, out: Any) -> Any:
    """The probabilities of the classes for each row: all logits are written where they go, and replaced there."""
    kind, given = library(x), (x, weight, bias, out)
    stream = kind.stream(x)
    problem = check_linear_cuda.proba(*all_seen(given, stream))
    result = kind.new(x, (problem.rows, problem.classes), problem.dtype, stream) if out is None else out
    at = kind.address(result)
    key = kind, "softmax", problem, at & 15
    call = _prepared.get(key)
    if call is None:
        z = problem.logits(problem.rows)._replace(address=at)
        call = _prepared.keep(key, MapCall(Map(z, None, z, problem.device), "softmax", SOFTMAX, numbers=False))
    run_predict_cuda.fill(problem, Arrays(x, weight, bias, kind, stream), result)
    call(at, 0, at, 0, stream)
    return result


def top_k(x: Any, weight: Any, bias: Any, k: Any) -> tuple[Any, Any]:
    """(classes, log-probabilities) of the k largest logits of each row."""
    kind, given = library(x), (x, weight, bias)
    stream = kind.stream(x)
    problem = check_linear_cuda.linear(*all_seen(given, stream))
    k = positive("k", k, problem.classes)
    if problem.matrices.sorts:
        problem = problem._replace(chunk=max(1, problem.chunk // SORTED))
    key = kind, "top", problem
    call = _prepared.get(key) or _prepared.keep(key, run_predict_cuda.TopCall(problem))
    return call(Arrays(x, weight, bias, kind, stream), k, workspace(problem.device, stream).lock)  # type: ignore[no-any-return]


def hessian_product(
    arrays: tuple[Any, Any, Any, Any, Any], sample_weight: Any, reduction: Any
) -> tuple[Any, Any | None]:
    """The Hessian's product, for features, weights, bias, and the direction of both."""
    x, weight, bias, *direction = arrays
    kind = library(x)
    stream = kind.stream(x)
    problem = check_linear_cuda.hessian(*all_seen((*arrays, sample_weight), stream), reduction=reduction)
    key = kind, "hessian", problem
    call = _prepared.get(key) or _prepared.keep(key, HessianCall(problem))
    operands = Arrays(x, weight, bias, kind, stream)
    return call(operands, tuple(direction), sample_weight, mean=reduction == "mean")  # type: ignore[no-any-return]

"""The losses: what each takes, the function of the library that computes it, and its formula."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..api import cross_entropy as rows
from ..api import divergence, linear
from ..core.options import TERMS
from ..core.rules import WRT
from . import formulas
from .operators import Loss
from .tensors import array, computed, factors, indices, output, row_shape, tensor

OPTIONS = tuple(term.option for term in TERMS)
#: The class indices or probabilities, and the options, of every cross-entropy.
PARAMETERS = "int ignore_index, float[] terms, str reduction, bool? check_targets"


@lru_cache(maxsize=256, typed=True)
def _options(ignore_index: int, reduction: str, check_targets: bool | None, *terms: float) -> dict[str, Any]:
    """Keywords of the library's functions, which nobody is to change."""
    more = {"ignore_index": ignore_index, "reduction": reduction, "check_targets": check_targets}
    return more | dict(zip(OPTIONS, terms, strict=True))


def _upstream(up: Any, *like: Any) -> tuple[Any, Any]:
    """(the upstream gradient for the kernel, a factor that its results are still to be multiplied by).

    A kernel is given a number, or an array with one for each row: a number on a GPU is not waited for.  1 is left out,
    as calls without are prepared.
    """
    if up is None or up.ndim:
        return factors(up, *like), None
    if not up.is_cpu:
        return None, up
    return (None if up.item() == 1.0 else up.item()), None


def _grads(arrays: Sequence[Any], factor: Any) -> list[Any]:
    """Gradients as tensors."""
    found = [tensor(grad) for grad in arrays]
    return found if factor is None else [grad.mul_(factor) for grad in found]


def _shape(x: Any, dim: int, reduction: str) -> Any:
    """A loss of logits, for fake tensors."""
    return x.new_empty(row_shape(x, dim) if reduction == "none" else [], dtype=computed(x))


def _linear_shape(x: Any, weight: Any, *rest: Any) -> Any:
    """A loss of features, for fake tensors."""
    return x.new_empty(x.shape[:1] if rest[7] == "none" else [], dtype=computed(x, weight))


def _cross_entropy(given: Any, up: Any, parameters: Any, wrt: Any) -> tuple[Any, Any]:
    x, target, *others = given
    dim, *options = parameters
    arrays, more = (array(x), indices(target)), {**_options(*options[:1], *options[2:], *options[1]), "axis": dim}
    for name, t in zip(("class_weight", "where", "class_offset", "sample_weight"), others, strict=True):
        if t is not None:
            more[name] = array(t) if name == "where" else factors(t, x)
    if not wrt:
        return tensor(rows.cross_entropy(*arrays, **more)), ()
    up, factor = _upstream(up, x)
    loss, grad = rows.cross_entropy_and_grad(*arrays, **more, grad_output=up, out=array(output(x)))
    return tensor(loss), _grads([grad], factor)


def _linear_cross_entropy(given: Any, up: Any, parameters: Any, wrt: Any) -> tuple[Any, Any]:
    x, weight, bias, target, class_weight, class_offset, sample_weight = given
    ignore_index, terms, reduction, check_targets, block_rows = parameters
    arrays = array(x), array(weight), indices(target), array(bias)
    more = {
        "class_weight": factors(class_weight, x, weight),
        "sample_weight": factors(sample_weight, x, weight),
        "class_offset": factors(class_offset, x, weight),
        "block_rows": block_rows,
        **_options(ignore_index, reduction, check_targets, *terms),
    }
    if not wrt:
        return tensor(linear.linear_cross_entropy(*arrays, **more)), ()
    up, factor = _upstream(up, x, weight)
    of = {name: t for name, t, want in zip(WRT, given, wrt, strict=False) if want}
    to = {name: array(place) for name, place in zip(of, map(output, of.values()), strict=True) if place is not None}
    loss, *grads = linear.linear_cross_entropy_and_grad(*arrays, **more, grad_output=up, wrt=tuple(of), out=to)
    return tensor(loss), _grads([grad for grad in grads if grad is not None], factor)


def _kl_divergence(given: Any, up: Any, parameters: Any, wrt: Any) -> tuple[Any, Any]:
    student, teacher, listed, where, sample_weight = given
    dim, temperature, teacher_is, direction, beta, tail, reduction = parameters
    arrays = array(student), array(teacher) if listed is None else (indices(listed), array(teacher))
    more = {
        "axis": dim,
        "temperature": temperature,
        "teacher_is": teacher_is,
        "direction": direction or beta,
        "tail": tail or None,
        "where": array(where),
        "sample_weight": factors(sample_weight, student),
        "reduction": reduction,
    }
    if not wrt:
        return tensor(divergence.kl_divergence(*arrays, **more)), ()
    up, factor = _upstream(up, student)
    loss, grad = divergence.kl_divergence_and_grad(*arrays, **more, grad_output=up, out=array(output(student)))
    return tensor(loss), _grads([grad], factor)


CROSS_ENTROPY = Loss(
    "cross_entropy",
    "Tensor input, Tensor target, Tensor? weight, Tensor? where, Tensor? class_offset, Tensor? sample_weight",
    f"SymInt dim, {PARAMETERS}",
    _cross_entropy,
    lambda *inputs: _shape(inputs[0], inputs[6], inputs[9]),
    formulas.cross_entropy,
    traced=False,
)
LINEAR_CROSS_ENTROPY = Loss(
    "linear_cross_entropy",
    "Tensor input, Tensor weight, Tensor? bias, Tensor target, Tensor? class_weight, Tensor? class_offset, "
    "Tensor? sample_weight",
    f"{PARAMETERS}, SymInt? block_rows",
    _linear_cross_entropy,
    _linear_shape,
    formulas.linear_cross_entropy,
    first=3,
)
KL_DIVERGENCE = Loss(
    "kl_divergence",
    "Tensor student, Tensor teacher, Tensor? listed, Tensor? where, Tensor? sample_weight",
    "SymInt dim, float temperature, str teacher_is, str direction, float beta, str tail, str reduction",
    _kl_divergence,
    lambda *inputs: _shape(inputs[0], inputs[5], inputs[11]),
    formulas.kl_divergence,
)

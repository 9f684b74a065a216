"""The operators: what each takes, the function of the library that computes it, and its formula."""

from typing import Any

from ..api.cross_entropy import cross_entropy, cross_entropy_and_grad
from ..core.options import TERMS
from . import formulas
from .operators import Loss
from .tensors import array, computed, factors, indices, output, tensor

OPTIONS = tuple(term.option for term in TERMS)
#: The class indices or probabilities, and the options, of every cross-entropy.
PARAMETERS = "int ignore_index, float[] terms, str reduction, bool? check_targets"


def _options(ignore_index: int, terms: list[float], reduction: str, check_targets: bool | None) -> dict[str, Any]:
    """Keywords of the library's functions."""
    return {
        **dict(zip(OPTIONS, terms, strict=True)),
        "ignore_index": ignore_index,
        "reduction": reduction,
        "check_targets": check_targets,
    }


def _scalar(like: Any, up: Any) -> tuple[Any, Any]:
    """(the upstream gradient for the kernel, what its results are still to be multiplied by).

    A kernel is given a number or an array with one for each row: a number on a GPU is not waited for.
    """
    return (None, up) if up is not None and up.ndim == 0 and not up.is_cpu else (factors(up, like), None)


def _cross_entropy(given: Any, up: Any, parameters: Any, wrt: Any) -> tuple[Any, list[Any]]:
    x, target, class_weight, sample_weight = given
    dim, *options = parameters
    if up is not None and up.ndim and sample_weight is not None:  # a GPU's kernel multiplies by one of them
        up, sample_weight = up * sample_weight, None
    arrays = array(x), indices(target)
    more = _options(*options)
    more |= {"axis": dim, "class_weight": factors(class_weight, x), "sample_weight": factors(sample_weight, x)}
    if not any(wrt):
        return tensor(cross_entropy(*arrays, **more)), []
    up, factor = _scalar(x, up)
    loss, grad = cross_entropy_and_grad(*arrays, **more, grad_output=up, out=array(output(x)))
    return tensor(loss), [tensor(grad) if factor is None else tensor(grad).mul_(factor)]


def _rows_shape(x: Any, target: Any, *rest: Any) -> Any:
    dim, reduction = rest[2], rest[5]
    shape = [n for i, n in enumerate(x.shape) if i != dim % x.ndim] if reduction == "none" else []
    return x.new_empty(shape, dtype=computed(x))


CROSS_ENTROPY = Loss(
    "cross_entropy",
    "Tensor input, Tensor target, Tensor? weight, Tensor? sample_weight",
    f"SymInt dim, {PARAMETERS}",
    _cross_entropy,
    _rows_shape,
    formulas.cross_entropy,
)

"""Functions of features in main memory: checked, and run.

Numba is imported by the first call that computes, as in the backend of logits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.conversion import positive, positive_or_none
from ...core.interrupts import imported
from ...core.options import Options
from ...core.statistics import BITS
from ..check import Array
from . import check

#: Whatever the caller has NumPy do: infinities and NaN are results like others.
_quiet = np.errstate(all="ignore")


def _run() -> Any:
    return imported(".run", __package__)


def _predict() -> Any:
    return imported(".predict", __package__)


@_quiet
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
    check_targets: Any = None,  # on a GPU alone: here labels are always checked
    class_offset: Any = None,
) -> tuple[Any, dict[str, Array]]:
    """(loss, gradients by name) of a cross-entropy."""
    problem = check.loss(
        *(x, weight, target, bias, class_weight, sample_weight, options),
        block_rows=block_rows,
        grad_output=grad_output,
        wrt=wrt,
        out=out,
        class_offset=class_offset,
    )
    result: tuple[Any, dict[str, Array]] = _run().cross_entropy(problem)
    return result


@_quiet
def hessian_product(
    x: Any,
    weight: Any,
    bias: Any,
    weight_direction: Any,
    bias_direction: Any,
    sample_weight: Any,
    reduction: Any,
) -> tuple[Array, Array | None]:
    """The Hessian of the loss by weights and bias, times a direction."""
    problem = check.hessian(x, weight, bias, weight_direction, bias_direction, sample_weight, reduction)
    result: tuple[Array, Array | None] = _run().hessian_product(*problem)
    return result


@_quiet
def predict(x: Any, weight: Any, bias: Any) -> NDArray[np.int64]:
    """The class of the largest logit of each row."""
    result: NDArray[np.int64] = _predict().predict(check.linear(x, weight, bias))
    return result


@_quiet
def predict_proba(x: Any, weight: Any, bias: Any, out: Any) -> Array:
    """The probabilities of the classes for each row."""
    result: Array = _predict().predict_proba(*check.proba(x, weight, bias, out))
    return result


@_quiet
def top_k(x: Any, weight: Any, bias: Any, k: Any) -> tuple[Array, Array]:
    """(classes, log-probabilities) of the k largest logits of each row."""
    problem = check.linear(x, weight, bias)
    result: tuple[Array, Array] = _predict().top_k(problem, positive("k", k, problem.classes))
    return result


@_quiet
def row_stats(
    x: Any, weight: Any, target: Any, bias: Any, variant: int, options: Options, k: Any, block_rows: Any, offset: Any
) -> dict[str, Any]:
    """Statistics of the logits of each row, by name."""
    problem, of = check.row_stats(x, weight, target, bias, options, offset)
    most = positive("k", k, problem.classes) if variant & BITS["top_k"] else 0
    block = positive_or_none("block_rows", block_rows)
    result: dict[str, Any] = _predict().row_stats(problem, of, variant, most, block)
    return result


def workspace_bytes(rows: Any, features: Any, classes: Any, dtype: Any, wrt: Any, threads: Any, block_rows: Any) -> int:
    """The memory that `loss` takes for arrays of some shapes, besides them and its results."""
    shape = check.virtual_problem(rows, features, classes, dtype, wrt, block_rows)
    bound = positive_or_none("threads", threads)
    result: int = _run().workspace(shape, bound)
    return result

"""The parameters of the kernels and their order: addresses and numbers, so that a launch converts nothing."""

from collections import namedtuple
from functools import lru_cache
from typing import Any, NamedTuple

from ...core.options import Numbers


class Integers(NamedTuple):
    """The int64 parameters of a row kernel: addresses (0: not given), sizes, and strides in bytes.

    `outer` and `inner` are the strides of two levels of rows, of which the inner one has `inner` rows; `step` is that
    between classes.
    """

    x: int = 0
    y: int = 0  # soft targets, or the second operand of a product
    out: int = 0
    target: int = 0  # int64, one a row
    class_weight: int = 0  # this and the next three are of the computing dtype
    loss_factor: int = 0
    grad_factor: int = 0
    result: int = 0  # a number a row
    partial: int = 0  # float64: the sum of losses of each block
    denominator: int = 0  # one float64 that gradients are divided by
    bad: int = 0  # one int64: 1 + a row whose label is out of range
    ignore_index: int = -100
    rows: int = 0
    inner: int = 1
    classes: int = 0
    x_outer: int = 0
    x_inner: int = 0
    x_step: int = 0
    y_outer: int = 0
    y_inner: int = 0
    y_step: int = 0
    out_outer: int = 0
    out_inner: int = 0
    out_step: int = 0


#: The int64 parameters of "statistics": those of other row kernels, but for the addresses of statistics (0: not asked
#: for) in the place of weights and results.  Of the `k` largest classes `top_k` has the log-probabilities.
_NAMES = "log_prob", "entropy", "log_sum_exp", "argmax", "max_prob", "correct", "rank", "margin", "top_k"
_FIELDS = (*Integers._fields[:4], *_NAMES, "indices", "k", *Integers._fields[Integers._fields.index("ignore_index") :])
StatisticIntegers = namedtuple("StatisticIntegers", _FIELDS)  # type: ignore[misc]


#: The same of "derivatives", with the addresses of upstream gradients (0: one number for all rows), and their numbers.
_UPSTREAMS = _NAMES[:3]
DerivativeIntegers = namedtuple("DerivativeIntegers", (*_FIELDS[:4], *_UPSTREAMS, *_FIELDS[15:]))  # type: ignore[misc]
DerivativeNumbers = namedtuple("DerivativeNumbers", (*_UPSTREAMS, "inverse_temperature", "cap"))  # type: ignore[misc]


#: Those of "hessian", and its numbers: strides and address of a second output, a factor and a bound of it.
_SECOND = "hessian_outer", "hessian_inner", "hessian_step", "hessian"
HessianIntegers = namedtuple("HessianIntegers", (*Integers._fields, *_SECOND))  # type: ignore[misc]
HessianNumbers = namedtuple("HessianNumbers", (*Numbers._fields, "curvature", "least"))  # type: ignore[misc]


#: The numbers of "divergence", whose integers are those of a loss: the teacher's share in a mixture besides.
DivergenceNumbers = namedtuple("DivergenceNumbers", (*Numbers._fields, "beta"))  # type: ignore[misc]


#: The integers of "listed": a pair of `listed` classes a row and their log-probabilities in the places of labels.
_LISTED = {"target": "indices", "class_weight": "log_prob", "ignore_index": "listed"}
ListedIntegers = namedtuple("ListedIntegers", [_LISTED.get(name, name) for name in Integers._fields])  # type: ignore[misc]


#: What adjusted logits take besides: strides of the mask, and addresses of offsets by class and of the mask (0: none).
ADJUSTMENTS = "mask_outer", "mask_inner", "mask_step", "offset", "mask"


@lru_cache(maxsize=8)
def adjusted(integers: Any) -> Any:
    """The int64 parameters of a kernel whose logits are adjusted."""
    return namedtuple(f"Adjusted{integers.__name__}", (*integers._fields, *ADJUSTMENTS), defaults=(0,) * 5)


class Counting(NamedTuple):
    """The int64 parameters of "count", which sums the weights of the rows that count, and of nothing else."""

    target: int = 0
    class_weight: int = 0  # 0: every class weighs 1
    loss_factor: int = 0  # 0: every row weighs 1
    denominator: int = 0
    bad: int = 0
    ignore_index: int = -100
    rows: int = 0
    classes: int = 0


class Totalling(NamedTuple):
    """The int64 parameters of "total", which adds up `n` partial sums and divides them."""

    partial: int = 0
    n: int = 0
    denominator: int = 0  # 0: nothing is divided
    result: int = 0

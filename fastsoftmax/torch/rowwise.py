"""The operators of rows that are no losses: maps, their products, and statistics."""

from collections.abc import Sequence
from typing import Any

import torch

from ..api import linear, softmax, statistics
from ..core.statistics import BITS, DIFFERENTIABLE, REAL, STATISTICS, TRUTH, asked
from . import formulas
from .operators import Operator, by_formula, mixed, pulled
from .tensors import array, computed, factors, indices, output, row_shape, tensor

_REALS = {False: (softmax.softmax, softmax.softmax_vjp), True: (softmax.log_softmax, softmax.log_softmax_vjp)}
#: Which of the upstream gradients of `DIFFERENTIABLE` an operator takes, after logits (or what they are made of).
UPSTREAM = ", ".join(f"Tensor? {name}" for name in DIFFERENTIABLE)
BLOCK = 2**22  # logits that are there at a time, in the gradient of statistics from features


def _softmax(x: Any, where: Any, dim: int, log: bool) -> Any:
    return tensor(_REALS[log][0](array(x), dim, where=array(where), out=array(output(x))))


def _gradient_of_softmax(given: Any, parameters: Any, saved: Any, upstream: Any, _: Any) -> Sequence[Any]:
    (_, where), (up,) = given, upstream
    return [SOFTMAX_VJP(*saved, up if where is None else up.masked_fill(~where, 0.0), *parameters), None]


def _softmax_vjp(y: Any, grad: Any, dim: int, log: bool) -> Any:
    return tensor(_REALS[log][1](array(y), array(grad), dim, out=array(output(y))))


def _logsumexp(x: Any, where: Any, dims: list[int]) -> Any:
    return tensor(softmax.logsumexp(array(x), dims[0] if len(dims) == 1 else tuple(dims), where=array(where)))


def _gradient_of_logsumexp(given: Any, parameters: Any, _: Any, upstream: Any, needs: Any) -> Sequence[Any]:
    ((dim, *more),), (x, where) = parameters, given
    if more or not x.ndim:
        return by_formula(formulas.logsumexp)(given, parameters, [], upstream, needs)
    nothing = (None,) * 3  # an offset, and the upstream gradients of all but a log-sum-exp
    # Rows of which nothing is there have a value, -inf, and no gradient: they are ignored.
    used = None if where is None else torch.where(where.expand(x.shape).any(dim), 0, -100)
    return [STATISTICS_GRAD(x, used, where, *nothing, *upstream, dim, [1.0, float("inf")], -100), None]


def _sums(x: Any, _: Any, dims: list[int]) -> Any:
    """The sums of a logsumexp, for fake tensors."""
    away = {dim % max(x.ndim, 1) for dim in dims}
    return x.new_empty([n for i, n in enumerate(x.shape) if i not in away])


def _more(terms: list[float], ignore_index: int) -> dict[str, Any]:
    return {"temperature": terms[0], "softcap": terms[1], "ignore_index": ignore_index}


def _found(stats: statistics.RowStats, want: int) -> list[Any]:
    """The results for a set of statistics, in their order; `top_k` has two."""
    values = [getattr(stats, name) for name in asked(want)]
    return [tensor(part) for value in values for part in (value if isinstance(value, tuple) else (value,))]


def _row_stats(x: Any, target: Any, where: Any, offset: Any, dim: int, *rest: Any) -> Any:
    *options, k, want = rest
    more = _more(*options) | {"where": array(where), "class_offset": factors(offset, x)}
    return _found(statistics.row_stats(array(x), indices(target), want=asked(want), axis=dim, k=k, **more), want)


def _linear_row_stats(x: Any, weight: Any, bias: Any, target: Any, offset: Any, *rest: Any) -> Any:
    *options, k, want = rest
    arrays, more = (array(x), array(weight), indices(target), array(bias)), _more(*options)
    more["class_offset"] = factors(offset, x, weight)
    return _found(linear.linear_row_stats(*arrays, want=asked(want), k=k, **more), want)


def _fake_stats(x: Any, rows: list[Any], dtype: Any, k: int, want: int) -> list[Any]:
    """Statistics, for fake tensors."""
    found = []
    for statistic in STATISTICS:
        if want & BITS[statistic.name]:
            if statistic.name == "top_k":
                found += [x.new_empty([*rows, k], dtype=torch.int64), x.new_empty([*rows, k], dtype=dtype)]
            else:
                of = {REAL: dtype, TRUTH: torch.bool}.get(statistic.kind, torch.int64)
                found.append(x.new_empty(rows, dtype=of))
    return found


def _fake_row_stats(x: Any, *rest: Any) -> Any:
    return _fake_stats(x, row_shape(x, rest[3]), computed(x), *rest[-2:])


def _count(want: int) -> int:
    """The number of results for a set of statistics."""
    return len(asked(want)) + bool(want & BITS["top_k"])


def _constant(*parameters: Any) -> list[int]:
    """The numbers of the results that have no gradient."""
    names = asked(parameters[-1])
    return [i for i in range(_count(parameters[-1])) if i >= len(names) or names[i] not in DIFFERENTIABLE]


def _ups(upstream: Sequence[Any], want: int) -> list[Any]:
    """The upstream gradients of `DIFFERENTIABLE`."""
    of = dict(zip(asked(want), upstream, strict=False))
    return [of.get(name) for name in DIFFERENTIABLE]


def _of_names(formula: Any) -> Any:
    """A formula of the results of a set of statistics, of which those that have no gradient are not looked at."""

    def results(*inputs: Any) -> list[Any]:
        *given, _, want = inputs
        of = dict(zip(DIFFERENTIABLE, formula(*given), strict=True))
        return [of.get(name) for name in (*asked(want), "top_k")[: _count(want)]]

    return results


def _stats_grad(x: Any, target: Any, where: Any, offset: Any, *rest: Any) -> Any:
    *ups, dim, terms, ignore_index = rest
    more = _more(terms, ignore_index) | {"where": array(where), "class_offset": factors(offset, x)}
    more |= {name: factors(up, x) for name, up in zip(DIFFERENTIABLE, ups, strict=True)}
    return tensor(statistics.row_stats_vjp(array(x), indices(target), axis=dim, out=array(output(x)), **more))


def _formula_of_stats_grad(*inputs: Any) -> Any:
    return pulled(formulas.row_stats, inputs[:4], (True, False, False, False), inputs[4:7], inputs[7:])


def _linear_stats_grad(x: Any, weight: Any, bias: Any, target: Any, offset: Any, *rest: Any) -> list[Any]:
    """The gradient by each block of logits, which is multiplied as those of losses are."""
    *ups, terms, ignore_index, wrt = rest
    dtype, size = computed(x, weight), max(1, BLOCK // weight.shape[0])
    wide: Any = (None if t is None else t.detach().to(dtype) for t in (x, weight, bias))
    x_, w, b = wide
    grads: list[Any] = [torch.zeros_like(t) if want else None for t, want in zip((x_, w, b), wrt, strict=True)]
    for begin in range(0, x.shape[0], size):
        part = slice(begin, begin + size)
        labels, *each = (None if t is None else t[part] for t in (target, *ups))
        dz = _stats_grad(formulas.logits(x_[part], w, b), labels, None, offset, *each, 1, terms, ignore_index)
        if grads[0] is not None:
            grads[0][part] = dz @ w
        if grads[1] is not None:
            grads[1].addmm_(dz.T, x_[part])
        if grads[2] is not None:
            grads[2] += dz.sum(0)
    return [grad.to(t.dtype) for grad, t in zip(grads, (x, weight, bias), strict=True) if grad is not None]


def _fake_linear_stats_grad(*inputs: Any) -> list[Any]:
    return [torch.empty_like(t) for t, want in zip(inputs[:3], inputs[-1], strict=True) if want]


def _formula_of_linear_stats_grad(*inputs: Any) -> Any:
    return pulled(formulas.linear_row_stats, inputs[:5], (*inputs[-1], False, False), inputs[5:8], inputs[8:-1])


SOFTMAX = Operator(
    "softmax", ("Tensor input, Tensor? where", "SymInt dim, bool log", "Tensor"), _softmax,
    lambda x, *_: torch.empty_like(x),
    _gradient_of_softmax,
    saved=(0,),
)  # fmt: skip
SOFTMAX_VJP: Operator = Operator(
    "softmax_vjp", ("Tensor output, Tensor grad", "SymInt dim, bool log", "Tensor"), _softmax_vjp,
    lambda y, *_: torch.empty_like(y),
    by_formula(formulas.softmax_vjp),
)  # fmt: skip
LOGSUMEXP = Operator(
    "logsumexp", ("Tensor input, Tensor? where", "SymInt[] dims", "Tensor"), _logsumexp, _sums, _gradient_of_logsumexp
)  # fmt: skip
ROW_STATISTICS = Operator(
    "row_stats",
    (
        "Tensor input, Tensor? target, Tensor? where, Tensor? class_offset",
        "SymInt dim, float[] terms, int ignore_index, SymInt k, int want",
        "Tensor[]",
    ),
    _row_stats,
    _fake_row_stats,
    mixed(
        1,
        lambda t, p, up, _: [STATISTICS_GRAD(*t, *_ups(up, p[-1]), *p[:-2])],
        _of_names(formulas.row_stats),
    ),
    constant=_constant,
)
STATISTICS_GRAD: Operator = Operator(
    "row_stats_grad",
    (
        f"Tensor input, Tensor? target, Tensor? where, Tensor? class_offset, {UPSTREAM}",
        "SymInt dim, float[] terms, int ignore_index",
        "Tensor",
    ),
    _stats_grad,
    lambda x, *_: torch.empty_like(x),
    by_formula(_formula_of_stats_grad),
)
LINEAR_STATISTICS = Operator(
    "linear_row_stats",
    (
        "Tensor input, Tensor weight, Tensor? bias, Tensor? target, Tensor? class_offset",
        "float[] terms, int ignore_index, SymInt k, int want",
        "Tensor[]",
    ),
    _linear_row_stats,
    lambda x, weight, *rest: _fake_stats(x, [x.shape[0]], computed(x, weight), *rest[-2:]),
    mixed(
        3,
        lambda t, p, up, wrt: LINEAR_STATISTICS_GRAD(*t, *_ups(up, p[-1]), *p[:-2], wrt),
        _of_names(formulas.linear_row_stats),
    ),
    constant=_constant,
)
LINEAR_STATISTICS_GRAD: Operator = Operator(
    "linear_row_stats_grad",
    (
        f"Tensor input, Tensor weight, Tensor? bias, Tensor? target, Tensor? class_offset, {UPSTREAM}",
        "float[] terms, int ignore_index, bool[] wrt",
        "Tensor[]",
    ),
    _linear_stats_grad,
    _fake_linear_stats_grad,
    by_formula(_formula_of_linear_stats_grad),
)

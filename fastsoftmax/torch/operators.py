"""Operators of torch: a kernel, what it gives for fake tensors, and its gradient, said once for every way to call them.

Where nothing but autograd looks on, an operator is its kernel, in a `torch.autograd.Function` if a gradient is wanted.
Under a compiler or a mode, or for other tensors than torch's own, it is a custom operator of `torch.library`, which
costs some tens of microseconds a call; under the transforms of `torch.func`, which do not take those with a gradient, a
function with rules for them.  All have the same gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from . import tensors

#: (tensors, parameters, saved results, upstream gradients, what needs a gradient) -> the gradients by the tensors.
Gradient = Callable[[list[Any], tuple[Any, ...], list[Any], Sequence[Any], Sequence[bool]], Sequence[Any]]


class Operator:
    """An operator that takes some tensors, then parameters.

    `saved` are the numbers of the results that the gradient looks at instead of the first tensor; `constant` gives, of
    the parameters, the numbers of the results that have no gradient.  Of a `hidden` operator the first alone is shown.
    """

    def __init__(
        self,
        name: str,
        schema: tuple[str, str, str],  # the tensors, the parameters, the results
        kernel: Callable[..., Any],
        fake: Callable[..., Any],
        gradient: Gradient,
        *,
        saved: Sequence[int] = (),
        constant: Callable[..., Sequence[int]] = lambda *_: (),
        hidden: bool = False,
    ) -> None:
        self.name, self.kernel, self.count, self.hidden = name, kernel, schema[0].count("Tensor"), hidden
        self._gradient, self._saved, self._constant = gradient, saved, constant
        said = f"({schema[0]}, {schema[1]}) -> {schema[2]}"
        self.op = torch.library.custom_op(f"fastsoftmax::{name}", kernel, mutates_args=(), schema=said)
        self.op.register_fake(_of_one_device(fake, self.count))
        self.op.register_autograd(self._backward, setup_context=self._setup)
        if hasattr(self.op, "register_vmap"):  # torch 2.5
            self.op.register_vmap(self._one_by_one)
        of_all = {"backward": staticmethod(self._backward)}
        eager = {**of_all, "forward": staticmethod(self._forward)}
        rules = {
            **of_all,
            "forward": staticmethod(self._results),
            "setup_context": staticmethod(self._setup),
            "vmap": staticmethod(self._one_by_one),
        }
        self._apply = _function(name, eager)
        self._transformed = _function(name, rules)

    def __call__(self, *inputs: Any) -> Any:
        """The result, or the list of results."""
        given = inputs[: self.count]
        if tensors.seen(given):
            found = self._seen(*inputs)
        elif torch.is_grad_enabled() and True in [t is not None and t.requires_grad for t in given]:
            return self.eager(inputs)
        else:
            found = self.kernel(*inputs)
        return found[0] if self.hidden else found

    def eager(self, inputs: Any) -> Any:
        """The result as autograd knows it; parameters go together, as each argument of its functions costs time."""
        return self._apply(*inputs[: self.count], inputs[self.count :])

    def _seen(self, *inputs: Any) -> Any:
        return (self._transformed if tensors.transforms() else self.op)(*inputs)

    def _results(self, *inputs: Any) -> Any:
        found = self.kernel(*inputs)
        return tuple(found) if isinstance(found, list) else found

    def _forward(self, ctx: Any, *arguments: Any) -> Any:
        inputs = (*arguments[:-1], *arguments[-1])
        found = self._results(*inputs)
        if self.hidden:
            self._save(ctx, inputs, found)
            return found[0]
        self._setup(ctx, inputs, found)
        return found

    def _setup(self, ctx: Any, inputs: Any, output: Any) -> None:
        results = output if isinstance(output, (list, tuple)) else (output,)
        fixed = range(1, len(results)) if self.hidden else self._constant(*inputs[self.count :])
        if fixed:
            ctx.mark_non_differentiable(*(results[i] for i in fixed))
        self._save(ctx, inputs, results)

    def _save(self, ctx: Any, inputs: Any, results: Any) -> None:
        kept = results[1:] if self.hidden else [results[i] for i in self._saved]
        given = (None, *inputs[1 : self.count]) if self._saved else inputs[: self.count]
        ctx.save_for_backward(*given, *kept)
        ctx.parameters = inputs[self.count :]
        ctx.set_materialize_grads(False)

    def _backward(self, ctx: Any, *upstream: Any) -> Any:
        n, saved = self.count, ctx.saved_tensors
        if isinstance(upstream[0], list):
            upstream = tuple(upstream[0])
        needs = ctx.needs_input_grad
        if all([up is None for up in upstream]):  # noqa: C419  a list is faster
            return (None,) * len(needs)
        found = self._gradient(saved[:n], ctx.parameters, saved[n:], upstream, needs[:n])
        return (*found, *[None] * (len(needs) - n))

    def _one_by_one(self, info: Any, in_dims: Any, *inputs: Any) -> Any:
        """The rule for a vectorising transform: a loop."""
        given, rest, size = inputs[: self.count], inputs[self.count :], info.batch_size

        def at(i: int, t: Any, d: Any) -> Any:
            if d is None:
                return t
            return t.select(d, i) if size else t.sum(d).to(t.dtype)  # of nothing: zeros, for the results' shapes

        found = [
            self._seen(*(at(i, t, d) for t, d in zip(given, in_dims[: self.count], strict=True)), *rest)
            for i in range(size or 1)
        ]
        if isinstance(found[0], torch.Tensor):
            return torch.stack(found)[:size], 0
        stacked = tuple(torch.stack(each)[:size] for each in zip(*found, strict=True))
        return stacked, (0,) * len(stacked)


def _of_one_device(fake: Callable[..., Any], count: int) -> Callable[..., Any]:
    """An operator for fake tensors, which refuses a meta tensor beside real ones: no kernel looks at either."""

    def checked(*inputs: Any) -> Any:
        first = inputs[0].device
        for t in inputs[1:count]:
            if t is not None and t.device != first:
                raise ValueError(
                    f"all tensors must be on one device, got {first} and {t.device}; pass tensor.to({str(first)!r})"
                )
        return fake(*inputs)

    return checked


def _function(name: str, methods: dict[str, Any]) -> Callable[..., Any]:
    """A function that autograd knows, by its methods."""
    kind: Any = type(name, (torch.autograd.Function,), methods)
    found: Callable[..., Any] = kind.apply
    return found


def pulled(
    formula: Callable[..., Any], given: Sequence[Any], wanted: Sequence[bool], upstream: Sequence[Any], parameters: Any
) -> Sequence[Any]:
    """The gradients of a formula's results by the tensors that are wanted, in torch operations, for some upstream."""
    keep = [i for i, up in enumerate(upstream) if up is not None]

    def results(*leaves: Any) -> Any:
        each = iter(leaves)
        found = formula(*(next(each) if want else t for t, want in zip(given, wanted, strict=True)), *parameters)
        found = found if isinstance(found, (list, tuple)) else (found,)
        return tuple(found[i] for i in keep)

    ys, pull = torch.func.vjp(results, *(t for t, want in zip(given, wanted, strict=True) if want))
    grads: Sequence[Any] = pull(tuple(upstream[i].to(y.dtype) for i, y in zip(keep, ys, strict=True)))
    return grads


def by_formula(formula: Callable[..., Any]) -> Gradient:
    """The gradient of an operator by that of its formula."""

    def gradient(given: Any, parameters: Any, _: Any, upstream: Any, needs: Any) -> list[Any]:
        with torch.autocast("cuda" if given[0].is_cuda else "cpu", enabled=False):
            return spread(pulled(formula, given, needs, upstream, parameters), needs)

    return gradient


def spread(found: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Something for each of those that are wanted, and None for the others."""
    each = iter(found)
    return [next(each) if want else None for want in wanted]


def mixed(first: int, fused: Callable[..., Sequence[Any]], formula: Callable[..., Any]) -> Gradient:
    """The gradient of an operator by the first tensors by kernels, and by the others by the operator's formula."""
    rest = by_formula(formula)

    def gradient(given: Any, parameters: Any, saved: Any, upstream: Any, needs: Any) -> list[Any]:
        wrt, result = list(needs[:first]), [None] * len(given)
        if True in needs[first:]:
            result = list(rest(given, parameters, saved, upstream, [False] * first + list(needs[first:])))
        if True in wrt:
            result[:first] = spread(fused(given, parameters, upstream, wrt), wrt)
        return result

    return gradient


class Loss:
    """A reduced loss of some tensors, the first of which have gradients by a kernel and the others by its formula.

    The last of the tensors are weights of the rows, or None.  `run` takes the tensors, an upstream gradient or None,
    the parameters, and which of the first tensors gradients are wanted by; it gives the loss and a list of these.
    Three operators come of it: the loss; the loss and its gradients in one pass, for an upstream gradient of 1; the
    gradients for any.
    """

    def __init__(
        self,
        name: str,
        given: str,
        parameters: str,
        run: Callable[..., Any],
        shape: Callable[..., Any],
        formula: Callable[..., Any],
        first: int = 1,
        traced: bool = True,  # whether one pass pays under a compiler, where gradients are always multiplied
    ) -> None:
        self._traced, self._first, self._count, self._formula = traced, first, given.count("Tensor"), formula
        self._reduction = [p.split()[-1] for p in parameters.split(", ")].index("reduction")
        self._run, self._shape = run, shape
        wrt = f"{parameters}, bool[] wrt"
        gradient = mixed(first, lambda t, p, up, wrt: self.grad(*t, *up, *p, wrt), formula)
        self.value = Operator(name, (given, parameters, "Tensor"), self._value, shape, gradient)
        self.both = Operator(
            f"{name}_and_grad", (given, wrt, "Tensor[]"), self._both, self._fake_both, self._scaled, hidden=True
        )
        self.grad = Operator(
            f"{name}_grad", (f"{given}, Tensor grad_output", wrt, "Tensor[]"), self._grad, self._fake_grad,
            by_formula(self._formula_of_grad),
        )  # fmt: skip

    def __call__(self, *inputs: Any) -> Any:
        """The loss, with its gradients in hand where they are wanted and nothing is to be multiplied into them."""
        given = inputs[: self._count]
        if torch.is_grad_enabled() and inputs[self._count + self._reduction] != "none":
            wrt = [t is not None and t.requires_grad for t in given]
            first = wrt[: self._first]
            # float16 has no small numbers: what is multiplied afterwards, by a gradient scaler's 65536, would be lost.
            if True in first and True not in wrt[self._first :] and given[0].dtype is not torch.float16:
                if not tensors.seen(given):
                    return self.both.eager((*inputs, first))
                if self._traced and not tensors.transforms():
                    return self.both(*inputs, first)
        return self.value(*inputs)

    def _value(self, *inputs: Any) -> Any:
        n = self._count
        return self._run(inputs[:n], None, inputs[n:], ())[0]

    def _both(self, *inputs: Any) -> list[Any]:
        n = self._count
        loss, grads = self._run(inputs[:n], None, inputs[n:-1], inputs[-1])
        return [loss, *grads]

    def _grad(self, *inputs: Any) -> list[Any]:
        n = self._count
        given, up, weight = inputs[: n - 1], inputs[n], inputs[n - 1]
        if up.ndim and weight is not None:  # a GPU's kernels multiply by one of them
            up, weight = up * weight, None
        grads: list[Any] = self._run((*given, weight), up, inputs[n + 1 : -1], inputs[-1])[1]
        return grads

    def _like(self, inputs: Any) -> list[Any]:
        return [torch.empty_like(t) for t, want in zip(inputs[: self._first], inputs[-1], strict=True) if want]

    def _fake_both(self, *inputs: Any) -> list[Any]:
        return [self._shape(*inputs[:-1]), *self._like(inputs)]

    def _fake_grad(self, *inputs: Any) -> list[Any]:
        return self._like(inputs)

    def _formula_of_grad(self, *inputs: Any) -> Sequence[Any]:
        n, wrt = self._count, inputs[-1]
        wanted = [*wrt, *(False for _ in range(n - len(wrt)))]
        return pulled(self._formula, inputs[:n], wanted, (inputs[n],), inputs[n + 1 : -1])

    def _scaled(self, given: Any, parameters: Any, grads: Any, upstream: Any, needs: Any) -> Sequence[Any]:
        (*options, wrt), (up, *_) = parameters, upstream
        if torch.is_grad_enabled():  # somebody is about to differentiate this
            grads = self.grad(*given, up, *options, wrt)
        elif not up.is_cpu or tensors.seen((up,)) or up.item() != 1.0:
            grads = [grad * up for grad in grads]
        return [*spread(grads, wrt), *[None] * (self._count - self._first)]

"""A loss with its gradients, said once: of logits, and of features."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..cuda.arrays.lent import Lent
from .calls import YES, by_formula, call, dense, differentiable, like


class Function(NamedTuple):
    """A loss of some arrays, the first of which have gradients by a kernel, the others by its formula."""

    run: Callable[..., None]  # (constants, where the loss goes, where gradients go, upstream gradient, *arrays)
    result: Callable[..., Any]  # the shape and dtype of the loss, of constants and arrays
    formula: Callable[..., Any]
    first: int
    arrays: int  # all of them
    rowwise: Callable[..., bool]  # of constants and arrays: whether axes of vmap are rows like others


def _spread(wrt: Sequence[bool], found: Sequence[Any]) -> list[Any]:
    """Results for wanted arrays, in the places of all."""
    each = iter(found)
    return [next(each) if want else None for want in wrt]


class Loss:
    """A loss as JAX has it: three functions, each of which has derivatives.

    They are the loss; the loss and its gradients in one pass, for an upstream gradient of 1; the gradients for any.
    The last of the constants are the options.
    """

    def __init__(self, function: Function) -> None:
        self._of = function
        value = jax.custom_vjp(self._compute, nondiff_argnums=(0,))
        value.defvjp(self._forward, self._backward, symbolic_zeros=True)
        self.value = value
        self._both = differentiable(self._compute_both, self._formula_of_both)
        self._grad = differentiable(self._compute_grad, self._formula_of_grad)

    # What XLA calls.

    def kernel(self, constants: Any, outs: Any, *given: Any) -> None:
        """The loss."""
        self._of.run(constants, outs[0], [], None, *given)

    def kernel_of_both(self, constants: Any, outs: Any, *given: Any) -> None:
        """The loss and gradients."""
        self._of.run(constants[0], outs[0], _spread(constants[1], outs[1:]), None, *given)

    def kernel_of_grad(self, constants: Any, outs: Any, *given: Any) -> None:
        """Gradients."""
        *arrays, up = given
        if isinstance(up, Lent) and not up.shape:
            raise NotImplementedError(
                "on a GPU no kernel reads the upstream gradient of a mean or a sum, which is wanted for float16, and "
                "where other arrays have gradients, too; take reduction='none' and JAX's mean of that"
            )
        self._of.run(constants[0], None, _spread(constants[1], outs), up, *arrays)

    # What JAX traces.

    def _compute(self, constants: Any, *given: Any) -> Any:
        results = [self._of.result(constants, *given)]
        return call(self.kernel, constants, results, *given, rowwise=self._of.rowwise(constants, *given))[0]

    def _compute_both(self, constants: Any, *given: Any) -> list[Any]:
        of, wrt = constants
        results = [self._of.result(of, *given), *(like(a) for a, want in zip(given, wrt, strict=False) if want)]
        return call(self.kernel_of_both, constants, results, *given, rowwise=self._of.rowwise(of, *given))

    def _compute_grad(self, constants: Any, *given_and_up: Any) -> list[Any]:
        of, wrt = constants
        given = given_and_up[:-1]
        results = [like(a) for a, want in zip(given, wrt, strict=False) if want]
        return call(self.kernel_of_grad, constants, results, *given_and_up, rowwise=self._of.rowwise(of, *given))

    def _formula_of_both(self, constants: Any, *given: Any) -> list[Any]:
        loss = self._of.formula(constants[0], *given)
        return [loss, *self._formula_of_grad(constants, *given, jnp.ones_like(loss))]

    def _formula_of_grad(self, constants: Any, *given_and_up: Any) -> list[Any]:
        (of, wrt), (*given, up) = constants, given_and_up
        wanted = [i for i, want in enumerate(wrt) if want]

        def of_wanted(*some: Any) -> Any:
            arrays = list(given)
            for i, a in zip(wanted, some, strict=True):
                arrays[i] = a
            return self._of.formula(of, *arrays)

        loss, pull = jax.vjp(of_wanted, *(given[i] for i in wanted))
        return list(pull(up.astype(loss.dtype)))

    def _forward(self, constants: Any, *primals: Any) -> tuple[Any, Any]:
        given = [None if p is None else p.value for p in primals]
        wants = [p is not None and p.perturbed for p in primals]
        wrt, others = tuple(wants[: self._of.first]), any(wants[self._of.first :])
        marks = tuple(YES if want else None for want in (*wrt, others))
        # float16 has no small numbers: what is multiplied afterwards, by a gradient scaler's factor, would be lost.
        half = any(a is not None and a.dtype == jnp.float16 for a in given[: self._of.first])
        if constants[-1].reduction != "none" and any(wrt) and not others and not half:
            loss, *grads = self._both((constants, wrt), *given)
            return loss, (marks, grads, None)
        return self.value(constants, *given), (marks, None, given)

    def _backward(self, constants: Any, kept: Any, upstream: Any) -> tuple[Any, ...]:
        (*marks, others), grads, given = kept
        wrt, up = tuple(mark is not None for mark in marks), dense(upstream)
        if grads is not None:
            scaled = [(grad * up).astype(grad.dtype) for grad in grads]
            return (*_spread(wrt, scaled), *[None] * (self._of.arrays - len(wrt)))
        found = [None] * self._of.arrays if others is None else by_formula(self._of.formula, constants, given, up)
        if any(wrt):
            found[: len(wrt)] = _spread(wrt, self._grad((constants, wrt), *given, up))
        return tuple(found)

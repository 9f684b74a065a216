"""The divergence of a student from a teacher: signature, documentation, and how the library is called for it."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..api import divergence as api
from ..core import divergence as core
from ..cpu import derived
from . import formulas
from .calls import Struct, computed, empty, fitted, floating, from_end, indices, maybe, row_shape
from .derivatives import Function, Loss


def _run(constants: Any, loss: Any, grads: Any, up: Any, student: Any, *others: Any) -> None:
    axis, teacher_is, direction, tail, o = constants
    teacher, listed, where, sample_weight = others
    given = student, teacher if listed is None else (indices(listed), teacher)
    used = {"axis": axis, "teacher_is": teacher_is, "direction": direction, "tail": tail, "where": where}
    used |= {"temperature": o.temperature, "reduction": o.reduction, "sample_weight": sample_weight}
    if not grads:
        loss[...] = api.kl_divergence(*given, **used)
        return
    found = api.kl_divergence_and_grad(*given, **used, grad_output=up, out=grads[0]).loss
    if loss is not None:
        loss[...] = found


def _result(constants: Any, student: Any, *_: Any) -> Any:
    axis, rows = constants[0], constants[-1].reduction == "none"
    return Struct(row_shape(student, axis) if rows else (), computed(student))


def _apart(constants: Any, *_: Any) -> bool:
    return bool(constants[-1].reduction == "none")


KL_DIVERGENCE = Loss(Function(_run, _result, formulas.kl_divergence, 1, 5, _apart))


def kl_divergence(
    student: Any,
    teacher: Any,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    teacher_is: str = "logits",
    direction: str | float = "forward",
    tail: str | None = None,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """`fastsoftmax.kl_divergence` of JAX's arrays, which has the formulas.

    Parameters
    ----------
    student : array_like, shape (..., K)
        Logits of K classes.
    teacher : array_like, shape (..., K), or a pair (indices, log_prob) of shapes (..., k)
        The teacher, or the classes that it lists, which need a `tail`.
    axis : int, default -1
        The axis of the classes in both.
    temperature, teacher_is, direction, tail, reduction
        As for `fastsoftmax.kl_divergence`; constants, not tracers.
    where : array_like of bool, optional
        The classes that are there: a mask that broadcasts to `student`; not for a pair.
    sample_weight : array_like, shape (...), optional
        Weights >= 0 of the rows.

    Returns
    -------
    jax.Array
        The divergence: float32 for half types, else in the dtype of `student`.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`; for indices that are no classes, or come twice in a row, an error of XLA's.

    Notes
    -----
    Gradients by `student` are computed as those of `cross_entropy` are; those by the teacher and weights are slower.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, fastsoftmax.jax as fj
    >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[0.75, 0.25]])
    >>> print(jax.grad(lambda x: fj.kl_divergence(x, teacher, teacher_is="prob"))(student))
    [[-0.25  0.25]]
    """
    options = core.divergence_options(temperature, reduction)
    given, x = core.teacher_as_given(teacher, tail, teacher_is), floating(student)
    axis, listed, mask = from_end(axis, x, "student"), None, maybe(jnp.asarray, where)
    if isinstance(given, core.Listed):
        listed, y = jnp.asarray(given.indices), floating(given.log_prob)
        if not jnp.issubdtype(listed.dtype, jnp.integer):
            raise TypeError(f"indices must have an integer dtype, got {listed.dtype} with shape {listed.shape}")
        core.listed_shape(listed.shape, y.shape, x.shape, axis % x.ndim)
        # One class of each row stands for all when this is checked: they are not known yet.
        one: Any = np.zeros((*x.shape[: axis % x.ndim], 1, *x.shape[axis % x.ndim + 1 :]), np.int8)
        shown: Any = core.Listed(one, np.full(one.shape, -1.0), given.tail)
    else:
        y = floating(given)
        shown = empty(y)
    weight = maybe(floating, sample_weight)
    derived.divergence(empty(x), shown, axis, (teacher_is, direction), empty(weight), options, None, None, empty(mask))
    constants = axis, teacher_is, direction, tail, options
    return KL_DIVERGENCE.value(constants, x, y, listed, fitted(mask, x), weight)

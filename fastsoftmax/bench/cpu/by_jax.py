"""The functions as users of JAX write them: compiled, with optax's loss where that is installed."""

import contextlib
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ..cases import APART, AXIS_0, LOSS, LOSS_AND_GRAD, LOSSES, ROWS, SECOND, Case
from ..inputs import Inputs
from ..timing import Call
from ..unable import Unable

MOST_ROWS = 10**6


@functools.cache
def module() -> Any:
    """JAX, on the CPU."""
    jax = importlib.import_module("jax")
    with contextlib.suppress(RuntimeError):  # it is running already
        jax.config.update("jax_platforms", "cpu")
    importlib.import_module("jax.numpy")
    return jax


def _float64() -> Any:
    """A context in which float64 stays float64."""
    jax = module()
    if hasattr(jax, "enable_x64"):  # since 0.8
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64()


def threads() -> int:
    """The number of threads that it starts, which nothing changes later."""
    affinity = getattr(os, "sched_getaffinity", None)
    return int(os.environ.get("NPROC", "0")) or (len(affinity(0)) if affinity else os.cpu_count() or 1)


def has_optax() -> bool:
    """Whether the loss of optax is there."""
    return importlib.util.find_spec("optax") is not None


def _mean_loss(axis: int) -> Callable[[Any, Any], Any]:
    if has_optax():
        of_rows = importlib.import_module("optax").softmax_cross_entropy_with_integer_labels
        return lambda x, target: of_rows(x, target, axis=axis).mean()
    jax = module()

    def mean(x: Any, target: Any) -> Any:
        labels = jax.numpy.expand_dims(target, axis)
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(x, axis=axis), labels, axis=axis).mean()

    return mean


def _function(case: Case) -> Any:
    """The function of logits (and labels) to compile."""
    jax, axis = module(), 0 if case.layout == AXIS_0 else -1
    if case.function == LOSS_AND_GRAD:
        return jax.value_and_grad(_mean_loss(axis))
    if case.function == LOSS:
        return _mean_loss(axis)
    return functools.partial(getattr(jax.nn, case.function), axis=axis)


def _place(case: Case, d: Inputs) -> tuple[Any, Callable[[Any], Any]]:
    """The array that JAX takes, and how the logits are cut out of it: its own arrays have no strides."""
    if case.layout == AXIS_0:
        return d.x.T, lambda x: x
    if case.layout == APART:
        return d.x.base, lambda x: x[::2]
    if case.layout == SECOND:
        return d.x.base, lambda x: x[:, ::2]
    if case.layout != ROWS:
        raise Unable("JAX lays its arrays out itself")
    return d.x, lambda x: x


def calls(case: Case, sets: list[Inputs]) -> list[Call]:
    """A call for each set of inputs, which are on the device before."""
    if sets[0].options:
        raise Unable("optax's loss has no such option")
    if numba.get_num_threads() != threads():
        raise Unable(f"JAX runs {threads()} threads")
    if case.shape[0] > MOST_ROWS and case.function == LOSS_AND_GRAD:
        raise Unable("XLA compiles for half a minute: it computes the scatter of so many rows beforehand")
    jax, function = module(), _function(case)
    wide = _float64 if case.dtype == "float64" else contextlib.nullcontext
    cut = _place(case, sets[0])[1]
    if case.function in LOSSES:
        compiled = jax.jit(lambda x, target: function(cut(x), target))
    else:
        compiled = jax.jit(lambda x: function(cut(x)))

    def call_on(d: Inputs) -> Call:
        with wide():
            arguments = [jax.numpy.array(_place(case, d)[0])]
            if case.function in LOSSES:
                arguments.append(jax.numpy.array(d.target.astype(np.int32)))

        def call() -> object:
            with wide():
                return jax.block_until_ready(compiled(*arguments))

        return call

    return [call_on(d) for d in sets]

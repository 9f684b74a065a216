"""Divergences of JAX's arrays against the reference, and their derivatives against differences of them."""

from itertools import product

import numpy as np
import pytest

from fastsoftmax import reference
from tests.pairs import exhaustive_but
from tests.support import logits

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fastsoftmax.jax")

FLOAT = np.dtype(np.float64)
DIRECTIONS = ["forward", "reverse", 0.3]
TEACHERS = {"logits": lambda y: y, "log_prob": reference.log_softmax, "prob": reference.softmax}
LISTED = [("bucket", "forward"), ("bucket", "reverse"), ("bucket", 0.3), ("ignore", "forward"), ("renormalize", 0.3)]

pytestmark = pytest.mark.usefixtures("x64")


def derivatives(function, *arguments):
    from jax.test_util import check_grads

    check_grads(function, arguments, order=2, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


def compare(function, x, exact):
    """Value and gradient, under jit; `exact` gives those for an upstream gradient."""
    loss, pull = jax.vjp(jax.jit(function), x)
    up = np.random.default_rng(1).uniform(0.5, 2.0, loss.shape)
    right = exact(up)
    np.testing.assert_allclose(loss, right.loss, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(pull(jnp.asarray(up))[0], right.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("teacher_is", "direction"),
    exhaustive_but(list(zip(TEACHERS, DIRECTIONS, strict=True)), list(product(TEACHERS, DIRECTIONS))),
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_teachers(teacher_is, direction, reduction):
    """Along the first axis, with weights; derivatives by all three."""
    x, weight = logits(0, (5, 4), FLOAT, 1.0), np.array([1.0, 0.5, 2.0, 1.5])
    y = TEACHERS[teacher_is](logits(1, (5, 4), FLOAT, 1.0), 0) if teacher_is != "logits" else logits(1, (5, 4), FLOAT)
    options = {"axis": 0, "teacher_is": teacher_is, "direction": direction, "reduction": reduction}
    if teacher_is == "logits":
        options["temperature"] = 2.0

    def loss(x, y, weight):
        return fj.kl_divergence(x, y, sample_weight=weight, **options)

    def exact(up):
        return reference.kl_divergence_and_grad(x, y, sample_weight=weight, grad_output=up, **options)

    compare(lambda x: loss(x, y, weight), x, exact)
    derivatives(loss, x, y, weight)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_masks(direction):
    """The divergence of what is there; nothing of the rest is looked at."""
    x, y, where = (
        logits(0, (4, 5), FLOAT, 1.0),
        logits(1, (4, 5), FLOAT, 1.0),
        np.array([True, False, True, True, True]),
    )
    x[:, 1] = np.nan
    options = {"where": where, "direction": direction}
    exact = reference.kl_divergence_and_grad(x[:, where], y[:, where], direction=direction)
    loss, grad = jax.value_and_grad(lambda x: fj.kl_divergence(x, y, **options))(x)
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-11)
    np.testing.assert_allclose(grad[:, where], exact.grad, rtol=1e-9, atol=1e-14)
    assert not grad[:, 1].any()
    x[:, 1] = 0.0
    derivatives(lambda x, y: fj.kl_divergence(x, y, **options), x, y)


@pytest.mark.parametrize(("tail", "direction"), LISTED)
def test_listed_classes(tail, direction):
    x, y = logits(0, (4, 6), FLOAT, 1.0), reference.log_softmax(logits(1, (4, 6), FLOAT, 1.0))
    indices = np.argsort(-y, axis=-1)[:, [2, 0, 1]]
    log_q, options = np.take_along_axis(y, indices, -1), {"tail": tail, "direction": direction, "reduction": "none"}

    def exact(up):
        return reference.kl_divergence_and_grad(x, (indices, log_q), grad_output=up, **options)

    compare(lambda x: fj.kl_divergence(x, (indices, log_q), **options), x, exact)
    derivatives(lambda x, log_q: fj.kl_divergence(x, (indices, log_q), **options), x, log_q)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_derivatives_where_some_probabilities_are_equal(direction):
    """The difference of equal logarithms has a derivative."""
    x, y = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 2.0, 1.0]])
    derivatives(lambda x, y: fj.kl_divergence(x, y, direction=direction), x, y)


def test_vmap():
    x, y = logits(0, (3, 4, 5), FLOAT, 1.0), logits(1, (4, 5), FLOAT, 1.0)
    for reduction in ("mean", "none"):
        found = jax.vmap(lambda x, r=reduction: fj.kl_divergence(x, y, reduction=r))(x)
        for i in range(3):
            np.testing.assert_allclose(found[i], reference.kl_divergence(x[i], y, reduction=reduction), rtol=1e-11)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (TypeError, "direction must be", lambda x: fj.kl_divergence(x, x, direction="sideways")),
        (ValueError, "teacher must have the shape of student", lambda x: fj.kl_divergence(x, x[0])),
        (ValueError, "tail must be None or one of", lambda x: fj.kl_divergence(x, (x, x), tail="cut")),
        (TypeError, "indices must have an integer dtype", lambda x: fj.kl_divergence(x, (x, x), tail="bucket")),
        (
            ValueError,
            "log_prob must have the shape of indices",
            lambda x: fj.kl_divergence(x, (jnp.zeros((2, 1), int), x), tail="bucket"),
        ),
        (
            ValueError,
            "where must be None",
            lambda x: fj.kl_divergence(x, (jnp.zeros((2, 3), int), x), tail="bucket", where=x > 0),
        ),
    ],
)
def test_errors_while_tracing(error, text, call):
    for function in (call, jax.jit(call)):
        with pytest.raises(error) as caught:
            function(jnp.zeros((2, 3)))
        assert text in str(caught.value)

"""Losses of JAX's arrays against the reference, and their derivatives against differences of it."""

from itertools import product

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.options import TERMS
from tests.pairs import exhaustive_but, pairwise
from tests.support import labels, logits, probabilities

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fastsoftmax.jax")

ROWS, CLASSES, FEATURES = 12, 5, 3
EACH = {term.option: {term.option: term.tried[0]} for term in TERMS}
OPTIONS = {"plain": {}, **EACH, "all": {term.option: term.tried[-1] for term in TERMS}}


def problem(dtype, *, soft=False, seed=0):
    """Logits, a target, weights of classes and rows: NumPy's."""
    random, shape = np.random.default_rng(seed), (ROWS, CLASSES)
    x = logits(seed, shape, np.dtype(np.float64), 1.5).astype(dtype)
    target = probabilities(random, shape, np.float64).astype(dtype) if soft else labels(random, shape, ignored=0.2)
    weights = random.uniform(0.2, 2.0, CLASSES), random.uniform(0.2, 2.0, ROWS)
    return x, target, dict(zip(("class_weight", "sample_weight"), (w.astype(dtype) for w in weights), strict=True))


def wide(*arrays):
    return [np.asarray(a, np.float64) if np.asarray(a).dtype.kind not in "iu" else np.asarray(a) for a in arrays]


EVERY = list(OPTIONS), [False, True], ["mean", "sum", "none"]


@pytest.mark.parametrize(
    ("case", "weighted", "reduction"),
    exhaustive_but(pairwise(*EVERY), list(product(*EVERY))),
)
@pytest.mark.usefixtures("x64")
def test_values_and_gradients(case, weighted, reduction):
    """Under jit and not, with an upstream gradient."""
    x, target, weights = problem(np.float64)
    options = {**OPTIONS[case], "reduction": reduction, **(weights if weighted else {})}
    up = np.random.default_rng(1).uniform(0.5, 2.0, ROWS if reduction == "none" else ())

    def loss(x):
        return fj.cross_entropy(x, target, **options)

    exact = reference.cross_entropy_and_grad(x, target, grad_output=up, **options)
    for function in (loss, jax.jit(loss)):
        found, pull = jax.vjp(function, x)
        np.testing.assert_allclose(found, exact[0], rtol=1e-12)
        np.testing.assert_allclose(function(x), exact[0], rtol=1e-12)
        np.testing.assert_allclose(pull(jnp.asarray(up))[0], exact[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.usefixtures("x64")
def test_probabilities(reduction):
    x, target, weights = problem(np.float64, soft=True)
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "temperature": 2.0, "reduction": reduction, **weights}
    exact = reference.cross_entropy_and_grad(x, target, **options)
    loss, pull = jax.vjp(lambda x: fj.cross_entropy(x, target, **options), x)
    np.testing.assert_allclose(loss, exact[0], rtol=1e-12)
    np.testing.assert_allclose(pull(jnp.ones_like(loss))[0], exact[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_dtypes(dtype, reduction):
    """Losses in float32; gradients in the dtype of the logits: the library's to the bit, where nothing multiplies."""
    x, target, _ = problem(dtype)
    loss, pull = jax.vjp(lambda x: fj.cross_entropy(x, target, reduction=reduction), jnp.asarray(x))
    exact = fs.cross_entropy_and_grad(x, target, reduction=reduction)
    assert (loss.dtype, pull(jnp.ones_like(loss))[0].dtype) == (jnp.float32, dtype)
    np.testing.assert_array_equal(np.asarray(loss), exact.loss)
    np.testing.assert_array_equal(np.asarray(pull(jnp.ones_like(loss))[0]), exact.grad)


def test_small_gradients_of_float16():
    """A scaler's factor reaches the kernel, before anything is rounded to 0."""
    x, target = jnp.array([[20.0, 0.0]], jnp.float16), jnp.array([0])
    grad = jax.grad(lambda x: 65536.0 * fj.cross_entropy(x, target))(x)
    np.testing.assert_allclose(np.float64(grad[0, 1]), 65536 * np.exp(-20.0), rtol=1e-3)


def derivatives(function, *arguments):
    from jax.test_util import check_grads

    check_grads(function, arguments, order=2, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


@pytest.mark.parametrize(
    ("case", "reduction"),
    exhaustive_but(
        [("plain", "none"), ("label_smoothing", "none"), ("all", "mean")], list(product(OPTIONS, ["mean", "none"]))
    ),
)
@pytest.mark.usefixtures("x64")
def test_second_derivatives(case, reduction):
    """By differences, of first derivatives too: by logits and by weights at once."""
    x, target, weights = problem(np.float64)

    def loss(x, class_weight, sample_weight):
        weights = {"class_weight": class_weight, "sample_weight": sample_weight}
        return fj.cross_entropy(x, target, **weights, reduction=reduction, **OPTIONS[case])

    derivatives(loss, x, *weights.values())
    derivatives(lambda x: loss(x, None, None), x)


@pytest.mark.usefixtures("x64")
def test_derivatives_by_probabilities():
    x, target, _ = problem(np.float64, soft=True)
    derivatives(lambda x, q: fj.cross_entropy(x, q, label_smoothing=0.1), x, target)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axes(axis):
    x = logits(0, (4, 5, 6), np.dtype(np.float32))
    target = labels(np.random.default_rng(0), np.moveaxis(x, axis, -1).shape)
    exact = fs.cross_entropy_and_grad(x, target, axis=axis)
    loss, grad = jax.value_and_grad(lambda x: fj.cross_entropy(x, target, axis=axis))(x)
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-6)
    np.testing.assert_allclose(grad, exact.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_vmap(weighted, reduction):
    """Of any of the arguments, along any axis, twice, and of gradients: what a loop gives."""
    random = np.random.default_rng(0)
    xs = random.standard_normal((2, 3, ROWS, CLASSES)).astype(np.float32)
    targets = random.integers(0, CLASSES, (3, ROWS))
    weights = random.uniform(0.2, 2.0, (2, CLASSES)).astype(np.float32)

    def loss(x, target, weight):
        return fj.cross_entropy(x, target, class_weight=weight if weighted else None, reduction=reduction)

    def both(x, target, weight):
        value, pull = jax.vjp(lambda x: loss(x, target, weight), x)
        return value, pull(jnp.ones_like(value))[0]

    inner = jax.vmap(both, (0, 1, None))
    found = jax.jit(jax.vmap(inner, (0, None, 0)))(xs, np.moveaxis(targets, 0, 1), weights)
    for i in range(2):
        for j in range(3):
            more = {"class_weight": weights[i]} if weighted else {}
            exact = reference.cross_entropy_and_grad(*wide(xs[i, j], targets[j]), reduction=reduction, **more)
            for got, right in zip(found, exact, strict=True):
                np.testing.assert_allclose(got[i, j], right, rtol=1e-5, atol=1e-6)


def linear_problem(dtype=np.float64):
    x, target, weights = problem(dtype)
    random = np.random.default_rng(2)
    features = random.standard_normal((ROWS, FEATURES)).astype(dtype)
    weight, bias = random.standard_normal((CLASSES, FEATURES)).astype(dtype), x[0]
    return features, weight, bias, target, weights


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.usefixtures("x64")
def test_linear(reduction, biased):
    x, weight, bias, target, weights = linear_problem()
    arguments = (x, weight, bias) if biased else (x, weight)
    options = {**weights, "label_smoothing": 0.1, "reduction": reduction}
    up = np.random.default_rng(1).uniform(0.5, 2.0, ROWS if reduction == "none" else ())
    wrt = ("x", "weight", "bias")[: len(arguments)]

    def loss(x, weight, bias=None):
        return fj.linear_cross_entropy(x, weight, target, bias, **options)

    exact = reference.linear_cross_entropy_and_grad(
        x, weight, target, *arguments[2:], **options, grad_output=up, wrt=wrt
    )
    for function in (loss, jax.jit(loss)):
        found, pull = jax.vjp(function, *arguments)
        np.testing.assert_allclose(found, exact.loss, rtol=1e-12)
        for grad, name in zip(pull(jnp.asarray(up)), wrt, strict=True):
            np.testing.assert_allclose(grad, getattr(exact, f"grad_{name}"), rtol=1e-9, atol=1e-14)
    derivatives(loss, *arguments)


def test_linear_computes_what_is_wanted(monkeypatch):
    """One pass with the loss, and no gradient that nobody asks for."""
    from fastsoftmax.jax import losses

    seen, (x, weight, bias, target, _) = [], linear_problem(np.float32)
    names = "linear_cross_entropy", "linear_cross_entropy_and_grad"
    for name in names:
        function = getattr(losses.linear, name)

        def spy(*arguments, function=function, **options):
            seen.append(options.get("wrt", ()))
            return function(*arguments, **options)

        monkeypatch.setattr(losses.linear, name, spy)
    for argnums in (0, 1, (1, 3)):
        jax.grad(fj.linear_cross_entropy, argnums)(x, weight, target, bias)
    fj.linear_cross_entropy(x, weight, target, bias)
    assert seen == [("x",), ("weight",), ("weight", "bias"), ()]


def test_linear_under_vmap():
    x, weight, bias, target, _ = linear_problem(np.float32)
    many = np.stack([weight, weight * 2, weight - 1])
    grads = jax.vmap(jax.grad(fj.linear_cross_entropy, (0, 1)), (None, 0, None, None))(x, many, target, bias)
    for i, one in enumerate(many):
        exact = fs.linear_cross_entropy_and_grad(x, one, target, bias, wrt=("x", "weight"))
        np.testing.assert_allclose(grads[0][i], exact.grad_x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(grads[1][i], exact.grad_weight, rtol=1e-5, atol=1e-6)


def test_mixed_dtypes_of_features():
    x, weight, bias, target, _ = linear_problem(np.float32)
    half = jnp.asarray(x, jnp.bfloat16)
    loss, grads = jax.value_and_grad(fj.linear_cross_entropy, (0, 1, 3))(half, weight, target, bias)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.float32, jnp.float32]
    assert loss == pytest.approx(reference.linear_cross_entropy(*wide(half, weight, target, bias)), rel=1e-4)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, "label_smoothing must be", lambda x, t: fj.cross_entropy(x, t, label_smoothing=2.0)),
        (ValueError, "reduction must be one of", lambda x, t: fj.cross_entropy(x, t, reduction="all")),
        (TypeError, "class indices must have an integer dtype", lambda x, t: fj.cross_entropy(x, t * 1.0)),
        (ValueError, "axis must be in [-2, 2)", lambda x, t: fj.cross_entropy(x, t, axis=2)),
        (ValueError, "sample_weight must have shape (12,)", lambda x, t: fj.cross_entropy(x, t, sample_weight=[1.0])),
        (ValueError, "weight must have shape", lambda x, t: fj.linear_cross_entropy(x, jnp.ones((5, 4)), t)),
        (ValueError, "bias must have shape", lambda x, t: fj.linear_cross_entropy(x, jnp.ones((4, 5)), t, jnp.ones(5))),
    ],
)  # fmt: skip
def test_errors_while_tracing(error, text, call):
    """The library's own errors, also under jit, before anything runs."""
    x, target, _ = problem(np.float32)
    for function in (call, jax.jit(call)):
        with pytest.raises(error) as caught:
            function(jnp.asarray(x), jnp.asarray(target))
        assert text in str(caught.value)


def test_bad_labels():
    x, target, _ = problem(np.float32)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(fj.cross_entropy)(x, np.where(target == -100, 7, target)))
    assert "class indices in [0, 5) or ignore_index, got 7" in str(caught.value)

"""Functions of rows of JAX's arrays against the reference, and their derivatives against differences."""

import numpy as np
import pytest

from fastsoftmax import reference
from fastsoftmax.core.statistics import NAMES
from tests.support import labels, logits

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fastsoftmax.jax")

MAPS = ["softmax", "log_softmax", "logsumexp"]
REAL = ("log_prob", "entropy", "log_sum_exp")


def derivatives(function, *arguments):
    from jax.test_util import check_grads

    check_grads(function, arguments, order=2, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.usefixtures("x64")
def test_maps(name, dtype):
    """Values in the dtype that came, under jit and not."""
    x = logits(0, (6, 7), np.dtype(np.float64), 1.0).astype(dtype)
    exact = getattr(reference, name)(np.asarray(x, np.float64))
    for function in (getattr(fj, name), jax.jit(getattr(fj, name))):
        found = function(jnp.asarray(x))
        assert found.dtype == dtype
        tight = float(jnp.finfo(dtype).eps) * 4
        np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=tight, atol=tight)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.usefixtures("x64")
def test_derivatives_of_maps(name, axis):
    """First ones of the kernels, second ones of formulas: by differences."""
    x = logits(0, (3, 4), np.dtype(np.float64), 1.0)
    derivatives(lambda x: getattr(fj, name)(x, axis), x)
    of_jax = {"logsumexp": jax.nn.logsumexp, "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}[name]
    up = jnp.asarray(np.random.default_rng(0).standard_normal(of_jax(x, axis).shape))
    grads = [jax.vjp(lambda x, f=f: f(x, axis), x)[1](up)[0] for f in (getattr(fj, name), of_jax)]
    np.testing.assert_allclose(*grads, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", MAPS)
def test_vmap_of_maps(name):
    x = logits(0, (2, 3, 4, 5), np.dtype(np.float32), 1.0)
    function = getattr(fj, name)
    found = jax.vmap(jax.vmap(function, 1), 1)(x)  # axis 1 comes first, then what was axis 2
    exact = getattr(reference, name)(np.float64(x).transpose(1, 2, 0, 3))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


def test_integers_and_keepdims():
    assert fj.softmax([[1, 1]]).dtype == jnp.float32
    assert fj.logsumexp(jnp.zeros((2, 3)), 0, keepdims=True).shape == (1, 3)
    assert fj.logsumexp(jnp.zeros((2, 3)), 0).shape == (3,)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.usefixtures("x64")
def test_statistics(dtype):
    x = logits(0, (8, 6), np.dtype(np.float64), 1.0).astype(dtype)
    target = labels(np.random.default_rng(0), x.shape, ignored=0.2)
    options = {"want": NAMES, "k": 2, "temperature": 0.7, "softcap": 5.0}
    exact = reference.row_stats(np.asarray(x, np.float64), target, **options)
    tight = float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps) * 20
    for found in (fj.row_stats(x, target, **options), jax.jit(lambda x: fj.row_stats(x, target, **options))(x)):
        for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
            if np.asarray(right).dtype.kind == "f":
                assert got.dtype == jnp.promote_types(dtype, jnp.float32)
                np.testing.assert_allclose(got, right, rtol=tight, atol=tight)
            else:
                assert got.dtype == right.dtype
                np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("want", [*REAL, REAL, ("entropy", "argmax", "log_sum_exp")])
@pytest.mark.usefixtures("x64")
def test_derivatives_of_statistics(want):
    x = logits(0, (4, 5), np.dtype(np.float64), 1.0)
    target = np.array([0, 4, -100, 2])

    def statistics(x):
        found = fj.row_stats(x, target, want=want, temperature=0.7, softcap=5.0)
        return [value for value in (found.log_prob, found.entropy, found.log_sum_exp) if value is not None]

    derivatives(statistics, x)
    ups = dict(zip(REAL, (2.0, 3.0, 4.0), strict=True))
    ups = {name: up for name, up in ups.items() if name in want}
    exact = reference.row_stats_vjp(x, target, temperature=0.7, softcap=5.0, **ups)
    weighed = jax.jit(jax.grad(lambda x: sum(up * s.sum() for up, s in zip(ups.values(), statistics(x), strict=True))))
    np.testing.assert_allclose(weighed(x), exact, rtol=1e-10, atol=1e-14)


def test_what_has_no_gradient_is_constant():
    x = jnp.array([[2.0, 1.0, 0.0]])
    want = ("max_prob", "margin", "top_k", "argmax")

    def total(x):
        found = fj.row_stats(x, jnp.array([0]), want=want, k=2)
        return found.max_prob.sum() + found.margin.sum() + found.top_k.log_proba.sum()

    np.testing.assert_array_equal(jax.grad(total)(x), 0.0)


def test_vmap_of_statistics():
    x = logits(0, (3, 4, 5), np.dtype(np.float32), 1.0)
    target = np.array([0, 1, 2, 3])
    found = jax.vmap(lambda x: fj.row_stats(x, target, want=("log_prob", "top_k"), k=2))(x)
    exact = reference.row_stats(np.float64(x), np.tile(target, (3, 1)), want=("log_prob", "top_k"), k=2)
    np.testing.assert_allclose(found.log_prob, exact.log_prob, rtol=1e-5)
    np.testing.assert_array_equal(found.top_k.indices, exact.top_k.indices)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, "axis must be in [-2, 2)", lambda x: fj.softmax(x, 2)),
        (TypeError, "axis must be an integer", lambda x: fj.logsumexp(x, 0.5)),
        (ValueError, "needs a target", lambda x: fj.row_stats(x, want="rank")),
        (ValueError, "want must name", lambda x: fj.row_stats(x, want="odds")),
        (ValueError, "k must be in [1, 3]", lambda x: fj.row_stats(x, want="top_k", k=4)),
        (
            ValueError,
            "target must hold class indices here, and have shape (2,)",
            lambda x: fj.row_stats(x, jnp.array([0]), want="rank"),
        ),
    ],
)
def test_errors_while_tracing(error, text, call):
    for function in (call, jax.jit(call)):
        with pytest.raises(error) as caught:
            function(jnp.zeros((2, 3)))
        assert text in str(caught.value)

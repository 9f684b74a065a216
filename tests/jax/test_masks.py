"""Masks, offsets of classes, and several axes: values by the reference, derivatives by differences of them."""

import numpy as np
import pytest

from fastsoftmax import reference
from tests.support import logits

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fastsoftmax.jax")

MAPS = ["softmax", "log_softmax", "logsumexp"]
FLOAT = np.dtype(np.float64)
AWAY = [[True, False, True, True, False], [True, True, True, False, True], [True] * 5, [False, True, True, True, True]]
OFFSET = np.array([0.5, -1.0, 0.25, -np.inf, 0.0])
T = np.array([0, 1, -100, 2])

pytestmark = pytest.mark.usefixtures("x64")


def derivatives(function, *arguments, order=2):
    from jax.test_util import check_grads

    check_grads(function, arguments, order=order, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


def finite(value):
    """What differences are taken of: -inf less -inf is none."""
    return jnp.where(jnp.isfinite(value), value, 0.0)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("axis", [None, (), (1,), (0, 2), (2, 1), 1, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_axes_of_maps(name, axis, masked):
    """Values, and derivatives to the second, of what is there."""
    x = logits(0, (2, 3, 4), FLOAT, 1.0)
    where = None
    if masked and axis != ():
        where = np.array([True, False, True])[:, None] if axis in (1, (1,)) else np.array([True, True, False, True])
    exact = getattr(reference, name)(x, axis, where=where)

    def function(x):
        return getattr(fj, name)(x, axis, where=where)

    for of in (function, jax.jit(function)):
        np.testing.assert_allclose(of(x), exact, rtol=1e-12, atol=1e-14)
    derivatives(lambda x: finite(function(x)), x)


@pytest.mark.parametrize("name", MAPS)
def test_what_is_masked_has_no_gradient(name):
    """Whatever is there, and whatever comes from upstream; and rows of which nothing is there."""
    x, where = np.array([[1.0, np.nan, 2.0], [np.inf, np.nan, 0.0]]), np.array([[True, False, True], [False] * 3])
    rows = slice(0, 2 if name == "logsumexp" else 1)  # other maps of nothing are NaN
    y, pull = jax.vjp(lambda x: getattr(fj, name)(x, where=where), x)
    grad = pull(jnp.where(jnp.isfinite(y), 1.5, jnp.nan) if name != "logsumexp" else jnp.full(2, 1.5))[0]
    assert not np.asarray(grad)[rows][~where[rows]].any()
    assert np.isfinite(np.asarray(grad)[rows]).all()


def test_vmap_of_masks():
    """Of what is masked, of the mask, and of both; a mask has fewer axes than what it masks, and theirs come last."""
    x, where = logits(0, (3, 4, 5), FLOAT, 1.0), np.array([[True, True, False, True, False]] * 3)
    where[1] = ~where[1]
    for axes, mask in (((0, None), where[0]), ((None, 0), where), ((0, 0), where)):
        given = x if axes[0] == 0 else x[0]
        found = jax.vmap(lambda x, w: fj.softmax(x, where=w), axes)(given, mask)
        for i in range(3):
            right = reference.softmax(x[i if axes[0] == 0 else 0], where=mask if axes[1] is None else mask[i])
            np.testing.assert_allclose(found[i], right, rtol=1e-12)
    target = np.array([0, 1, 4, 2])
    found = jax.vmap(lambda x: fj.cross_entropy(x, target, class_offset=OFFSET, reduction="none"))(x)
    right = reference.cross_entropy(x, np.tile(target, (3, 1)), class_offset=OFFSET, reduction="none")
    np.testing.assert_allclose(found, right, rtol=1e-12)
    grads = jax.vmap(jax.grad(lambda x: fj.row_stats(x, want="entropy", class_offset=OFFSET).entropy.sum()))(x)
    right = reference.row_stats_vjp(x, entropy=1.0, class_offset=OFFSET)
    np.testing.assert_allclose(grads, right, rtol=1e-9, atol=1e-14)
    found = jax.vmap(lambda x, o: fj.row_stats(x, want="entropy", class_offset=o).entropy)(x, np.tile(OFFSET, (3, 1)))
    np.testing.assert_allclose(found, reference.row_stats(x, want="entropy", class_offset=OFFSET).entropy, rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("given", [("where",), ("class_offset",), ("where", "class_offset")], ids="+".join)
def test_losses(given, reduction):
    """With smoothing and a penalty, which look at all classes."""
    x = logits(0, (4, 5), FLOAT, 1.0)
    adjust = {name: value for name, value in (("where", np.array(AWAY)), ("class_offset", OFFSET)) if name in given}
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 4.0, "reduction": reduction, **adjust}
    exact = reference.cross_entropy_and_grad(x, T, **options)
    loss, pull = jax.vjp(jax.jit(lambda x: fj.cross_entropy(x, T, **options)), x)
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-12)
    np.testing.assert_allclose(pull(jnp.ones_like(loss))[0], exact.grad, rtol=1e-9, atol=1e-14)
    derivatives(lambda x: fj.cross_entropy(x, T, **options), x)


@pytest.mark.parametrize("focal_gamma", [0.0, 2.0])
def test_derivatives_by_an_offset(focal_gamma):
    """Of a loss, beside those by logits and weights; an ignored row has none, whatever its first class's offset is."""
    x, offset, weight = logits(0, (4, 5), FLOAT, 1.0), np.array([0.5, -1.0, 0.25, 0.1, 0.0]), np.full(5, 0.5)
    options = {"label_smoothing": 0.1, "focal_gamma": focal_gamma, "where": np.array(AWAY)}

    def loss(x, offset, weight):
        return fj.cross_entropy(x, T, class_weight=weight, class_offset=offset, **options)

    derivatives(loss, x, offset, weight)
    away = jnp.array([-jnp.inf, 0.0, 0.0, 0.0, 0.0])
    target = np.array([-100, 1, 2, 3])
    grad = jax.grad(lambda o: fj.cross_entropy(x, target, class_offset=o, focal_gamma=focal_gamma))(away)
    assert grad[0] == 0
    assert np.isfinite(grad).all()


def test_linear():
    random = np.random.default_rng(0)
    x, weight, bias = (random.standard_normal(shape) for shape in ((4, 3), (5, 3), 5))
    offset = np.where(np.isinf(OFFSET), 0.3, OFFSET)
    exact = reference.linear_cross_entropy_and_grad(
        x, weight, T, bias, class_offset=OFFSET, wrt=("x", "weight", "bias")
    )

    def loss(x, weight, bias, offset):
        return fj.linear_cross_entropy(x, weight, T, bias, class_offset=offset)

    found, grads = jax.value_and_grad(loss, (0, 1, 2))(x, weight, bias, OFFSET)
    np.testing.assert_allclose(found, exact.loss, rtol=1e-12)
    for got, right in zip(grads, exact[1:], strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-14)
    derivatives(loss, x, weight, bias, offset)


def test_statistics():
    """Values, derivatives by logits, and by an offset where somebody asks for them."""
    x, where, want = logits(0, (4, 5), FLOAT, 1.0), np.array(AWAY), ("log_prob", "entropy", "log_sum_exp", "top_k")
    options = {"where": where, "softcap": 4.0, "want": want, "k": 1}
    exact = reference.row_stats(x, T, class_offset=OFFSET, **options)
    found = jax.jit(lambda x: fj.row_stats(x, T, class_offset=OFFSET, **options))(x)
    for name in want[:3]:
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-12)
    np.testing.assert_array_equal(found.top_k.indices, exact.top_k.indices)

    def total(x, offset):
        found = fj.row_stats(x, T, class_offset=offset, **options)
        return found.log_prob @ jnp.arange(4.0) + found.entropy.sum() - 2 * found.log_sum_exp.sum()

    ups = {"log_prob": np.arange(4.0), "entropy": np.ones(4), "log_sum_exp": np.full(4, -2.0)}
    more = {"where": where, "softcap": 4.0, "class_offset": OFFSET}
    grad = reference.row_stats_vjp(x, T, **ups, **more)
    np.testing.assert_allclose(jax.grad(total)(x, OFFSET), grad, rtol=1e-9, atol=1e-14)
    derivatives(total, x, np.where(np.isinf(OFFSET), 0.3, OFFSET))


def test_nothing_along_an_axis():
    """As NumPy's: a sum of nothing; a softmax over nothing is none."""
    x = jnp.zeros((2, 0))
    np.testing.assert_array_equal(fj.logsumexp(x), [-np.inf, -np.inf])
    assert jax.grad(lambda x: fj.logsumexp(x).sum())(x).shape == (2, 0)
    assert fj.logsumexp(jnp.zeros((2, 3, 4)), (0, 2), keepdims=True).shape == (1, 3, 1)
    assert fj.softmax(3.0) == 1.0
    with pytest.raises(ValueError, match="at least one class along axis -1"):
        jax.jit(fj.softmax)(x)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (TypeError, "where must be boolean", lambda x: fj.softmax(x, where=jnp.ones(3))),
        (ValueError, "where must broadcast to the shape", lambda x: fj.logsumexp(x, (0, 1), where=jnp.ones(2, bool))),
        (ValueError, "axis must name axes, each once", lambda x: fj.log_softmax(x, (0, -2))),
        (ValueError, "where must broadcast", lambda x: fj.cross_entropy(x, [0, 1], where=jnp.ones((3, 3), bool))),
        (ValueError, "class_offset must have shape (3,)", lambda x: fj.row_stats(x, want="argmax", class_offset=[1.0])),
        (
            ValueError,
            "class_offset must have shape (2,)",
            lambda x: fj.linear_cross_entropy(x, x, [0, 1], class_offset=jnp.ones(3)),
        ),
    ],
)
def test_errors_while_tracing(error, text, call):
    for function in (call, jax.jit(call)):
        with pytest.raises(error) as caught:
            function(jnp.zeros((2, 3)))
        assert text in str(caught.value)


def test_bad_offset():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(fj.cross_entropy)(jnp.zeros((1, 2)), [0], class_offset=jnp.array([jnp.nan, 0.0])))
    assert "class_offset must hold numbers within" in str(caught.value)

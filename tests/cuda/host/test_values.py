"""Values of calls on a GPU: every option, layout, axis and reduction.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import backend
from tests.cuda.host.support import drawn, entries, moved, near, spread, weighted
from tests.support import INDEX_OPTIONS, SOFT_OPTIONS, labels, names, probabilities


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=names)
def test_options_of_indices(driver, options, reduction):
    x, t = drawn(6, 9), labels(np.random.default_rng(1), (6, 9))
    t[0] = -100
    options = {**weighted(options, x.shape), "reduction": reduction}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), **moved(driver, options))
    expected = reference.cross_entropy_and_grad(x, t, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    loss = fs.cross_entropy(driver.array(x), driver.array(t), **moved(driver, options))
    near(driver.host(loss), expected.loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
@pytest.mark.parametrize(("dtype", "kind"), [("float32", "float32"), ("float16", "float16"), ("float16", "float32")])
def test_options_of_probabilities(driver, options, reduction, dtype, kind):
    x, t = drawn(6, 9, dtype=dtype), probabilities(np.random.default_rng(1), (6, 9), kind)
    options = {**weighted(options, x.shape), "reduction": reduction}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), **moved(driver, options))
    expected = reference.cross_entropy_and_grad(x, t, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad, dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_upstream_gradient_is_a_number(driver, reduction):
    """Which makes no call look different."""
    x, t = drawn(6, 9), np.arange(6)
    for up in (0.5, np.float32(-2), np.array(3.0), 7):
        loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), grad_output=up, reduction=reduction)
        expected = reference.cross_entropy_and_grad(x, t, grad_output=up, reduction=reduction)
        near(driver.host(loss), expected.loss)
        near(driver.host(grad), expected.grad)
    assert len(backend._prepared) == 1


def test_an_upstream_gradient_for_each_row(driver):
    x, t, up = drawn(6, 9), np.arange(6), drawn(6, seed=3)
    options = {"reduction": "none", "label_smoothing": 0.1}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), grad_output=driver.array(up), **options)
    expected = reference.cross_entropy_and_grad(x, t, grad_output=up, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)


LAYOUTS = {
    "C": lambda x: x.copy(),
    "Fortran": lambda x: x.T.copy().T,
    "spread": spread,
    "backwards": lambda x: x[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "transposed": lambda x: x.swapaxes(0, 2).copy().swapaxes(0, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3, 3])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_layouts_and_axes(driver, layout, axis, reduction):
    """More than two levels of rows are several launches."""
    x = LAYOUTS[layout](drawn(3, 4, 5, 6))
    shape = np.moveaxis(x, axis, -1).shape
    t = labels(np.random.default_rng(2), shape)
    weight = np.random.default_rng(3).uniform(0.5, 2, shape[:-1]).astype(np.float32)
    options = {"axis": axis, "reduction": reduction}
    on = driver.array(x), driver.array(t)
    loss, grad = fs.cross_entropy_and_grad(*on, sample_weight=driver.array(weight), **options)
    expected = reference.cross_entropy_and_grad(x, t, sample_weight=weight, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    near(driver.host(fs.logsumexp(on[0], axis)), reference.logsumexp(x, axis))
    near(driver.host(fs.log_softmax(on[0], axis)), reference.log_softmax(x, axis), size=10)
    near(driver.host(fs.softmax_vjp(on[0], grad, axis)), reference.softmax_vjp(x, expected.grad, axis), size=10)
    out = spread(np.zeros_like(x))
    assert driver.host(fs.softmax(on[0], axis, out=driver.array(out))) is not None
    near(out, reference.softmax(x, axis))


def test_outer_levels_are_walked_in_the_order_of_rows(driver):
    x = spread(drawn(3, 4, 5, 6))
    t = labels(np.random.default_rng(2), x.shape)
    loss, _ = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), out=driver.array(spread(x)), reduction="none")
    assert entries(driver) == ["cross_entropy"] * 3
    near(driver.host(loss), reference.cross_entropy(x, t, reduction="none"))
    driver.launches.clear()
    fs.cross_entropy(driver.array(x), driver.array(t))
    assert entries(driver) == ["count", *["cross_entropy"] * 3, "total"]


@pytest.mark.parametrize("axis", [None, (0, 1, 2), (1, 2), (-1, 1), (2,), (0, 1), (1, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_several_axes(driver, axis, keepdims):
    x = drawn(3, 4, 5)
    on = driver.array(x)
    near(driver.host(fs.softmax(on, axis)), reference.softmax(x, axis))
    out = np.zeros_like(x)
    fs.log_softmax(on, axis, out=driver.array(out))
    near(out, reference.log_softmax(x, axis), size=10)
    result = fs.logsumexp(on, axis, keepdims=keepdims)
    expected = reference.logsumexp(x, axis, keepdims=keepdims)
    assert result.shape == np.shape(expected)
    near(driver.host(result), expected)


def test_keepdims_of_one_axis(driver):
    assert fs.logsumexp(driver.array(drawn(3, 4, 5)), 1, keepdims=True).shape == (3, 1, 5)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_no_rows(driver, shape):
    x, t = drawn(*shape), np.zeros(shape[:-1], int)
    on = driver.array(x), driver.array(t)
    assert fs.softmax(on[0]).shape == shape
    assert fs.logsumexp(on[0]).shape == shape[:-1]
    loss, grad = fs.cross_entropy_and_grad(*on)
    assert grad.shape == shape
    assert np.isnan(driver.host(loss))
    assert driver.host(fs.cross_entropy(*on, reduction="sum")) == 0
    assert fs.cross_entropy(*on, reduction="none").shape == shape[:-1]


def test_rows_without_weight(driver):
    """The mean over nothing is NaN; so are its gradients, but for ignored rows."""
    x, t = drawn(3, 4), np.array([-100, 1, 1])
    weight = np.array([1, 0, 1, 1], np.float32)
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), class_weight=driver.array(weight))
    expected = reference.cross_entropy_and_grad(x, t, class_weight=weight)
    np.testing.assert_array_equal(driver.host(loss), expected.loss)
    np.testing.assert_array_equal(driver.host(grad), expected.grad)

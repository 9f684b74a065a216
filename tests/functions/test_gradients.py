"""Gradients against central differences, and the identities that losses and gradients obey."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax.core.options import TERMS
from tests.pairs import exhaustive_but
from tests.support import (
    INDEX_OPTIONS,
    SOFT_OPTIONS,
    class_counts,
    filled,
    floats,
    in_turn,
    labels,
    logits,
    names,
    probabilities,
    row_counts,
    seeds,
)

#: Numbers of classes whose rows go in batches, and in lanes: in this order they meet the sets of options as in
#: test_cross_entropy, by kernels for float64 that are compiled there, too.
KINDS = {"batches": (60,), "lanes": (2, 3, 10)}
STEP = 1e-5


def differences(loss, x):
    """The gradient of a loss a row, by central differences in every class."""
    result = np.empty_like(x)
    for j in range(x.shape[1]):
        there, back = x.copy(), x.copy()
        there[:, j] += STEP
        back[:, j] -= STEP
        result[:, j] = (loss(there) - loss(back)) / (2 * STEP)
    return result


def assert_is_gradient(x, target, options):
    """The gradient of the rows' losses is their derivative; the mean's and the sum's are made of the same."""
    grad = fs.cross_entropy_and_grad(x, target, reduction="none", **options).grad
    expected = differences(lambda z: fs.cross_entropy(z, target, reduction="none", **options), x)
    # The difference quotient loses eps * loss / step to rounding, and step**2 times the third derivative.
    size = 1 + np.abs(fs.cross_entropy(x, target, reduction="none", **options)).max()
    np.testing.assert_allclose(grad, expected, rtol=0, atol=3e-10 * size)


#: Several rows, or one, which lies as in Fortran order.
by_rows = pytest.mark.parametrize("most", exhaustive_but([9], [9, 1]))


@in_turn(INDEX_OPTIONS, KINDS)
@by_rows
@given(seeds, st.data())
def test_class_indices(options, kind, most, seed, data):
    random, rows = np.random.default_rng(seed), data.draw(st.integers(min(most, 2), most))
    x = logits(seed, (rows, data.draw(st.sampled_from(KINDS[kind]))), np.float64, 2.0)
    assert_is_gradient(x, labels(random, x.shape), filled(options, random, x.shape))


@in_turn(SOFT_OPTIONS, KINDS)
@by_rows
@given(seeds, st.data())
def test_probabilities(options, kind, most, seed, data):
    random, rows = np.random.default_rng(seed), data.draw(st.integers(min(most, 2), most))
    x = logits(seed, (rows, data.draw(st.sampled_from(KINDS[kind]))), np.float64, 2.0)
    assert_is_gradient(x, probabilities(random, x.shape, np.float64), filled(options, random, x.shape))


@given(seeds, row_counts, class_counts, floats)
def test_plain_gradient_is_p_minus_y(seed, rows, classes, dtype):
    """And sums to zero in every row."""
    x = logits(seed, (rows, classes), dtype)
    target = labels(np.random.default_rng(seed), x.shape, ignored=0)
    grad = fs.cross_entropy_and_grad(x, target, reduction="sum").grad
    eps = np.finfo(dtype).eps
    expected = fs.softmax(x) - np.eye(classes, dtype=dtype)[target]
    np.testing.assert_allclose(grad, expected, rtol=0, atol=8 * eps)
    assert np.abs(grad.sum(axis=1, dtype=np.float64)).max() <= 4 * eps * np.sqrt(classes) + 4 * eps


@given(seeds, row_counts, class_counts)
def test_reductions_agree(backend, seed, rows, classes):
    """The sum is that of the rows' losses, and the mean is the sum divided by the weights that count."""
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), np.float64)
    target, options = labels(random, x.shape), {"sample_weight": random.uniform(0.1, 2, rows)}
    each, total, mean = (
        backend.call(fs.cross_entropy_and_grad, x, target, reduction=r, **options) for r in ("none", "sum", "mean")
    )
    np.testing.assert_allclose(total.loss, each.loss.sum(), rtol=1e-14)
    np.testing.assert_array_equal(total.grad, each.grad)
    weights = options["sample_weight"][target != -100].sum()
    if weights:
        np.testing.assert_allclose(mean.loss * weights, total.loss, rtol=1e-14)
        np.testing.assert_allclose(mean.grad * weights, total.grad, rtol=1e-13, atol=1e-18)


@given(seeds, row_counts, class_counts, st.sampled_from([-1000, -3, 1, 64, 2**14]))
def test_shift_invariance(seed, rows, classes, shift):
    """A common offset that is exact changes no bit of loss and gradient."""
    random = np.random.default_rng(seed)
    x = random.integers(-40, 40, (rows, classes)).astype(np.float32) / 8
    target = labels(random, x.shape)
    here = fs.cross_entropy_and_grad(x, target, label_smoothing=0.1)
    there = fs.cross_entropy_and_grad(x + np.float32(shift), target, label_smoothing=0.1)
    np.testing.assert_array_equal(there.loss, here.loss)
    np.testing.assert_array_equal(there.grad, here.grad)


@given(seeds, row_counts, class_counts)
def test_permutations(seed, rows, classes):
    """Rows that change places keep their bits; classes that do keep their values."""
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), np.float64)
    target = labels(random, x.shape)
    here = fs.cross_entropy_and_grad(x, target, reduction="none")
    order = random.permutation(rows)
    there = fs.cross_entropy_and_grad(x[order], target[order], reduction="none")
    np.testing.assert_array_equal(there.loss, here.loss[order])
    np.testing.assert_array_equal(there.grad, here.grad[order])
    order = random.permutation(classes)
    renamed = np.where(target < 0, target, np.argsort(order)[np.maximum(target, 0)])
    there = fs.cross_entropy_and_grad(x[:, order], renamed, reduction="none")
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(there.grad, here.grad[:, order], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(
    "options",
    [
        {term.option: np.inf if term.default is None else term.default for term in TERMS},
        {"class_weight": 1.0},
        {"sample_weight": 1.0},
        {"grad_output": 1.0},
    ],
    ids=names,
)
@pytest.mark.parametrize("classes", [10, 300])
def test_degenerate_options_change_nothing(backend, options, classes):
    """Parameters for which a loss is the plain one give its very bits."""
    x = logits(0, (20, classes), np.float32)
    target = labels(np.random.default_rng(0), x.shape)
    sizes = {"class_weight": classes, "sample_weight": 20}
    options = {k: np.full(sizes[k], v) if k in sizes else v for k, v in options.items()}
    plain, other = (
        backend.call(fs.cross_entropy_and_grad, x, target),
        backend.call(fs.cross_entropy_and_grad, x, target, **options),
    )
    assert other.loss == plain.loss
    np.testing.assert_array_equal(other.grad, plain.grad)


@pytest.mark.parametrize(
    "options",
    [{term.option: 1e6 if term.default is None else term.default + 1e-12} for term in TERMS],
    ids=names,
)
@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 300]))
def test_options_are_continuous(backend, options, classes):
    """Almost degenerate options give almost the plain loss, by kernels of their own."""
    x = logits(0, (20, classes), np.float64)
    target = labels(np.random.default_rng(0), x.shape)
    plain, other = (
        backend.call(fs.cross_entropy_and_grad, x, target),
        backend.call(fs.cross_entropy_and_grad, x, target, **options),
    )
    np.testing.assert_allclose(other.loss, plain.loss, rtol=1e-9)
    np.testing.assert_allclose(other.grad, plain.grad, rtol=1e-8, atol=1e-12)


@given(seeds, row_counts, class_counts, st.sampled_from([-2.0, 0.0, 0.5, 4.0]))
def test_upstream_gradient_is_linear(backend, seed, rows, classes, factor):
    """A power of two times the upstream gradient is exactly that times the gradient."""
    x = logits(seed, (rows, classes), np.float32)
    target = labels(np.random.default_rng(seed), x.shape)
    plain = backend.call(fs.cross_entropy_and_grad, x, target, reduction="sum").grad
    for grad_output in (factor, np.full(rows, factor)):
        reduction = "sum" if np.ndim(grad_output) == 0 else "none"
        grad = backend.call(fs.cross_entropy_and_grad, x, target, reduction=reduction, grad_output=grad_output).grad
        np.testing.assert_array_equal(grad, plain * np.float32(factor))


@given(seeds, row_counts, class_counts)
def test_losses_of_indices_are_not_negative(seed, rows, classes):
    x = logits(seed, (rows, classes), np.float32, 50.0)
    target = labels(np.random.default_rng(seed), x.shape)
    assert (fs.cross_entropy(x, target, reduction="none") >= 0).all()
    assert (fs.cross_entropy(x, x.argmax(axis=1), reduction="none") >= 0).all()

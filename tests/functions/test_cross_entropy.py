"""Losses and gradients against the reference in higher precision, for every option, dtype and layout."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.support import (
    BFLOAT16,
    DTYPES,
    INDEX_OPTIONS,
    LAYOUTS,
    SOFT_OPTIONS,
    assert_exact,
    both,
    class_counts,
    computed,
    divisor,
    dtypes,
    filled,
    floats,
    labels,
    layouts,
    logits,
    names,
    probabilities,
    row_counts,
    scales,
    seeds,
    steepness,
    terms,
)

reductions = st.sampled_from(["mean", "sum", "none"])


def assert_as_reference(x, target, options, reduction, grad_output=None):
    """Loss and gradient, and the loss alone, against the reference."""
    given_ = {} if grad_output is None else {"grad_output": grad_output}
    result = fs.cross_entropy_and_grad(x, target, reduction=reduction, **options, **given_)
    exact, naive = both(fs.cross_entropy_and_grad, x, target, dtype=x.dtype, reduction=reduction, **options, **given_)
    rows, naive_rows = both(fs.cross_entropy, x, target, dtype=x.dtype, reduction="none", **options)
    work = computed(x.dtype)
    assert result.loss.dtype == work
    assert result.grad.dtype == x.dtype.newbyteorder("=")
    # The terms that a loss and a gradient add up are as large as the logits, the weights and the upstream gradient.
    worst = np.abs(np.where(np.isfinite(rows), rows, 0)).max(initial=0.0)
    if reduction == "none":
        assert_exact(result.loss, rows, naive_rows, along=None, ulps=16, size=worst)
    else:
        lost = np.abs(np.where(np.isfinite(rows), naive_rows - rows, 0)).sum()
        shared = 1.0 if reduction == "sum" else divisor(x, target, options)
        assert_exact(result.loss, exact.loss, exact.loss + lost / shared, ulps=16, size=worst / shared)
    size = np.abs(np.where(np.isfinite(exact.grad), exact.grad, 0)).max(axis=-1, keepdims=True, initial=0.0)
    size = size + terms(x, target, options, reduction, 1.0 if grad_output is None else grad_output)
    assert_exact(result.grad, exact.grad, naive.grad, ulps=16, size=size * (1 + steepness(x, options)))
    alone = fs.cross_entropy(x, target, reduction=reduction, **options)
    np.testing.assert_array_equal(alone, result.loss)


@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=names)
@given(seeds, row_counts, class_counts, floats, scales, reductions)
def test_class_indices(options, seed, rows, classes, dtype, scale, reduction):
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), dtype, scale)
    assert_as_reference(x, labels(random, x.shape), filled(options, random, x.shape), reduction)


@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
@given(seeds, row_counts, class_counts, floats, scales, reductions)
def test_probabilities(options, seed, rows, classes, dtype, scale, reduction):
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), dtype, scale)
    assert_as_reference(x, probabilities(random, x.shape, dtype), filled(options, random, x.shape), reduction)


@pytest.mark.parametrize("options", [INDEX_OPTIONS[0], INDEX_OPTIONS[-1]], ids=names)
@given(seeds, row_counts, class_counts, dtypes, layouts, reductions)
def test_layouts_of_logits(options, seed, rows, classes, dtype, layout, reduction):
    random = np.random.default_rng(seed)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    assert_as_reference(x, labels(random, x.shape), filled(options, random, x.shape), reduction)


@given(seeds, row_counts, class_counts, dtypes, layouts, st.sampled_from(DTYPES), layouts)
def test_layouts_of_probabilities(seed, rows, classes, dtype, layout, target_dtype, target_layout):
    """Soft targets may have another dtype than the logits."""
    random = np.random.default_rng(seed)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    q = LAYOUTS[target_layout](probabilities(random, x.shape, target_dtype))
    work = computed(dtype)
    # What is wider than the computing dtype is rounded to it; what is narrower is exact.
    assert_as_reference(x, q if target_dtype.itemsize <= work.itemsize else q.astype(work), {}, "sum")
    wide = fs.cross_entropy_and_grad(x, q, reduction="sum")
    narrow = fs.cross_entropy_and_grad(x, q.astype(work), reduction="sum")
    np.testing.assert_array_equal(wide.grad, narrow.grad)


@given(seeds, row_counts, class_counts, floats, st.booleans(), st.booleans())
def test_upstream_gradient(seed, rows, classes, dtype, soft, weighted):
    """A number a row, some of them zero or negative; and one number for all."""
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), dtype)
    target = probabilities(random, x.shape, dtype) if soft else labels(random, x.shape)
    options = {"sample_weight": random.uniform(0.1, 2, rows)} if weighted else {}
    assert_as_reference(x, target, options, "none", random.integers(-2, 3, rows) * random.uniform(0.5, 2, rows))
    for reduction in ("mean", "sum", "none"):
        assert_as_reference(x, target, options, reduction, -2.5)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axis(axis):
    """Classes along any axis, as segmentation has them along the second."""
    x = logits(0, (6, 7, 8), np.float64)
    random = np.random.default_rng(0)
    last = np.moveaxis(x, axis, -1)
    for target in (labels(random, last.shape), probabilities(random, x.shape, np.float64)):
        moved = target if target.ndim == 2 else np.moveaxis(target, axis, -1)
        for reduction in ("mean", "none"):
            result = fs.cross_entropy_and_grad(x, target, axis=axis, reduction=reduction)
            expected = fs.reference.cross_entropy_and_grad(last, moved, reduction=reduction)
            np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-14)
            np.testing.assert_allclose(np.moveaxis(result.grad, axis, -1), expected.grad, rtol=1e-12, atol=1e-17)
            out = np.empty_like(x)
            assert fs.cross_entropy_and_grad(x, target, axis=axis, reduction=reduction, out=out).grad is out
            np.testing.assert_array_equal(out, result.grad)


@pytest.mark.parametrize("classes", [5, 200])
@pytest.mark.parametrize("leading", [(), (1,), (4,), (3, 4), (2, 3, 4)])
def test_leading_axes(leading, classes):
    x = logits(0, (*leading, classes), np.float32)
    target = labels(np.random.default_rng(0), x.shape)
    result = fs.cross_entropy_and_grad(x, target, reduction="none")
    flat = fs.cross_entropy_and_grad(x.reshape(-1, classes), target.reshape(-1), reduction="none")
    assert np.shape(result.loss) == leading
    np.testing.assert_array_equal(np.ravel(result.loss), flat.loss)
    np.testing.assert_array_equal(result.grad.reshape(-1, classes), flat.grad)


@pytest.mark.parametrize("dtype", [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + [">i4"])
def test_dtypes_of_indices(dtype):
    x = logits(0, (40, 100), np.float32)
    target = labels(np.random.default_rng(0), x.shape, ignored=0)
    expected = fs.cross_entropy_and_grad(x, target)
    for given_ in (target.astype(dtype), np.repeat(target.astype(dtype), 2)[::2], target.tolist()):
        result = fs.cross_entropy_and_grad(x, given_)
        assert result.loss == expected.loss
        np.testing.assert_array_equal(result.grad, expected.grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_integers_and_lists(dtype):
    """Integers are float64, and so is everything that comes of them."""
    x = np.random.default_rng(0).integers(-5, 6, (4, 3))
    loss, grad = fs.cross_entropy_and_grad(x.tolist(), [0, 1, 2, 0])
    assert loss.dtype == grad.dtype == np.float64
    expected = fs.cross_entropy_and_grad(x.astype(np.float64), [0, 1, 2, 0])
    np.testing.assert_array_equal(grad, expected.grad)
    narrow = fs.cross_entropy(x.astype(dtype), [0, 1, 2, 0])
    np.testing.assert_allclose(narrow, expected.loss, rtol=1e-6)


@pytest.mark.parametrize("classes", [10, 1000])
def test_out(classes):
    """The gradient goes where it is told to, onto the logits as well, and the loss is the same."""
    x = logits(0, (30, classes), np.float32)
    target = labels(np.random.default_rng(0), x.shape)
    expected = fs.cross_entropy_and_grad(x, target)
    for layout in ("C", "Fortran", "every second", "backwards", "unaligned"):
        out = LAYOUTS[layout](np.ones_like(x))
        result = fs.cross_entropy_and_grad(x, target, out=out)
        assert result.grad is out
        np.testing.assert_array_equal(out, expected.grad)
        own = LAYOUTS[layout](x)
        kept = fs.cross_entropy_and_grad(own, target)
        in_place = fs.cross_entropy_and_grad(own, target, out=own)
        assert in_place.loss == kept.loss
        np.testing.assert_array_equal(own, kept.grad)


def test_textbook_values():
    """A probability of 0.9 for the true class costs 0.105, one of 0.2 costs 1.609; entropy of a fair coin is log 2."""
    losses = fs.cross_entropy(np.log([[0.9, 0.1], [0.8, 0.2]]), [0, 1], reduction="none")
    np.testing.assert_allclose(losses, [0.10536051565782628, 1.6094379124341003], rtol=1e-14)
    np.testing.assert_allclose(fs.cross_entropy([[0.0, 0.0]], [[0.5, 0.5]]), np.log(2), rtol=1e-15)
    loss, grad = fs.cross_entropy_and_grad(np.log([[0.7, 0.2, 0.1]]), [0])
    np.testing.assert_allclose(loss, -np.log(0.7), rtol=1e-14)
    np.testing.assert_allclose(grad, [[-0.3, 0.2, 0.1]], rtol=1e-14)


def test_one_hot_equals_index():
    x = logits(0, (50, 10), np.float64)
    target = labels(np.random.default_rng(0), x.shape, ignored=0)
    hard = fs.cross_entropy_and_grad(x, target, label_smoothing=0.1)
    soft = fs.cross_entropy_and_grad(x, np.eye(10)[target], label_smoothing=0.1)
    np.testing.assert_allclose(soft.loss, hard.loss, rtol=1e-14)
    np.testing.assert_allclose(soft.grad, hard.grad, rtol=1e-13, atol=1e-17)


def test_agrees_with_scikit_learn():
    """sample_weight and the mean as scikit-learn's log_loss has them."""
    metrics = pytest.importorskip("sklearn.metrics")
    x, random = logits(0, (50, 7), np.float64, 1.0), np.random.default_rng(0)
    target, weight = labels(random, x.shape, ignored=0), random.uniform(0, 2, 50)
    expected = metrics.log_loss(target, scipy.special.softmax(x, axis=1), sample_weight=weight, labels=range(7))
    np.testing.assert_allclose(fs.cross_entropy(x, target, sample_weight=weight), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_half_logits_of_confident_rows(dtype):
    """1 - p keeps its digits, though p itself is 1 in half precision."""
    x = np.array([[12.0, 0.0, 0.0], [3.0, 11.0, -4.0]], dtype)
    loss, grad = fs.cross_entropy_and_grad(x, [0, 1], reduction="none")
    exact = fs.reference.cross_entropy_and_grad(x, [0, 1], reduction="none")
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-6)
    np.testing.assert_allclose(grad.astype(np.float64), exact.grad, rtol=2e-2 if dtype == BFLOAT16 else 2e-3, atol=1e-7)

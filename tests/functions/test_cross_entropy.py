"""Losses and gradients against the reference in higher precision, for every option, dtype and layout."""

from itertools import product

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.pairs import exhaustive_but
from tests.support import (
    BATCHES,
    BFLOAT16,
    DTYPES,
    INDEX_OPTIONS,
    LANES,
    LAYOUTS,
    LONG,
    SOFT_OPTIONS,
    assert_exact,
    both,
    class_counts,
    computed,
    divisor,
    dtypes,
    examples,
    filled,
    floats,
    labels,
    layouts,
    logits,
    names,
    numbered,
    probabilities,
    row_counts,
    scales,
    seeds,
    several_rows,
    shapes,
    steepness,
    terms,
)

reductions = st.sampled_from(["mean", "sum", "none"])


def assert_as_reference(backend, x, target, options, reduction, grad_output=None, *, alone=True):
    """Loss and gradient against the reference, and the loss `alone`, by a kernel of its own, against that one."""
    up = {} if grad_output is None else {"grad_output": grad_output}
    result = backend.call(fs.cross_entropy_and_grad, x, target, reduction=reduction, **options, **up)
    exact, naive = both(fs.cross_entropy_and_grad, x, target, dtype=x.dtype, reduction=reduction, **options, **up)
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
    if alone:
        loss = backend.call(fs.cross_entropy, x, target, reduction=reduction, **options)
        np.testing.assert_array_equal(loss, result.loss)


def _alone(classes, dtype):
    """Whether to compare the loss alone too: on long rows, and in float64, where the tests of gradients have it."""
    return classes in LONG or dtype == np.float64


@numbered(INDEX_OPTIONS)
@given(seeds, several_rows, scales, reductions, st.data())
def test_class_indices(backend, case, options, seed, rows, scale, reduction, data):
    random, (classes, dtype) = np.random.default_rng(seed), data.draw(shapes(case, options))
    x = logits(seed, (rows, classes), dtype, scale)
    options = filled(options, random, x.shape)
    assert_as_reference(
        backend, x, labels(random, x.shape), options, reduction, alone=backend.gpu or _alone(classes, dtype)
    )


@numbered(SOFT_OPTIONS)
@given(seeds, several_rows, scales, reductions, st.data())
def test_probabilities(backend, case, options, seed, rows, scale, reduction, data):
    random, (classes, dtype) = np.random.default_rng(seed), data.draw(shapes(case, options))
    x = logits(seed, (rows, classes), dtype, scale)
    options, target = filled(options, random, x.shape), probabilities(random, x.shape, dtype)
    assert_as_reference(backend, x, target, options, reduction, alone=backend.gpu or _alone(classes, dtype))


@pytest.mark.exhaustive
@numbered([*INDEX_OPTIONS, *SOFT_OPTIONS])
@given(seeds, row_counts, class_counts, floats, scales, reductions)
def test_all_shapes(backend, case, options, seed, rows, classes, dtype, scale, reduction):
    """As above, with every number of classes in every dtype."""
    random, x = np.random.default_rng(seed), logits(seed, (rows, classes), dtype, scale)
    soft = case >= len(INDEX_OPTIONS)
    target = probabilities(random, x.shape, dtype) if soft else labels(random, x.shape)
    assert_as_reference(backend, x, target, filled(options, random, x.shape), reduction)


PLACES = list(product(LAYOUTS, DTYPES, ["mean", "sum", "none"]))


def is_usual(layout, dtype, reduction):
    """Every layout in float32, and gradients of one that is copied in float64."""
    return dtype == np.float32 or (reduction != "none" and (layout, dtype) == ("unaligned", np.float64))


@pytest.mark.parametrize(
    ("layout", "dtype", "reduction"), exhaustive_but([place for place in PLACES if is_usual(*place)], PLACES), ids=str
)
def test_layouts_of_logits(backend, layout, dtype, reduction):
    """Every layout with every dtype and reduction, each of these with every kind of rows, plain or with all options.

    Not all four with each other, which would be four times as many kernels.
    """
    number = list(LAYOUTS).index(layout) + DTYPES.index(dtype)
    for classes in (LANES, BATCHES, LONG)[number % 3][-2:]:
        random = np.random.default_rng(number)
        x = backend.lay(layout, logits(number, (21, classes), dtype))
        options = filled(INDEX_OPTIONS[-(number // 3 % 2)], random, x.shape)
        assert_as_reference(backend, x, labels(random, x.shape), options, reduction, alone=reduction == "none")


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", [INDEX_OPTIONS[0], INDEX_OPTIONS[-1]], ids=names)
@given(seeds, row_counts, class_counts, dtypes, layouts, reductions)
def test_all_layouts_of_logits(backend, options, seed, rows, classes, dtype, layout, reduction):
    """As above, with every number of classes in every layout."""
    random = np.random.default_rng(seed)
    x = backend.lay(layout, logits(seed, (rows, classes), dtype))
    assert_as_reference(backend, x, labels(random, x.shape), filled(options, random, x.shape), reduction)


def assert_probabilities(backend, x, q):
    """Soft targets may have another dtype than the logits, and lie elsewhere."""
    work = computed(x.dtype)
    # What is wider than the computing dtype is rounded to it; what is narrower is exact.
    assert_as_reference(backend, x, q if q.dtype.itemsize <= work.itemsize else q.astype(work), {}, "sum")
    if q.dtype != work:
        wide = backend.call(fs.cross_entropy_and_grad, x, q, reduction="sum")
        narrow = backend.call(fs.cross_entropy_and_grad, x, q.astype(work), reduction="sum")
        np.testing.assert_array_equal(wide.grad, narrow.grad)


@pytest.mark.parametrize(
    ("number", "few"), exhaustive_but([(6, True)], list(product(range(len(LAYOUTS)), [True, False])))
)
def test_layouts_of_probabilities(backend, number, few):
    """Every layout of each with two dtypes of the other."""
    dtype, turn = (DTYPES[number % 4], 1) if few else (DTYPES[(number + 2) % 4], 4)
    random, kinds = np.random.default_rng(number), backend.targets(dtype)
    x = backend.lay(list(LAYOUTS)[number], logits(number, (21, 10 if few else (47, 1000)[number % 2]), dtype))
    q = probabilities(random, x.shape, kinds[number // 2 % len(kinds)])
    assert_probabilities(backend, x, backend.lay(list(LAYOUTS)[(number + turn) % len(LAYOUTS)], q))


@pytest.mark.exhaustive
@given(seeds, row_counts, class_counts, dtypes, layouts, layouts, st.data())
def test_all_layouts_of_probabilities(backend, seed, rows, classes, dtype, layout, target_layout, data):
    x = backend.lay(layout, logits(seed, (rows, classes), dtype))
    q = probabilities(np.random.default_rng(seed), x.shape, data.draw(st.sampled_from(backend.targets(dtype))))
    assert_probabilities(backend, x, backend.lay(target_layout, q))


@pytest.mark.parametrize("case", exhaustive_but([0], [0, 1, 2]))
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@examples(6)
@given(seeds, row_counts, st.booleans(), st.data())
def test_upstream_gradient(backend, soft, case, seed, rows, weighted, data):
    """A number a row, some of them zero or negative; and one number for all."""
    random, (classes, dtype) = np.random.default_rng(seed), data.draw(shapes(soft + case, None))
    x = logits(seed, (rows, classes), dtype)
    target = probabilities(random, x.shape, dtype) if soft else labels(random, x.shape)
    options = {"sample_weight": random.uniform(0.1, 2, rows)} if weighted else {}
    up = random.integers(-2, 3, rows) * random.uniform(0.5, 2, rows)
    if not (weighted and backend.gpu):  # which multiplies no factors of rows beforehand
        assert_as_reference(backend, x, target, options, "none", up)
    for reduction in ("mean", "sum", "none"):
        assert_as_reference(backend, x, target, options, reduction, -2.5)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axis(backend, axis):
    """Classes along any axis, as segmentation has them along the second."""
    x = logits(0, (6, 7, 8), np.float64)
    random = np.random.default_rng(0)
    last = np.moveaxis(x, axis, -1)
    for target in (labels(random, last.shape), probabilities(random, x.shape, np.float64)):
        moved = target if target.ndim == 2 else np.moveaxis(target, axis, -1)
        for reduction in ("mean", "none"):
            options = {"axis": axis, "reduction": reduction}
            result = backend.call(fs.cross_entropy_and_grad, x, target, **options)
            expected = fs.reference.cross_entropy_and_grad(last, moved, reduction=reduction)
            np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-14)
            np.testing.assert_allclose(np.moveaxis(result.grad, axis, -1), expected.grad, rtol=1e-12, atol=1e-17)
            out = np.empty_like(x)
            assert backend.call(fs.cross_entropy_and_grad, x, target, **options, out=out).grad is out
            np.testing.assert_array_equal(out, result.grad)


@pytest.mark.parametrize("classes", [5, 200])
@pytest.mark.parametrize("leading", [(), (1,), (4,), (3, 4), (2, 3, 4)])
def test_leading_axes(backend, leading, classes):
    x = logits(0, (*leading, classes), np.float32)
    target = labels(np.random.default_rng(0), x.shape)
    result = backend.call(fs.cross_entropy_and_grad, x, np.asarray(target), reduction="none")
    flat = backend.call(fs.cross_entropy_and_grad, x.reshape(-1, classes), target.reshape(-1), reduction="none")
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


@pytest.mark.parametrize("dtype", exhaustive_but(DTYPES[2:], DTYPES), ids=str)
def test_integers_and_lists(dtype):
    """Integers are float64, and so is everything that comes of them."""
    x = np.random.default_rng(0).integers(-5, 6, (4, 3))
    loss, grad = fs.cross_entropy_and_grad(x.tolist(), [0, 1, 2, 0])
    assert loss.dtype == grad.dtype == np.float64
    expected = fs.cross_entropy_and_grad(x.astype(np.float64), [0, 1, 2, 0])
    np.testing.assert_array_equal(grad, expected.grad)
    narrow = fs.cross_entropy(x.astype(dtype), [0, 1, 2, 0])
    np.testing.assert_allclose(narrow, expected.loss, rtol=1e-6)


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 1000]))
def test_out(backend, classes):
    """The gradient goes where it is told to, onto the logits as well, and the loss is the same."""
    x = logits(0, (30, classes), np.float32)
    target = labels(np.random.default_rng(0), x.shape)
    expected = backend.call(fs.cross_entropy_and_grad, x, target)
    for layout in {"C", "Fortran", "every second", "backwards", "unaligned"} & set(backend.layouts):
        out = LAYOUTS[layout](np.ones_like(x))
        result = backend.call(fs.cross_entropy_and_grad, x, target, out=out)
        assert result.grad is out
        np.testing.assert_array_equal(out, expected.grad)
        own = LAYOUTS[layout](x)
        kept = backend.call(fs.cross_entropy_and_grad, own, target)
        in_place = backend.call(fs.cross_entropy_and_grad, own, target, out=own)
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


def test_one_hot_equals_index(backend):
    x = logits(0, (50, 10), np.float64)
    target = labels(np.random.default_rng(0), x.shape, ignored=0)
    hard = backend.call(fs.cross_entropy_and_grad, x, target, label_smoothing=0.1)
    soft = backend.call(fs.cross_entropy_and_grad, x, np.eye(10)[target], label_smoothing=0.1)
    np.testing.assert_allclose(soft.loss, hard.loss, rtol=1e-14)
    np.testing.assert_allclose(soft.grad, hard.grad, rtol=1e-13, atol=1e-17)


def test_agrees_with_scikit_learn():
    """sample_weight and the mean as scikit-learn's log_loss has them."""
    metrics = pytest.importorskip("sklearn.metrics")
    x, random = logits(0, (50, 7), np.float64, 1.0), np.random.default_rng(0)
    target, weight = labels(random, x.shape, ignored=0), random.uniform(0, 2, 50)
    expected = metrics.log_loss(target, scipy.special.softmax(x, axis=1), sample_weight=weight, labels=range(7))
    np.testing.assert_allclose(fs.cross_entropy(x, target, sample_weight=weight), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", exhaustive_but(DTYPES[:1], DTYPES[:2]), ids=str)
def test_half_logits_of_confident_rows(dtype):
    """1 - p keeps its digits, though p itself is 1 in half precision."""
    x = np.array([[12.0, 0.0, 0.0], [3.0, 11.0, -4.0]], dtype)
    loss, grad = fs.cross_entropy_and_grad(x, [0, 1], reduction="none")
    exact = fs.reference.cross_entropy_and_grad(x, [0, 1], reduction="none")
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-6)
    np.testing.assert_allclose(grad.astype(np.float64), exact.grad, rtol=2e-2 if dtype == BFLOAT16 else 2e-3, atol=1e-7)

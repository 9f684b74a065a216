"""The cases that broke other libraries, one by one."""

from itertools import product

import numpy as np
import pytest

import fastsoftmax as fs
from tests.pairs import exhaustive_but
from tests.support import labels, logits

both_layouts = pytest.mark.parametrize("classes", [10, 300, 5000])
INF, NAN = np.inf, np.nan


# 1. Infinities.


IMPOSSIBLE = [(classes, dtype) for dtype in (np.float32, np.float64) for classes in (10, 300, 5000)]


@pytest.mark.parametrize(("classes", "dtype"), exhaustive_but(IMPOSSIBLE[:4], IMPOSSIBLE))
def test_impossible_classes(classes, dtype):
    """-inf has probability exactly 0; as the target it costs inf, with the finite gradient p - y."""
    x = logits(0, (4, classes), dtype)
    x[:, : classes // 2] = -INF  # the first blocks of a long row are -inf altogether
    target = np.array([classes - 1, 0, classes - 1, 1])
    loss, grad = fs.cross_entropy_and_grad(x, target, reduction="none")
    expected = fs.reference.cross_entropy_and_grad(x, target, reduction="none")
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-5 if dtype == np.float32 else 1e-13)
    np.testing.assert_array_equal(np.isinf(loss), [False, True, False, True])
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad[[1, 3], [0, 1]], [-1, -1])
    assert (grad[0, : classes // 2] == 0).all()
    assert (fs.softmax(x)[:, : classes // 2] == 0).all()


@both_layouts
def test_infinite_rows_are_nan_and_alone(classes):
    x = logits(0, (6, classes), np.float32)
    x[1], x[2, 0], x[3, -1] = -INF, INF, NAN
    loss, grad = fs.cross_entropy_and_grad(x, np.zeros(6, int), reduction="none")
    poisoned = np.array([False, True, True, True, False, False])
    np.testing.assert_array_equal(np.isnan(loss), poisoned)
    np.testing.assert_array_equal(np.isnan(grad).all(axis=1), poisoned)
    assert np.isfinite(grad[~poisoned]).all()
    clean = fs.cross_entropy_and_grad(x[~poisoned], np.zeros(3, int), reduction="none")
    np.testing.assert_array_equal(loss[~poisoned], clean.loss)
    np.testing.assert_array_equal(grad[~poisoned], clean.grad)


# 2. Ignored rows.


@both_layouts
@pytest.mark.parametrize("ignore_index", [-100, -1, 3, 10**6, 255])
@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_ignored_rows_reach_nothing(backend, classes, ignore_index, garbage):
    x = logits(0, (8, classes), np.float32)
    target = np.array([0, 1, 2, 5, 0, 1, 2, 5])
    target[[2, 7]] = ignore_index
    x[[2, 7]] = garbage
    kept = target != ignore_index
    options = {"label_smoothing": 0.1, "class_weight": np.linspace(0.5, 1, classes), "z_loss": 0.1}
    for more in ({}, options):
        result = backend.call(fs.cross_entropy_and_grad, x, target, ignore_index=ignore_index, **more)
        expected = fs.reference.cross_entropy_and_grad(x[kept], target[kept], **more)
        np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-6)
        np.testing.assert_allclose(result.grad[kept], expected.grad, rtol=1e-4, atol=1e-8)
        assert (result.grad[~kept] == 0).all()
        assert not np.signbit(result.grad[~kept]).any()
        each = backend.call(fs.cross_entropy, x, target, ignore_index=ignore_index, reduction="none", **more)
        assert (each[~kept] == 0).all()


def test_ignored_rows_with_an_infinite_upstream_gradient():
    x = logits(0, (3, 10), np.float32)
    result = fs.cross_entropy_and_grad(x, [1, -100, 2], reduction="none", grad_output=[1.0, INF, 1.0])
    assert (result.grad[1] == 0).all()
    assert np.isfinite(result.grad).all()


# 3. Common offsets.


OFFSETS = [(np.float32, 1e4), (np.float32, -1e4), (np.float32, 2.0**24), (np.float64, 1e15)]
MOVED = [(classes, *offset) for offset in OFFSETS for classes in (10, 300, 5000)]


@pytest.mark.parametrize(("classes", "dtype", "offset"), exhaustive_but(MOVED[:-2], MOVED))
def test_common_offset(classes, dtype, offset):
    """The loss is log(s) - (z - m), not lse - z, which would have no digits left here."""
    random = np.random.default_rng(0)
    x = (random.integers(-20, 20, (16, classes)) * 2).astype(dtype)
    target = random.integers(0, classes, 16)
    plain = fs.cross_entropy_and_grad(x, target, reduction="none")
    moved = fs.cross_entropy_and_grad(x + dtype(offset), target, reduction="none")
    np.testing.assert_array_equal(moved.loss, plain.loss)
    np.testing.assert_array_equal(moved.grad, plain.grad)


# 4. Confident rows.


SURE = [(classes, dtype) for dtype in (np.float32, np.float64) for classes in (2, 10, 300, 5000)]


@pytest.mark.parametrize(("classes", "dtype"), exhaustive_but(SURE[:-2], SURE))
@pytest.mark.parametrize("gap", [5, 17, 40, 80, 300, 700])
def test_confident_target(classes, dtype, gap):
    """Loss and gradient keep their relative precision down to the smallest normal number."""
    x = np.zeros((1, classes), dtype)
    x[0, 1] = gap
    loss, grad = fs.cross_entropy_and_grad(x, [1], reduction="none")
    others = (classes - 1) * np.exp(np.longdouble(-gap))
    exact = np.log1p(others), -others / (1 + others)
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(np.float64(loss[0]), np.float64(exact[0]), rtol=8 * np.finfo(dtype).eps, atol=tiny)
    np.testing.assert_allclose(np.float64(grad[0, 1]), np.float64(exact[1]), rtol=8 * np.finfo(dtype).eps, atol=tiny)
    assert loss[0] >= 0
    focal = fs.cross_entropy_and_grad(x, [1], reduction="none", focal_gamma=2.0)
    expected = fs.reference.cross_entropy_and_grad(x, [1], reduction="none", focal_gamma=2.0)
    np.testing.assert_allclose(focal.loss, expected.loss, rtol=64 * np.finfo(dtype).eps, atol=tiny)
    np.testing.assert_allclose(focal.grad, expected.grad, rtol=64 * np.finfo(dtype).eps, atol=tiny)


# 5. Degenerate sizes.


@pytest.mark.parametrize("shape", [(0, 5), (0, 500), (4, 0, 5), (0, 1)])
def test_no_rows(backend, shape):
    """The mean of nothing is NaN, its sum 0, and its gradient empty."""
    x, target = np.empty(shape, np.float32), np.empty(shape[:-1], int)
    for given in (target, np.empty_like(x)):
        mean, grad = backend.call(fs.cross_entropy_and_grad, x, given)
        assert np.isnan(mean)
        assert grad.shape == shape
        assert backend.call(fs.cross_entropy, x, given, reduction="sum") == 0
        assert backend.call(fs.cross_entropy, x, given, reduction="none").shape == shape[:-1]


@pytest.mark.parametrize("dtype", exhaustive_but([np.float32], [np.float32, np.float64]))
def test_one_class(dtype):
    """The only class is certain: loss 0 and gradient 0, exactly."""
    x = np.array([[5.0], [-3.0], [0.0]], dtype)
    for options in (
        {},
        {"label_smoothing": 0.3},
        {"focal_gamma": 2.0},
        {"class_weight": [0.7], "label_smoothing": 0.1},
    ):
        loss, grad = fs.cross_entropy_and_grad(x, [0, 0, 0], **options)
        assert loss == 0
        assert (grad == 0).all()


NOTHING = list(product([10, 300, 5000], [{}, {"label_smoothing": 0.1}, {"class_weight": True}]))


@pytest.mark.parametrize(("classes", "options"), exhaustive_but([*NOTHING[:3], *NOTHING[3::3]], NOTHING), ids=str)
def test_all_ignored(backend, classes, options):
    """As in torch: the mean is NaN, the sum 0, and every gradient exactly 0."""
    x, target = logits(0, (5, classes), np.float32), np.full(5, -100)
    if "class_weight" in options:
        options = {"class_weight": np.ones(classes)}
    mean, grad = backend.call(fs.cross_entropy_and_grad, x, target, **options)
    assert np.isnan(mean)
    assert (grad == 0).all()
    assert backend.call(fs.cross_entropy, x, target, reduction="sum", **options) == 0
    assert (backend.call(fs.cross_entropy, x, target, reduction="none", **options) == 0).all()


# 6. Weights: the formulas are compared with the reference in test_cross_entropy; here their denominators.


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 300, 5000]))  # what divides knows nothing of rows
def test_denominator_of_the_mean(backend, classes):
    x, random = logits(0, (6, classes), np.float64), np.random.default_rng(0)
    w, r, t = random.uniform(0.1, 2, classes), random.uniform(0.1, 2, 6), np.array([0, 1, 2, -100, 4, 0])
    used, t_w = t >= 0, np.maximum(t, 0)
    nll = -fs.reference.log_softmax(x)[np.arange(6), t_w]
    for options, weight in (
        ({}, np.ones(6)),
        ({"class_weight": w}, w[t_w]),
        ({"sample_weight": r}, r),
        ({"class_weight": w, "sample_weight": r}, w[t_w] * r),
    ):
        expected = (weight * nll)[used].sum() / weight[used].sum()
        np.testing.assert_allclose(backend.call(fs.cross_entropy, x, t, **options), expected, rtol=1e-13)
    q = random.uniform(size=x.shape)
    expected = -(w * q * fs.reference.log_softmax(x)).sum() / 6  # probabilities: by rows, whatever their weights
    np.testing.assert_allclose(backend.call(fs.cross_entropy, x, q, class_weight=w), expected, rtol=1e-13)


@both_layouts
def test_target_class_of_weight_zero(classes):
    x, w = logits(0, (2, classes), np.float32), np.ones(classes)
    w[3] = 0
    loss, grad = fs.cross_entropy_and_grad(x, [3, 3], class_weight=w, reduction="sum")
    assert loss == 0
    assert (grad == 0).all()
    x[:, 3] = -INF  # 0 * inf = 0: what costs nothing costs nothing, however impossible it is
    smooth = fs.cross_entropy_and_grad(x, [0, 1], class_weight=w, label_smoothing=0.1)
    expected = fs.reference.cross_entropy_and_grad(x, [0, 1], class_weight=w, label_smoothing=0.1)
    assert np.isfinite(smooth.loss)
    np.testing.assert_allclose(smooth.loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(smooth.grad, expected.grad, rtol=1e-4, atol=1e-8)


def test_weights_that_add_up_to_nothing(backend):
    """The mean is NaN, even where smoothing costs something all the same, as in torch."""
    x, w = logits(0, (2, 10), np.float32), np.ones(10)
    w[3] = 0
    loss, grad = backend.call(fs.cross_entropy_and_grad, x, [3, 3], class_weight=w, label_smoothing=0.1)
    assert np.isnan(loss)
    assert np.isnan(grad).all()
    assert np.isnan(backend.call(fs.cross_entropy, x, [3, 3], class_weight=np.zeros(10)))
    assert np.isnan(backend.call(fs.cross_entropy, x, [3, 3], sample_weight=[0, 0]))
    result = backend.call(fs.cross_entropy_and_grad, x, [-100, 3], class_weight=w)
    expected = fs.reference.cross_entropy_and_grad(x, [-100, 3], class_weight=w)
    np.testing.assert_array_equal(result.loss, expected.loss)
    np.testing.assert_array_equal(result.grad, expected.grad)  # NaN, but for the ignored row


# 7. Bad targets are in test_errors; 8. past 2**31, and 9. layouts, in test_layouts; 10. upstream gradients in
# test_cross_entropy; 11. aliasing in test_layouts.

# 12. Precision.


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_million_rows(reduction):
    """The sum over rows does not lose digits, in float32 either."""
    x = np.zeros((1_000_000, 2), np.float32)
    x[:, 1] = 0.1
    loss = fs.cross_entropy(x, np.zeros(len(x), np.int8), reduction=reduction)
    exact = np.log1p(np.exp(np.float64(np.float32(0.1)))) * (1 if reduction == "mean" else len(x))
    np.testing.assert_allclose(loss, exact, rtol=3e-7)


@both_layouts
def test_zero_probability_of_the_impossible(classes):
    """0 log 0 = 0."""
    x, q = logits(0, (2, classes), np.float64), np.full((2, classes), 1 / classes)
    x[:, 1], q[:, 1] = -INF, 0
    result = fs.cross_entropy_and_grad(x, q)
    expected = fs.reference.cross_entropy_and_grad(x, q)
    assert np.isfinite(result.loss)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-13)
    np.testing.assert_allclose(result.grad, expected.grad, rtol=1e-12, atol=1e-16)


@both_layouts
def test_probabilities_that_do_not_sum_to_one(backend, classes):
    """The gradient is p * sum(q) - q, not p - q."""
    x, q = logits(0, (3, classes), np.float64), np.random.default_rng(0).uniform(size=(3, classes)) / classes
    grad = backend.call(fs.cross_entropy_and_grad, x, q, reduction="sum").grad
    np.testing.assert_allclose(grad, fs.reference.softmax(x) * q.sum(axis=1, keepdims=True) - q, rtol=1e-10, atol=1e-15)


def test_large_float16():
    x = np.array([[65504, -65504, 0], [65504, 65504, 65504]], np.float16)
    loss, grad = fs.cross_entropy_and_grad(x, [1, 2], reduction="none")
    np.testing.assert_allclose(loss, [131008.0, np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(grad[0], [1, -1, 0])


def test_gradients_of_a_long_row_sum_to_zero():
    x = logits(0, (2, 262144), np.float32)
    grad = fs.cross_entropy_and_grad(x, labels(np.random.default_rng(0), x.shape, ignored=0), reduction="sum").grad
    assert np.abs(grad.sum(axis=1, dtype=np.float64)).max() < 1e-6

"""cross_entropy_grad_hess against the reference, second differences, and the boosters' own formulas."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from tests.backends import raises
from tests.pairs import exhaustive_but
from tests.support import (
    LAYOUTS,
    assert_exact,
    both,
    by_least_places,
    filled,
    labels,
    logits,
    probabilities,
    row_counts,
    seeds,
    steepness,
)

WEIGHTS = {"class_weight": True, "sample_weight": True}
#: Sets of options, which have kernels of their own: (options, whether the target is probabilities).
SETS = {
    "plain": ({}, False),
    "all": ({**WEIGHTS, "label_smoothing": 0.1, "focal_gamma": 1.5, "temperature": 0.7, "min_hessian": 1e-3}, False),
    "upper": ({"hessian": "upper", "class_weight": True, "label_smoothing": 0.2, "temperature": 2.0}, False),
    "residual": ({"hessian": "residual", "sample_weight": True, "temperature": 2.0}, False),
    "soft": ({**WEIGHTS, "label_smoothing": 0.1, "hessian": "lightgbm"}, True),
    "soft residual": ({"hessian": "residual", "min_hessian": 1e-3}, True),
}


def compare(found, x, target, **options):
    """Both results with the reference's, within what the naive formulas lose and terms that cancel."""
    exact, naive = both(fs.cross_entropy_grad_hess, x, target, dtype=x.dtype, **options)
    weight = np.max(options.get("class_weight", 1.0)) * np.max(options.get("sample_weight", 1.0))
    if np.ndim(target) == x.ndim:
        weight = weight * np.abs(np.asarray(target, np.float64)).sum(-1, keepdims=True)
    size = weight * (1 + steepness(x, {}) / 4) / min(options.get("temperature", 1.0), 1.0) ** 2
    for got, right, rough in zip(found, exact, naive, strict=True):
        assert_exact(got, right, rough, size=size * 2)


@by_least_places
@given(seeds, row_counts, st.data())
def test_values(places, seed, rows, data):
    """Rows of every layout, dtype and length: results in the memory order of the logits, in their dtype."""
    dtype, classes, layout, _ = data.draw(places)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    t, before = labels(np.random.default_rng(seed), x.shape), x.copy()
    found = fs.cross_entropy_grad_hess(x, t)
    compare(found, x, t)
    np.testing.assert_array_equal(x, before)
    like = np.empty_like(x)
    for array in found:
        assert (array.dtype, array.strides) == (x.dtype.newbyteorder("="), like.strides)


@pytest.mark.parametrize(
    ("case", "classes"),
    exhaustive_but(
        [("all", 10), ("soft", 1000)],
        [(case, classes) for case in SETS for classes in (10, 1000)],
    ),
)
def test_options(case, classes):
    options, soft = SETS[case]
    random, x = np.random.default_rng(4), logits(4, (30, classes), np.dtype(np.float32))
    options = filled(options, random, x.shape)
    target = probabilities(random, x.shape, np.float32) if soft else labels(random, x.shape)
    found = fs.cross_entropy_grad_hess(x, target, **options)
    compare(found, x, target, **options)
    assert found.hess.min() >= options.get("min_hessian", 0.0)
    losses = {name: value for name, value in options.items() if "hessian" not in name}
    grad = fs.cross_entropy_and_grad(x, target, reduction="sum", **losses).grad
    np.testing.assert_allclose(found.grad, grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", exhaustive_but([3], [3, 40]))
@pytest.mark.parametrize("case", exhaustive_but(["all"], ["plain", "all", "soft"]))
@given(seed=seeds)
def test_the_diagonal_is_the_second_derivative(case, classes, seed):
    """Differences of the gradient of the loss, with every option that it has."""
    random, shape = np.random.default_rng(seed), (3, classes)
    options = filled(SETS[case][0], random, shape)
    options = {name: value for name, value in options.items() if "hessian" not in name}
    x, h = logits(seed, shape, np.float64, 1.0), 2.0**-17
    target = probabilities(random, shape, np.float64) if SETS[case][1] else labels(random, shape)
    numeric = np.empty(shape)
    for j in range(classes):
        step = h * (np.arange(classes) == j)
        high, low = (
            fs.cross_entropy_and_grad(y, target, reduction="sum", **options).grad for y in (x + step, x - step)
        )
        numeric[:, j] = (high - low)[:, j] / (2 * h)
    hess = fs.cross_entropy_grad_hess(x, target, **options).hess
    np.testing.assert_allclose(hess, np.maximum(numeric, 0.0), rtol=1e-6, atol=1e-8)


def test_boosters_formulas():
    """XGBoost's max(2 p (1-p) w, eps), LightGBM's K/(K-1) p (1-p) w, as their sources have them."""
    x, t = logits(1, (50, 7), np.float64), labels(np.random.default_rng(1), (50, 7), ignored=0)
    w = np.random.default_rng(1).uniform(0, 2, 50)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    for name, factor in (("upper", 2.0), ("lightgbm", 7 / 6)):
        found = fs.cross_entropy_grad_hess(x, t, sample_weight=w, hessian=name, min_hessian=1e-3)
        np.testing.assert_allclose(found.hess, np.maximum(factor * p * (1 - p) * w[:, None], 1e-3), rtol=1e-12)
        np.testing.assert_allclose(found.grad, (p - np.eye(7)[t]) * w[:, None], rtol=1e-12, atol=1e-15)
    found = fs.cross_entropy_grad_hess(x, t, hessian="residual")
    np.testing.assert_allclose(found.hess, np.abs(p - np.eye(7)[t]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", exhaustive_but([3, 1000], [3, 100, 1000]))
@pytest.mark.parametrize("right", [True, False])
def test_certain_rows_keep_their_digits(classes, right):
    """``1 - p`` of a certain class, be it the target or not: a few ulps and a quarter of one a unit of the gap."""
    gap = np.array([1.0, 10.0, 20.0, 40.0, 80.0])
    x = np.zeros((5, classes), np.float32)
    x[:, 1] = gap
    found = fs.cross_entropy_grad_hess(x, np.full(5, 1 if right else 0))
    e = np.exp(-gap)
    rest, eps = (classes - 1) * e, np.finfo(np.float32).eps
    p, but_p = 1 / (1 + rest), rest / (1 + rest)
    for got, exact in ((found.hess[:, 1], p * but_p), (found.grad[:, 1], -but_p if right else p)):
        assert (np.abs(got - exact) <= (4 + gap / 4) * eps * np.abs(exact)).all()
    other = e / (1 + rest)
    np.testing.assert_allclose(found.hess[:, 2], other * (1 - other), rtol=30 * eps)


@pytest.mark.parametrize(
    ("classes", "order"),
    exhaustive_but([(5, "F")], [(classes, order) for classes in (5, 100, 1000) for order in "CF"]),
)
def test_float32_from_float64(backend, classes, order):
    """What LightGBM asks for: the float64 results, rounded once; on a CPU in the logits' memory order."""
    x = np.asarray(logits(2, (40, classes), np.float64), order=order)
    t = labels(np.random.default_rng(2), x.shape)
    exact = backend.call(fs.cross_entropy_grad_hess, x, t)
    found = backend.call(fs.cross_entropy_grad_hess, x, t, dtype=np.float32)
    for got, right in zip(found, exact, strict=True):
        np.testing.assert_array_equal(got, right.astype(np.float32))
        assert got.dtype == np.float32
        assert backend.gpu or got.flags.f_contiguous == (order == "F")


@pytest.mark.parametrize("classes", [5, 300])
def test_out(backend, classes):
    """Given arrays of any strides; either may be the logits, and nothing read is disturbed."""
    x, t = logits(3, (30, classes), np.float32), labels(np.random.default_rng(3), (30, classes))
    call = partial(backend.call, fs.cross_entropy_grad_hess)
    expected = call(x, t)
    for first, second in (("C", "C"), ("Fortran", "C"), ("every second", "Fortran")):
        out = LAYOUTS[first](np.ones_like(x)), LAYOUTS[second](np.ones_like(x))
        found = call(x, t, out=out)
        assert found.grad is out[0]
        assert found.hess is out[1]
        for got, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-7)
    own, other = x.copy(), np.empty_like(x)
    call(own, t, out=(own, other))
    np.testing.assert_array_equal(own, expected.grad)
    np.testing.assert_array_equal(other, expected.hess)
    own = x.copy()
    call(own, t, out=(other, own))
    np.testing.assert_array_equal(other, expected.grad)
    np.testing.assert_array_equal(own, expected.hess)


def test_axes_ignored_rows_and_integers():
    x = logits(0, (4, 5, 6), np.float64)
    t = np.full((4, 6), -1)
    t[1] = 2
    found = fs.cross_entropy_grad_hess(x, t, axis=1, ignore_index=-1, min_hessian=0.25)
    expected = reference.cross_entropy_grad_hess(x, t, axis=1, ignore_index=-1, min_hessian=0.25)
    for got, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-15)
    assert (found.hess[0] == 0.25).all()
    assert (found.grad[0] == 0).all()
    assert fs.cross_entropy_grad_hess([[1, 2]], [0]).hess.dtype == np.float64
    assert fs.cross_entropy_grad_hess(np.zeros((0, 3)), np.zeros(0, int)).hess.shape == (0, 3)
    one = fs.cross_entropy_grad_hess(np.ones((2, 1)), [0, 0], hessian="lightgbm")
    assert (one.hess == 0).all()


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "hessian must be one of 'diagonal', 'upper', 'lightgbm', 'residual', got 'x'", {"hessian": "x"}),
        (ValueError, "pass hessian='diagonal'", {"hessian": "upper", "focal_gamma": 1.0}),
        (ValueError, "min_hessian must be a finite number >= 0, got -1", {"min_hessian": -1}),
        (TypeError, "dtype must be float32 or that of the logits, float64, got float16", {"dtype": np.float16}),
        (TypeError, "out must be a pair (grad, hess) of arrays", {"out": np.zeros((2, 3))}),
        (ValueError, "out[1] must have the shape of the result", {"out": (np.zeros((2, 3)), np.zeros(3))}),
        (TypeError, "out[0] must have dtype float32", {"out": (np.zeros((2, 3)),) * 2, "dtype": "float32"}),
        (ValueError, "in [0, 3) or ignore_index, got 3 at row 1", {"target": [0, 3]}),
        (ValueError, "sample_weight must have shape (2,)", {"sample_weight": [1.0]}),
    ],
)  # fmt: skip
def test_errors(error, text, options):
    options = {"target": [0, 1], **options}
    with pytest.raises(error) as caught:
        fs.cross_entropy_grad_hess(np.zeros((2, 3)), **options)
    assert text in str(caught.value)


def test_results_lie_apart():
    """Of the same memory one result would be the other; planes of one array share none."""
    x, t, out = np.zeros((3, 2)), [0, 1, 0], np.empty((3, 2, 2))
    raises(ValueError, "out must be two arrays that share no memory", fs.cross_entropy_grad_hess, x, t,
           out=(out[..., 0], out[:, ::-1, 0]))  # fmt: skip
    fs.cross_entropy_grad_hess(x, t, out=(out[..., 0], out[..., 1]))
    np.testing.assert_array_equal(out, np.stack(reference.cross_entropy_grad_hess(x, t), axis=-1))

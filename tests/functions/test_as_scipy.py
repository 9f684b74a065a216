"""logsumexp with factors and signs, numbers without axes, and sums of nothing: as SciPy has them."""

import re
from functools import partial

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.backends import raises
from tests.support import logits, seeds

MAPS = {fs.softmax: 1.0, fs.log_softmax: 0.0, fs.logsumexp: 3.0}


@given(seeds, st.sampled_from([None, 0, 1, -1, (0, 2), (1,)]), st.booleans(), st.booleans(), st.booleans())
def test_factors_and_signs(seed, axis, with_factors, keepdims, return_sign):
    """Factors of any sign and shape, some of them 0 beside infinities."""
    random = np.random.default_rng(seed)
    x = logits(seed, (3, 4, 5), np.float64)
    x[random.random(x.shape) < 0.1] = random.choice([np.inf, -np.inf])
    b = random.normal(size=(4, 1)) if with_factors else None
    if with_factors and random.random() < 0.5:
        b = np.where(np.isposinf(x), 0.0, random.normal(size=x.shape))
    options = {"b": b, "keepdims": keepdims, "return_sign": return_sign}
    with np.errstate(all="ignore"):
        expected = scipy.special.logsumexp(x, axis=axis, **options)
    found = fs.logsumexp(x, axis, **options)
    for got, right in zip(*((r if return_sign else (r,)) for r in (found, expected)), strict=True):
        assert np.shape(got) == np.shape(right)
        np.testing.assert_allclose(got, right, rtol=1e-12)


def test_dtypes_and_lists_with_factors():
    assert fs.logsumexp(np.zeros(2, np.float32), b=[1.0, 2.0]).dtype == np.float32
    half = fs.logsumexp(np.zeros((3, 2), np.float16), b=np.ones(2))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, np.float16(np.log(2)))
    assert fs.logsumexp([1, 2], b=[1, -1], return_sign=True)[1] == -1
    assert np.isnan(fs.logsumexp([1, 2], b=[1, -1]))
    alone = fs.logsumexp(np.zeros((2, 3)), (), b=-2.0, return_sign=True)
    np.testing.assert_allclose(alone[0], np.full((2, 3), np.log(2)), rtol=1e-15)
    np.testing.assert_array_equal(alone[1], -1.0)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"b": np.ones(3)}, ValueError, "b must broadcast to the shape of x, (4,), got (3,)"),
        ({"b": np.ones((2, 4))}, ValueError, "b must broadcast to the shape of x, (4,), got (2, 4)"),
        ({"b": ["a"] * 4}, TypeError, "b must have dtype"),
        ({"b": 1.0, "axis": 1}, ValueError, "axis must be in [-1, 1) for x with 1 dimensions, got 1"),
        ({"return_sign": np.ones(2)}, TypeError, "return_sign must be True or False"),
    ],
)
def test_errors(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        fs.logsumexp(np.zeros(4), **options)


def test_what_is_masked_is_not_looked_at(backend):
    """Neither logits nor their factors."""
    x, b = np.array([[0.0, 1.0, np.nan]]), np.array([[2.0, -1.0, np.inf]])
    value, sign = backend.call(fs.logsumexp, x, b=b, where=np.array([True, True, False]), return_sign=True)
    np.testing.assert_allclose(value, [np.log(np.e - 2)], rtol=1e-14)
    np.testing.assert_array_equal(sign, [-1.0])


@pytest.mark.parametrize("function", MAPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [-1, 0, None, ()])
def test_a_number_without_axes(backend, function, axis):
    found = backend.call(function, np.array(3.0), axis)
    assert np.shape(found) == ()
    assert found == MAPS[function]
    if not backend.gpu:
        assert function(3, axis=axis) == MAPS[function]
    with pytest.raises(ValueError, match="axis does not exist for x with 0 dimensions, got 1"):
        backend.call(function, np.array(3.0), 1)


def test_sums_of_nothing(backend):
    """-inf; a softmax over nothing is an error, as in SciPy."""
    of = partial(backend.call, fs.logsumexp)
    np.testing.assert_array_equal(of(np.zeros((3, 0), np.float32)), np.full(3, -np.inf, np.float32))
    np.testing.assert_array_equal(of(np.zeros((0, 3)), 0, keepdims=True), np.full((1, 3), -np.inf))
    assert of(np.zeros((0, 3)), None) == -np.inf
    np.testing.assert_array_equal(of(np.zeros((2, 0, 3)), (1, 2)), np.full(2, -np.inf))
    np.testing.assert_array_equal(of(np.zeros((2, 0)), where=np.ones((2, 1), bool)), np.full(2, -np.inf))
    assert of(np.zeros((0, 3))).shape == (0,)
    assert of(np.zeros((0, 0))).shape == (0,)
    for function in (fs.softmax, fs.log_softmax):
        raises(ValueError, "a softmax over nothing is not", function, np.zeros((3, 0)), backend=backend)
        raises(ValueError, "at least one element along the axes", function, np.zeros((3, 0)), None, backend=backend)


def test_compiled_sums_of_nothing(interpreted):
    x = interpreted.array(np.zeros((3, 0), np.float32))
    np.testing.assert_array_equal(interpreted.host(fs.logsumexp(x)), np.full(3, -np.inf, np.float32))


def test_signed_sums_of_nothing():
    assert fs.logsumexp([]) == -np.inf
    assert fs.logsumexp([], b=[]) == -np.inf
    value, sign = fs.logsumexp(np.zeros((3, 0), np.float32), 1, keepdims=True, return_sign=True)
    np.testing.assert_array_equal(value, np.full((3, 1), -np.inf, np.float32))
    np.testing.assert_array_equal(sign, np.zeros((3, 1)))

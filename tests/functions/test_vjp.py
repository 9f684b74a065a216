"""Vector-Jacobian products of softmax and log_softmax: against the reference, and against central differences."""

from itertools import product as product_

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.pairs import exhaustive_but, pairwise
from tests.support import (
    DTYPES,
    WIDE,
    assert_exact,
    by_least_places,
    check,
    class_counts,
    computed,
    floats,
    logits,
    row_counts,
    seeds,
)

PRODUCTS = [(fs.softmax, fs.softmax_vjp), (fs.log_softmax, fs.log_softmax_vjp)]
both_products = pytest.mark.parametrize(("function", "product"), PRODUCTS, ids=[p.__name__ for _, p in PRODUCTS])


def terms(product, y, g):
    """The largest magnitude that is added up in each row: what rounding errors are relative to."""
    y, g = y.astype(np.float64), np.abs(g.astype(np.float64))
    y = np.exp(y) if product is fs.log_softmax_vjp else y
    return (g + g.sum(axis=-1, keepdims=True) * y.max(axis=-1, keepdims=True)).max(axis=-1, keepdims=True)


@both_products
@by_least_places
@given(seeds, row_counts, st.data())
def test_values(backend, places, function, product, seed, rows, data):
    dtype, classes, layout, grad_layout = data.draw(places)
    y = backend.lay(layout, backend.call(function, logits(seed, (rows, classes), dtype)))
    g = backend.lay(grad_layout, logits(seed + 1, (rows, classes), dtype))
    result = backend.call(product, y, g)
    assert result.dtype == dtype.newbyteorder("=")
    check(product, y, g, actual=result, size=terms(product, y, g))


@both_products
@pytest.mark.parametrize("shape", [(6, 5), (3, 70)])
def test_central_differences(function, product, shape):
    """The derivative of a random linear functional of the function's output, in float64."""
    x, g = logits(0, shape, np.float64, 1.0), logits(1, shape, np.float64, 1.0)
    step = 1e-5
    expected = np.empty(shape)
    for j in range(shape[1]):
        there, back = x.copy(), x.copy()
        there[:, j] += step
        back[:, j] -= step
        expected[:, j] = ((function(there) - function(back)) * g).sum(axis=1) / (2 * step)
    np.testing.assert_allclose(product(function(x), g), expected, rtol=0, atol=1e-8 * np.abs(g).sum(axis=1).max())


@both_products
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_axis(backend, function, product, axis):
    x, g = logits(0, (4, 5, 60), np.float64), logits(1, (4, 5, 60), np.float64)
    y = backend.call(function, x, axis)
    check(product, y, g, actual=backend.call(product, y, g, axis), axis=axis, along=None, size=np.abs(g).max() * 5)


@both_products
@by_least_places
@given(seeds, row_counts, st.data())
def test_out(backend, places, function, product, seed, rows, data):
    """`out` may be a new array, `y` itself, or the upstream gradient itself."""
    dtype, classes, *_ = data.draw(places)
    y, g = backend.call(function, logits(seed, (rows, classes), dtype)), logits(seed + 1, (rows, classes), dtype)
    expected = backend.call(product, y, g)
    out = np.ones_like(y)
    assert backend.call(product, y, g, out=out) is out
    np.testing.assert_array_equal(out, expected)
    own = y.copy()
    np.testing.assert_array_equal(backend.call(product, own, g, out=own), expected)
    own = g.copy()
    np.testing.assert_array_equal(backend.call(product, y, own, out=own), expected)


@both_products
@given(seeds, row_counts, class_counts, floats)
def test_sums_to_zero(function, product, seed, rows, classes, dtype):
    """A common offset of the logits changes nothing, so the gradient is orthogonal to it: to the rounding of y."""
    y, g = function(logits(seed, (rows, classes), dtype)), logits(seed + 1, (rows, classes), dtype)
    size = np.abs(g).sum(axis=1) + 1
    assert (np.abs(product(y, g).sum(axis=1, dtype=np.float64)) <= 16 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", exhaustive_but(DTYPES[2:3], DTYPES), ids=str)
def test_mixed_dtypes(backend, dtype):
    """The result has the dtype of `y`, whatever that of the upstream gradient, which is read in the computing dtype."""
    x = logits(0, (9, 60), dtype)
    for other in backend.targets(dtype):
        g = logits(1, (9, 60), other)
        for function, product in PRODUCTS:
            y = backend.call(function, x)
            result = backend.call(product, y, g)
            assert result.dtype == dtype
            work = computed(dtype)
            wide = WIDE[dtype.itemsize]
            of = getattr(fs.reference, product.__name__)
            rounded = g.astype(work)
            assert_exact(
                result, of(y, rounded, dtype=wide), of(y, rounded, dtype=work), size=terms(product, y, rounded)
            )


HALVES = PRODUCTS, ("many classes", "few classes", "class-major"), (np.float32, np.float64), DTYPES[:2]
USUAL = [(*products, *rest) for products, *rest in pairwise(*HALVES, strength=1)]
EVERY = [(*products, *rest) for products, *rest in product_(*HALVES)]


@pytest.mark.parametrize(("function", "product", "size", "other", "dtype"), exhaustive_but(USUAL[:1], EVERY))
def test_upstream_gradients_of_half_outputs(function, product, size, other, dtype):
    """They are not rounded to the half type, in which these would be infinite, or equal to their neighbours."""
    shape = (9, 60) if size == "many classes" else (9, 3)
    y, spread = function(logits(0, shape, dtype)), logits(1, shape, other, 1.0)
    if size == "class-major":
        y = np.asfortranarray(y)
    offset = 1000 if function is fs.softmax else 0  # the other's result would be as large
    for g in (spread + offset, spread * 1e-9, spread * 1e5):
        g32 = g.astype(np.float32)
        exact = getattr(fs.reference, product.__name__)(y, g32)
        naive = getattr(fs.reference, product.__name__)(y, g32, dtype=np.float32)
        for _ in range(2):  # the second time as a prepared call
            result = product(y, g)
            assert result.dtype == dtype
            fits = np.abs(exact) < float(ml_dtypes.finfo(dtype).max) / 2
            assert_exact(np.where(fits, result, 0), np.where(fits, exact, 0), naive * fits, size=terms(product, y, g32))
        out = np.empty_like(y)
        np.testing.assert_array_equal(product(y, g, out=out), result)


def test_long_rows():
    """Sums over a quarter of a million terms do not lose digits."""
    n = 262144
    y, g = np.full((1, n), 1 / n, np.float32), np.ones((1, n), np.float32)
    g[0, 0] = 2.0
    np.testing.assert_allclose(fs.softmax_vjp(y, g)[0, 0], (1 - 1 / n) / n, rtol=1e-6)


@both_products
@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_no_rows(backend, function, product, shape):
    assert backend.call(product, np.empty(shape), np.empty(shape)).shape == shape


@pytest.mark.parametrize("classes", [3, 60])
def test_nan_poisons_its_row_only(classes):
    y, g = fs.softmax(logits(0, (9, classes), np.float32)), logits(1, (9, classes), np.float32)
    g[3, 1], y[5, 2] = np.nan, np.nan
    result = fs.softmax_vjp(y, g)
    np.testing.assert_array_equal(np.isnan(result).all(axis=1), np.isin(np.arange(9), [3, 5]))
    assert np.isfinite(result[[0, 1, 2, 4, 6, 7, 8]]).all()

"""logsumexp with factors and signs on a GPU: libraries, what broadcasts, axes, refusals; kernels are NumPy's."""

import numpy as np
import pytest
import scipy.special

import fastsoftmax as fs
from fastsoftmax import reference
from tests.backends import raises
from tests.cuda.host.support import DTYPES, drawn, near
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS, computed

SHAPES = [(3, 5, 7), (5, 7), (7,), (1, 5, 1), (3, 1, 7), (1, 1, 1), ()]
AXES = [-1, 0, 1, (1, 2), (0, 1, 2), None, ()]


def compare(host, found, x, axis=-1, dtype=np.float32, **options):
    """Both results of a call against the reference."""
    exact = reference.logsumexp(x, axis, **options, return_sign=True)
    for got, right in zip(found, exact, strict=True):
        assert host(got).shape == right.shape
        near(host(got), right, dtype)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    """Twice: prepared, and found again; factors in the dtype of the logits, and in the one that is computed in."""
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    for seed in range(2):
        x, where = drawn(4, 7, dtype=dtype, seed=seed), np.random.default_rng(seed).random((4, 7)) < 0.8
        b = drawn(4, 7, dtype=dtype, seed=seed + 9)
        wide, on, mask = x.astype(np.float64), library.array(x), library.array(where)
        for factors in (b, b[:1].astype(computed(dtype))):
            moved, given = library.array(factors), factors.astype(np.float64)
            found = fs.logsumexp(on, b=moved, return_sign=True)
            compare(library.host, found, wide, b=given, dtype=dtype)
            assert library.host(found[1]).dtype == dtype
            compare(library.host, fs.logsumexp(on, b=moved, return_sign=True, where=mask), wide, b=given,
                    where=where, dtype=dtype)  # fmt: skip
            near(library.host(fs.logsumexp(on, b=moved)), reference.logsumexp(wide, b=given), dtype)
        compare(library.host, fs.logsumexp(on, return_sign=True), wide, dtype=dtype)


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_factors_that_broadcast(driver, axis):
    x, rest = drawn(3, 5, 7), np.random.default_rng(1)
    for shape in SHAPES:
        b = rest.normal(size=shape).astype(np.float32)
        if axis in ((1, 2), None, (0, 1, 2)) and len({n == 1 for n in (1,) * (3 - len(shape)) + shape}) > 1:
            continue  # does not lie as x does
        for keepdims in (False, True):
            found = fs.logsumexp(driver.array(x), axis, b=driver.array(b), return_sign=True, keepdims=keepdims)
            wide = x[..., None] if axis == () else x
            factors = np.broadcast_to(b, x.shape)[..., None] if axis == () else b
            compare(driver.host, found, wide, -1 if axis == () else axis, b=factors,
                    keepdims=keepdims and axis != ())  # fmt: skip


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("unaligned", "byte-swapped")])
def test_layouts(driver, layout):
    """Of logits and of factors, each on its own; rows on three levels take several launches."""
    x, b = drawn(6, 9), drawn(6, 9, seed=5)
    lay = LAYOUTS[layout]
    for given in ((lay(x), b), (x, lay(b)), (lay(x), lay(b))):
        for axis in (0, 1):
            found = fs.logsumexp(driver.array(given[0]), axis, b=driver.array(given[1]), return_sign=True)
            compare(driver.host, found, x, axis, b=b)
    x, b = drawn(3, 4, 5, 7), drawn(3, 1, 5, 7, seed=5)
    compare(driver.host, fs.logsumexp(driver.array(x), b=driver.array(b), return_sign=True), x, b=b)


def test_sums_of_nothing(driver):
    for x, b in ((np.zeros((3, 0), np.float32), None), (np.zeros((3, 0), np.float32), np.zeros(0, np.float32))):
        value, sign = fs.logsumexp(driver.array(x), b=None if b is None else driver.array(b), return_sign=True)
        np.testing.assert_array_equal(driver.host(value), np.full(3, -np.inf))
        np.testing.assert_array_equal(driver.host(sign), np.zeros(3))
    assert driver.host(fs.logsumexp(driver.array(np.zeros((0, 3), np.float32)), return_sign=True)[0]).shape == (0,)


def test_compiled_sums(interpreted):
    """By the kernels themselves; with nothing to add up, too."""
    x, b = drawn(5, 300), drawn(5, 1, seed=3)
    found = fs.logsumexp(interpreted.array(x), b=interpreted.array(b), return_sign=True)
    exact = scipy.special.logsumexp(x.astype(np.float64), b=b, axis=-1, return_sign=True)
    for got, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(interpreted.host(got), right, rtol=1e-5)
    nothing = fs.logsumexp(interpreted.array(x[:, :0]), return_sign=True)
    np.testing.assert_array_equal([interpreted.host(of) for of in nothing], [[-np.inf] * 5, [0.0] * 5])


def test_errors(driver):
    x, b = driver.array(np.zeros((2, 4), np.float32)), np.ones(3, np.float32)
    of = fs.logsumexp
    raises(ValueError, "b must broadcast to the shape of x, (2, 4), got (3,)", of, x, b=driver.array(b))
    raises(TypeError, "b must lie on the GPU, as x is", of, x, b=2.0)
    raises(TypeError, "x must lie on the GPU, as b is", of, np.zeros(3), b=driver.array(b))
    raises(TypeError, "b must have dtype float32 on a GPU, got float64", of, x, b=driver.array(np.ones(4)))
    raises(ValueError, "axis must be in [-2, 2) for x with 2 dimensions, got 2", of, x, 2, return_sign=True)
    wide = driver.array(np.zeros((2, 3, 4), np.float32))
    text = "b must lie as x does along the axes (1, 2) on a GPU, where nothing is copied, got shape (4,) with strides"
    raises(ValueError, text, of, wide, (1, 2), b=driver.array(np.ones(4, np.float32)))

"""softmax, log_softmax and logsumexp against the reference in higher precision, SciPy, and what must hold exactly."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.pairs import exhaustive_but
from tests.support import (
    BFLOAT16,
    CLASSES,
    DTYPES,
    LAYOUTS,
    assert_exact,
    by_few_places,
    by_least_places,
    check,
    class_counts,
    floats,
    logits,
    row_counts,
    scales,
    seeds,
)

MAPS = [fs.softmax, fs.log_softmax]
FUNCTIONS = [*MAPS, fs.logsumexp]
functions = st.sampled_from(FUNCTIONS)


def by_name(function):
    return function.__name__


def along_rows(function):
    """The axis along which errors of a result are related."""
    return None if function is fs.logsumexp else -1


@by_few_places
@given(functions, seeds, row_counts, st.data(), scales)
def test_values(backend, places, function, seed, rows, data, scale):
    dtype, classes, layout, _ = data.draw(places)
    x = backend.lay(layout, logits(seed, (rows, classes), dtype, scale))
    before = x.copy()
    result = backend.call(function, x)
    check(function, x, actual=result, along=along_rows(function))
    assert result.dtype == dtype.newbyteorder("=")
    assert result.shape == (x.shape[:-1] if function is fs.logsumexp else x.shape)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
@pytest.mark.parametrize("dtype", exhaustive_but([np.float64], [np.float32, np.float64]))
@given(seeds, st.data())
def test_axes(function, dtype, seed, data):
    """Any axis or axes of arrays of one to four dimensions."""
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    axis = data.draw(
        st.none()
        | st.integers(-len(shape), len(shape) - 1)
        | st.permutations(range(len(shape))).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: tuple(p[:n])))
    )
    x = logits(seed, shape, dtype).transpose(data.draw(st.permutations(range(len(shape)))))
    check(function, x, actual=function(x, axis), along=None, axis=axis)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 1), (-1, 1), (0, 1), (1, 0), (2,), None])
def test_axes_as_scipy_has_them(backend, function, axis):
    if backend.gpu and axis == (0, 2):
        pytest.skip("no axes that can be merged")
    x, right = logits(0, (5, 6, 7), np.float64), getattr(scipy.special, function.__name__)
    for y in (x, x.transpose()) if function is fs.logsumexp else (x,):  # axes are merged in the order in which they lie
        np.testing.assert_allclose(backend.call(function, y, axis), right(y, axis), rtol=1e-13)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, (0, 2), (1, 2), (0, 1), (1,), None])
def test_logsumexp_keepdims(backend, axis, keepdims):
    if backend.gpu and axis == (0, 2):
        pytest.skip("no axes that can be merged")
    x = logits(0, (5, 6, 7), np.float64)
    expected = scipy.special.logsumexp(x, axis=axis, keepdims=keepdims)
    result = backend.call(fs.logsumexp, x, axis, keepdims=keepdims)
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("function", exhaustive_but([fs.softmax], MAPS), ids=by_name)
@by_least_places
@given(seeds, row_counts, st.data())
def test_out(backend, places, function, seed, rows, data):
    """`out` of any strides receives the same bits, is what is returned, and may be the input."""
    dtype, classes, layout, out_layout = data.draw(places)
    out_layout = out_layout if out_layout in {"C", "Fortran", "every second", "backwards"} else "C"
    x = backend.lay(layout, logits(seed, (rows, classes), dtype))
    expected = backend.call(function, x)
    out = LAYOUTS[out_layout](np.ones(x.shape, dtype))
    assert backend.call(function, x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    own = LAYOUTS[out_layout](x.astype(dtype))
    expected = backend.call(function, own)  # other strides of the input are another kernel, and may be other bits
    assert backend.call(function, own, out=own) is own
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("function", MAPS, ids=by_name)
def test_out_over_several_axes(backend, function):
    x = logits(0, (5, 6, 7), np.float64)
    for axis in [None, (1, 2), (0,), *[(0, 2)] * (not backend.gpu)]:
        expected = backend.call(function, x, axis)
        out = np.empty_like(x) if backend.gpu else np.empty((7, 6, 5)).transpose(2, 1, 0)
        assert backend.call(function, x, axis, out=out) is out
        np.testing.assert_array_equal(out, expected)
        own = x.copy()
        assert backend.call(function, own, axis, out=own) is own
        np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
@pytest.mark.parametrize("x", [[1, 2, 3], [[True, False]], (1.5, 2), np.arange(6, dtype=np.uint8).reshape(2, 3), [[0]]])
def test_lists_and_integers_are_float64(function, x):
    result = function(x)
    assert result.dtype == np.float64
    check(function, np.asarray(x, np.float64), actual=result, along=None)


@given(seeds, row_counts, class_counts, floats, st.integers(-(2**20), 2**20))
def test_shift_invariance(seed, rows, classes, dtype, shift):
    """A common offset that is exact in the dtype changes no bit."""
    x = np.random.default_rng(seed).integers(-20, 20, (rows, classes)).astype(dtype) / 8
    moved = x + dtype.type(shift)
    same = (moved - dtype.type(shift) == x).all(axis=1)  # where the offset leaves no room for eighths, nothing is asked
    for function in MAPS:
        np.testing.assert_array_equal(function(moved)[same], function(x)[same])


@given(seeds, row_counts, class_counts, floats)
def test_probabilities(seed, rows, classes, dtype):
    """They are in [0, 1] and sum to 1."""
    p = fs.softmax(logits(seed, (rows, classes), dtype, 20.0))
    assert p.min() >= 0
    assert p.max() <= 1
    ones = np.ones(rows)
    assert_exact(p.sum(axis=-1, dtype=np.longdouble).astype(dtype), ones, ones, ulps=8)


@given(seeds, row_counts, class_counts, floats)
def test_permutations(backend, seed, rows, classes, dtype):
    """Rows that change places keep their bits; classes that do keep their values."""
    random = np.random.default_rng(seed)
    x = logits(seed, (rows, classes), dtype)
    places, others = random.permutation(rows), random.permutation(classes)
    for function in MAPS:
        expected = backend.call(function, x)
        np.testing.assert_array_equal(backend.call(function, x[places]), expected[places])
        check(function, x[:, others], actual=expected[:, others])


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_nonfinite(function, classes):
    """NaN and infinities anywhere poison their own row as the reference says, and no other."""
    x = logits(0, (64, classes), np.float32)
    x[3, -1], x[5, 0], x[7, classes // 2] = np.nan, np.inf, -np.inf
    x[9] = -np.inf
    x[11, classes // 2 :] = -np.inf
    x[13, :1], x[13, -1:] = np.nan, np.inf
    check(function, x, actual=function(x), along=along_rows(function))
    if function is fs.softmax and classes > 1:
        assert (fs.softmax(x)[11, classes // 2 :] == 0).all()


@pytest.mark.parametrize("dtype", exhaustive_but(DTYPES[2:3], DTYPES), ids=str)
def test_equal_logits_of_long_rows(dtype):
    """A sum of a quarter of a million ones: each probability within 2 ulp."""
    n = 262144
    p = fs.softmax(np.full((2, n), 3.0, dtype))
    assert np.unique(p).size == 1
    difference = abs(float(p[0, 0]) - 1 / n)
    assert difference <= 2 * np.spacing(np.float64(1 / n) if dtype == np.float64 else np.float32(1 / n))
    lse = float(fs.logsumexp(np.zeros((1, n), dtype))[0])
    assert abs(lse - np.log(n)) <= (0.05 if dtype == BFLOAT16 else 0.01 if dtype == np.float16 else 2e-6)


def test_float16_to_its_largest():
    x = np.array([[65504.0, -65504.0, 65504.0], [6e-8, 0.0, -6e-8]], np.float16)
    check(fs.softmax, x, actual=fs.softmax(x))
    np.testing.assert_array_equal(fs.softmax(x)[0], np.array([0.5, 0, 0.5], np.float16))


@pytest.mark.parametrize("shape", [(0, 10), (0, 1000), (3, 0, 5), (0,) * 2 + (4,)])
def test_no_rows(backend, shape):
    x = np.empty(shape, np.float32)
    assert backend.call(fs.softmax, x).shape == shape
    assert backend.call(fs.log_softmax, x).shape == shape
    assert backend.call(fs.logsumexp, x).shape == shape[:-1]


def test_one_row_of_one_dimension():
    x = np.array([0.0, np.log(3.0)])
    np.testing.assert_allclose(fs.softmax(x), [0.25, 0.75], rtol=1e-15)
    result = fs.logsumexp(x)
    assert np.ndim(result) == 0
    assert abs(result - np.log(4)) < 1e-15


def test_repeated_calls_are_equal():
    x = logits(0, (3000, 300), np.float32)
    for function in FUNCTIONS:
        np.testing.assert_array_equal(function(x), function(x))

"""linear_row_stats: the statistics of logits that are never there all at once."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

import fastsoftmax as fs
from fastsoftmax.core.statistics import INDEX, NAMES, STATISTICS
from tests.backends import raises
from tests.pairs import exhaustive_but
from tests.support import labels

FORMATS = {"dense": np.asarray, "csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}


def problem(dtype, rows=200, features=30, classes=50):
    """Features, whole numbers so that logits are exact; weights, targets and bias."""
    random = np.random.default_rng(0)
    x, weight = (random.integers(-3, 4, shape).astype(dtype) for shape in ((rows, features), (classes, features)))
    return x, weight / 16, labels(random, (rows, classes)), random.integers(-3, 4, classes).astype(dtype)


def same(found, expected):
    for statistic in STATISTICS:
        got, right = getattr(found, statistic.name), getattr(expected, statistic.name)
        if statistic.name == "top_k":
            np.testing.assert_array_equal(got.indices, right.indices)
            got, right = got.log_proba, right.log_proba
        assert (got.dtype, got.shape) == (right.dtype, right.shape)
        if statistic.kind == INDEX:
            np.testing.assert_array_equal(got, right)
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", exhaustive_but(["float32"], ["float32", "float64"]))
def test_they_are_those_of_the_logits(dtype, form):
    """Whatever the features' format and the size of blocks."""
    x, weight, t, bias = problem(dtype)
    options = {"want": NAMES, "temperature": 0.7, "softcap": 20.0, "k": 4}
    expected = fs.row_stats(x @ weight.T + bias, t, **options)
    for block_rows in (None, 7):
        same(fs.linear_row_stats(FORMATS[form](x), weight, t, bias, block_rows=block_rows, **options), expected)
    only = fs.linear_row_stats(FORMATS[form](x), weight, want="entropy")
    assert only.log_prob is None
    np.testing.assert_allclose(only.entropy, fs.row_stats(x @ weight.T, want="entropy").entropy, rtol=1e-5)


def test_predictions_are_statistics():
    x, weight, _, bias = problem(np.float32)
    found = fs.linear_row_stats(x, weight, bias=bias, want=("argmax", "top_k"))
    np.testing.assert_array_equal(found.argmax, fs.linear_predict(x, weight, bias))
    top = fs.linear_top_k(x, weight, bias, k=5)
    np.testing.assert_array_equal(found.top_k.indices, top.indices)
    np.testing.assert_allclose(found.top_k.log_proba, top.log_proba, rtol=1e-5)


def test_memory_does_not_grow_with_the_rows():
    x, weight = np.ones((20000, 4), np.float32), np.ones((2000, 4), np.float32)
    fs.linear_row_stats(x[:10], weight, want="entropy")
    tracemalloc.start()
    fs.linear_row_stats(x, weight, want="entropy")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 36e6  # the logits would take 160 MB


def test_ignored_rows_and_no_rows():
    x, weight, _, _ = problem(np.float32)
    t = np.zeros(200, np.int64)
    x[3], t[3] = np.nan, -100
    found = fs.linear_row_stats(x, weight, t, want=("log_prob", "argmax"))
    assert (found.log_prob[3], found.argmax[3]) == (0, -1)
    assert np.isfinite(found.log_prob).all()
    empty = fs.linear_row_stats(x[:0], weight, t[:0], want=NAMES, k=2)
    assert empty.top_k.indices.shape == (0, 2)
    assert empty.entropy.shape == (0,)


def test_errors():
    x, weight, t, _ = problem(np.float32)
    raises(ValueError, "want must name", fs.linear_row_stats, x, weight, want="loss")
    raises(ValueError, "'rank' needs a target", fs.linear_row_stats, x, weight, want="rank")
    raises(ValueError, "k must be in [1, 50], got 51", fs.linear_row_stats, x, weight, want="top_k", k=51)
    raises(ValueError, "block_rows must be >= 1", fs.linear_row_stats, x, weight, want="entropy", block_rows=0)
    raises(ValueError, "or ignore_index, got 50 at row 0", fs.linear_row_stats, x, weight, t * 0 + 50, want="rank")
    raises(ValueError, "weight must have shape", fs.linear_row_stats, x, weight.T, want="entropy")

"""Random calls of the linear functions against the reference."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings

import fastsoftmax as fs
from tests.linear.random_problems import Menu, compare, drawn
from tests.support import seeds


@settings(max_examples=6)
@given(seeds)
def test_random_calls(seed):
    compare(drawn(seed, Menu()))


@pytest.mark.exhaustive
@settings(max_examples=100)
@given(seeds)
def test_many_random_calls(seed):
    compare(drawn(seed, Menu()))


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize(("classes", "dtype"), [(5, np.float32), (60, np.float64)])
def test_sparse_zeros_times_infinity(classes, dtype, form):
    """What is not stored takes no part; what is stored does, a zero as well; the reference is SciPy's product."""
    places = np.array([[0, 1, 1, 2], [0, 0, 1, 2]], np.int32)
    x = scipy.sparse.csr_array(([1.0, 2.0, 0.0, 3.0], tuple(places)), shape=(4, 3), dtype=dtype)
    x = x.asformat(form)
    assert x.nnz == 4
    weight = np.arange(classes * 3, dtype=dtype).reshape(classes, 3) / (3 * classes)
    weight[1, 1], weight[2, 1], weight[3, 2] = np.inf, np.nan, -np.inf
    z = x.astype(np.float64) @ weight.astype(np.float64).T
    assert np.isfinite(z[[0, 3]]).all()
    assert np.isnan(z[1, 1:3]).all()
    assert z[2, 3] == -np.inf
    with np.errstate(invalid="ignore"):
        expected = fs.reference.softmax(z)
    np.testing.assert_allclose(fs.linear_predict_proba(x, weight), expected, rtol=1e-5)
    np.testing.assert_array_equal(fs.linear_predict(x, weight), [classes - 1, 1, z[2].argmax(), 0])
    top = fs.linear_top_k(x, weight, k=2)
    np.testing.assert_array_equal(top.indices, [[classes - 1, classes - 2], [1, 2], np.argsort(-z[2])[:2], [0, 1]])
    loss, _, grad, _ = fs.linear_cross_entropy_and_grad(x, weight, [0, -100, 1, 0], reduction="none")
    right = fs.reference.cross_entropy(z, [0, -100, 1, 0], reduction="none")
    np.testing.assert_allclose(loss, right, rtol=1e-5)
    assert np.isfinite(grad).all()
    assert (grad[:, 1] == 0).all()  # a feature of the ignored row alone
    rows = np.array([1.0, 0.0, 1.0, 1.0])
    along = np.ones_like(weight)
    along[2, 1] = np.inf
    found, _ = fs.linear_hessian_product(x[[0, 2, 3]], weight, None, along, None, sample_weight=rows[[0, 2, 3]])
    assert np.isfinite(found).all()


@pytest.mark.parametrize("sorted_", [True, False])
def test_cached_flags_are_not_believed(sorted_):
    """A CSC matrix whose indices were changed after SciPy had looked whether they ascend."""
    x = scipy.sparse.random(40, 30, 0.3, "csc", random_state=0)
    weight = np.random.default_rng(0).standard_normal((60, 30))
    assert x.has_sorted_indices
    if not sorted_:
        for column in range(30):
            part = slice(x.indptr[column], x.indptr[column + 1])
            x.indices[part], x.data[part] = x.indices[part][::-1].copy(), x.data[part][::-1].copy()
    assert x.has_sorted_indices
    before = x.indices.copy(), x.data.copy()
    found = fs.linear_predict_proba(x, weight)
    np.testing.assert_allclose(found, fs.reference.softmax(x.toarray() @ weight.T), rtol=1e-12)
    x.has_sorted_indices = False  # however well they do
    np.testing.assert_array_equal(fs.linear_predict_proba(x, weight), found)
    for array, old in zip((x.indices, x.data), before, strict=True):
        np.testing.assert_array_equal(array, old)

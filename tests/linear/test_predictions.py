"""Classes, probabilities, and products with the Hessian of linear maps against the reference."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsoftmax import reference
from fastsoftmax.api import linear
from fastsoftmax.cpu.linear import plan
from tests.linear.support import computed_together, feature_counts, problem
from tests.support import BFLOAT16, LAYOUTS, assert_exact, both, row_counts, seeds

F16, F32, F64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
dtypes = st.sampled_from([F16, BFLOAT16, F32, F64])
few_and_many = st.sampled_from([1, 2, 5, 17, 60, 300])


@pytest.fixture(params=[plan.SHARED, 4000], ids=["one block", "blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(plan, "SHARED", request.param)


def steepness(x, weight, bias):
    """What rounding errors of the logits of each row are proportional to."""
    x, weight, bias = (np.abs(np.asarray(a).astype(np.float64)) for a in (x, weight, bias))
    return 1 + (x @ weight.T + bias).max(axis=1, keepdims=True)


def integers(seed, rows, classes):
    """Numbers whose products are exact, so that equal logits are equal however they are added up."""
    random = np.random.default_rng(seed)
    x, weight = random.integers(-2, 3, (rows, 4)), random.integers(-1, 2, (classes, 4))
    return x, weight, random.integers(-1, 2, classes), x @ weight.T


@given(seeds, row_counts, feature_counts, few_and_many, dtypes)
def test_predict(seed, rows, features, classes, dtype):
    x, weight, _, bias, _ = problem(seed, (rows, features, classes), dtype)
    found = linear.linear_predict(x, weight, bias)
    assert (found.dtype, found.shape) == (np.int64, (rows,))
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
    short = exact.max(axis=1) - np.take_along_axis(exact, found[:, None], 1)[:, 0]
    assert (short <= 4 * np.finfo(computed_together(x, weight)).eps * steepness(x, weight, bias)[:, 0]).all()


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [F16, BFLOAT16, F32, F64], ids=str)
@pytest.mark.parametrize("classes", [2, 5, 60, 700])
def test_first_of_equal_classes(classes, dtype):
    x, weight, bias, z = integers(1, 90, classes)
    assert (np.sort(z + bias)[:, -2:].std(axis=1) == 0).any()
    found = linear.linear_predict(x.astype(dtype), weight.astype(dtype), bias.astype(dtype))
    np.testing.assert_array_equal(found, (z + bias).argmax(axis=1))
    np.testing.assert_array_equal(linear.linear_predict(x, weight), z.argmax(axis=1))


@pytest.mark.parametrize("classes", [5, 60, 700])
def test_predictions_that_are_not_numbers(classes):
    """The first NaN is the largest, as in numpy.argmax."""
    x, weight, bias, _ = integers(2, 40, classes)
    x, weight, bias = x.astype(F32), weight.astype(F32), bias.astype(F32)
    x[3] = np.nan
    x[5, 2] = np.inf
    weight[classes // 2] = np.nan
    bias[classes - 1] = -np.inf
    with np.errstate(invalid="ignore"):
        z = x @ weight.T + bias
    np.testing.assert_array_equal(linear.linear_predict(x, weight, bias), z.argmax(axis=1))
    assert (linear.linear_predict(x, weight, bias) == classes // 2).sum() >= 38
    assert np.isnan(linear.linear_predict_proba(x, weight, bias)).all()
    for w, b in ((weight, bias), (weight[: classes // 2], bias[: classes // 2])):  # with a NaN in each row, and without
        b[-1] = np.inf
        top = linear.linear_top_k(x, w, b, k=len(b))
        with np.errstate(invalid="ignore"):
            expected = reference.linear_top_k(x, w, b, k=len(b))
        np.testing.assert_array_equal(top.indices, expected.indices)
        np.testing.assert_array_equal(top.indices[:, 0], linear.linear_predict(x, w, b))
        assert np.isnan(top.log_proba).all()
        few = linear.linear_top_k(x, w, b, k=2)
        np.testing.assert_array_equal(few.indices, expected.indices[:, :2])


@settings(max_examples=40)
@given(seeds, row_counts, feature_counts, few_and_many, dtypes, st.sampled_from([4000, plan.SHARED]))
def test_predict_proba(seed, rows, features, classes, dtype, budget):
    x, weight, _, bias, _ = problem(seed, (rows, features, classes), dtype, scale=3.0)
    with mock.patch.object(plan, "SHARED", budget):
        found = linear.linear_predict_proba(x, weight, bias)
    assert found.dtype == dtype
    exact, naive = both(linear.linear_predict_proba, x, weight, bias, dtype=dtype)
    assert_exact(found, exact, naive, size=steepness(x, weight, bias) * exact.max(axis=1, keepdims=True))


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [F16, F32], ids=str)
@pytest.mark.parametrize("layout", ["C", "Fortran", "every second", "backwards", "rows apart", "unaligned"])
def test_probabilities_go_where_they_are_told_to(layout, dtype):
    for classes in (5, 60):
        x, weight, _, bias, _ = problem(3, (90, 7, classes), dtype)
        expected = linear.linear_predict_proba(x, weight, bias)
        out = LAYOUTS[layout](np.ones((90, classes), dtype))
        assert linear.linear_predict_proba(x, weight, bias, out=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("name", ["x", "weight", "bias", "part of x"])
def test_probabilities_onto_an_operand(name):
    room = np.random.default_rng(4).standard_normal((61, 60)).astype(F32)
    operands = {"x": room[1:].copy(), "weight": room[1:].copy(), "bias": room[0].copy()}
    if name == "part of x":
        operands["x"], out = room[1:], room[:-1]
    elif name == "bias":
        operands["bias"], out = room[30], room[:-1]
    else:
        out = operands[name]
    expected = linear.linear_predict_proba(**{k: v.copy() for k, v in operands.items()})
    linear.linear_predict_proba(**operands, out=out)
    np.testing.assert_array_equal(out, expected)


@settings(max_examples=40)
@given(seeds, row_counts, few_and_many, dtypes, st.data())
def test_top_k(seed, rows, classes, dtype, data):
    """Classes in falling order, of equal ones the first; their log-probabilities."""
    k = data.draw(st.integers(1, classes))
    x, weight, bias, _ = integers(seed, rows, classes)
    x, weight, bias = x.astype(dtype), weight.astype(dtype), bias.astype(dtype)
    with mock.patch.object(plan, "SHARED", data.draw(st.sampled_from([4000, plan.SHARED]))):
        found = linear.linear_top_k(x, weight, bias, k=k)
    exact, naive = both(linear.linear_top_k, x, weight, bias, k=k, dtype=dtype)
    assert found.indices.dtype == np.int64
    np.testing.assert_array_equal(found.indices, exact.indices)
    assert found.log_proba.dtype == computed_together(x, weight)
    assert_exact(found.log_proba, exact.log_proba, naive.log_proba, size=steepness(x, weight, bias))


@settings(max_examples=40)
@given(seeds, row_counts, feature_counts, st.sampled_from([(5, F32), (17, F32), (60, F64)]), st.booleans())
def test_hessian_product(seed, rows, features, shape, weighted):
    classes, dtype = shape
    x, weight, _, bias, _ = problem(seed, (rows, features, classes), dtype)
    _, v, _, w, _ = problem(seed + 1, (rows, features, classes), dtype)
    options = {"sample_weight": np.random.default_rng(seed).uniform(0, 2, rows)} if weighted else {}
    scale = np.broadcast_to(options.get("sample_weight", 1.0), rows)[:, None]
    size = scale * steepness(x, weight, bias) * steepness(x, v, w)
    for reduction, shared in (("mean", scale.sum()), ("sum", 1.0)):
        found = linear.linear_hessian_product(x, weight, bias, v, w, reduction=reduction, **options)
        arguments = {"dtype": dtype, "reduction": reduction, **options}
        exact, naive = both(linear.linear_hessian_product, x, weight, bias, v, w, **arguments)
        assert found[0].dtype == found[1].dtype == dtype or found[1].dtype == F64
        assert_exact(found[0], exact[0], naive[0], size=(size * np.abs(x)).sum(axis=0) / shared)
        assert_exact(found[1].astype(dtype), exact[1], naive[1], size=size.sum() / shared)
        alone, nothing = linear.linear_hessian_product(x, weight, None, v, None, reduction=reduction, **options)
        assert nothing is None
        exact, naive = both(linear.linear_hessian_product, x, weight, None, v, None, **arguments)
        assert_exact(alone, exact[0], naive[0], size=(size * np.abs(x)).sum(axis=0) / shared)


@pytest.mark.parametrize("classes", [5, 60])
def test_hessian_product_of_mixed_dtypes(classes):
    """The widest of features, weights and their direction is computed in; biases are converted to that."""
    x, weight, _, bias, _ = problem(8, (50, 7, classes), F64)
    _, v, _, w, _ = problem(9, (50, 7, classes), F64)
    size = (steepness(x, weight, bias) * steepness(x, v, w) * (1 + np.abs(x))).max()
    operands = x, weight, bias, v, w
    for wide in (0, 1, 2, 3, 4, (2, 4), (0, 2, 4)):
        mixed = [a.astype(F64 if i in np.atleast_1d(wide) else F32) for i, a in enumerate(operands)]
        exact = reference.linear_hessian_product(*mixed, dtype=np.longdouble)
        found = linear.linear_hessian_product(*mixed)
        work = F64 if {0, 1, 3} & set(np.atleast_1d(wide).tolist()) else F32
        assert found.weight.dtype == work
        for got, right in zip(found, exact, strict=True):
            np.testing.assert_allclose(got.astype(F64), right.astype(F64), rtol=0, atol=8 * np.finfo(work).eps * size)


@pytest.mark.parametrize(("classes", "way"), [(60, "own"), (60, "shared"), (4000, "shared")])
def test_hessian_product_is_the_derivative_of_the_gradient(classes, way):
    """With soft targets that sum to 1 as well: they do not appear in it."""
    rows, features = (40, 5) if classes == 60 else (9, 3)
    x, weight, target, bias, options = problem(5, (rows, features, classes), F64, {"sample_weight": True}, ignored=0)
    _, v, _, w, _ = problem(6, (rows, features, classes), F64)
    soft = np.random.default_rng(7).dirichlet(np.ones(classes), rows)
    with mock.patch.object(plan, "OWN_WEIGHTS", plan.OWN_WEIGHTS if way == "own" else -1):
        product = linear.linear_hessian_product(x, weight, bias, v, w, reduction="sum", **options)
        for of in (target, soft):
            there, back = (
                linear.linear_cross_entropy_and_grad(x, weight + h * v, of, bias + h * w, reduction="sum", **options)
                for h in (1e-5, -1e-5)
            )
            for name, found in zip(("weight", "bias"), product, strict=True):
                expected = (getattr(there, f"grad_{name}") - getattr(back, f"grad_{name}")) / 2e-5
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=3e-8)


def test_no_rows(backend):
    x, weight, bias = np.zeros((0, 7), F32), np.ones((5, 7), F32), np.ones(5, F32)
    assert backend.call(linear.linear_predict, x, weight).shape == (0,)
    assert backend.call(linear.linear_predict_proba, x, weight).shape == (0, 5)
    assert [a.shape for a in backend.call(linear.linear_top_k, x, weight, k=2)] == [(0, 2), (0, 2)]
    for along in (None, bias):
        product = backend.call(linear.linear_hessian_product, x, weight, along, weight, along, reduction="sum")
        np.testing.assert_array_equal(product.weight, np.zeros((5, 7)))
        assert product.bias is None if along is None else not product.bias.any()


def test_no_features(backend):
    """Only the bias is left."""
    x, weight, bias = np.zeros((4, 0), F32), np.zeros((3, 0), F32), np.log(np.array([1, 4, 3], F32))
    np.testing.assert_array_equal(backend.call(linear.linear_predict, x, weight, bias), np.ones(4))
    np.testing.assert_array_equal(backend.call(linear.linear_predict, x, weight), np.zeros(4))
    proba = backend.call(linear.linear_predict_proba, x, weight, bias)
    np.testing.assert_allclose(proba, np.tile([1, 4, 3], (4, 1)) / 8, rtol=1e-6)
    top = backend.call(linear.linear_top_k, x, weight, bias, k=2)
    np.testing.assert_array_equal(top.indices, np.tile([1, 2], (4, 1)))

"""Where operands of linear passes lie: strides, alignment, dtypes, sparse formats, and memory that they share."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from fastsoftmax.api import linear
from tests.linear.support import ALL, assert_as_reference, problem, shared, ways
from tests.pairs import exhaustive_but
from tests.support import BFLOAT16, LAYOUTS, seeds

F16, F32, F64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
few_and_many = pytest.mark.parametrize(("classes", "dtype"), [(5, F32), (60, F64)])
MORE = {
    "stride 0": lambda x: np.broadcast_to(x[:1], x.shape),
    "columns of stride 0": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "transposed rows apart": lambda x: LAYOUTS["rows apart"](x.T.copy()).T,
    "overlapping rows": lambda x: np.lib.stride_tricks.sliding_window_view(x.ravel(), x.shape[1])[: len(x)],
}
layouts = pytest.mark.parametrize("layout", {**LAYOUTS, **MORE})


def placed(layout, array):
    return {**LAYOUTS, **MORE}[layout](array)


@few_and_many
@layouts
def test_layouts_of_features(layout, classes, dtype):
    x, weight, target, bias, options = problem(1, (70, 9, classes), dtype)
    for ignored in (False, True):
        labels = target if ignored else np.maximum(target, 0)
        for context in (ways, shared):
            with context():
                assert_as_reference(placed(layout, x), weight, labels, bias, options)
    x = placed(layout, x)
    before = x.copy()
    expected = linear.linear_predict_proba(before, weight, bias)
    np.testing.assert_allclose(linear.linear_predict_proba(x, weight, bias), expected, rtol=1e-5)
    np.testing.assert_array_equal(linear.linear_predict(x, weight, bias), expected.argmax(axis=1))
    product, _ = linear.linear_hessian_product(x, weight, None, weight, None)
    expected, _ = linear.linear_hessian_product(before, weight, None, weight, None)
    np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(x, before)


@few_and_many
@layouts
def test_layouts_of_weights(layout, classes, dtype):
    x, weight, target, bias, options = problem(2, (70, 9, classes), dtype)
    weight = placed(layout, weight)
    before = weight.copy()
    for context in (ways, shared):
        with context():
            result = assert_as_reference(x, weight, target, placed("every second", bias), options)
            assert result.grad_weight.dtype == dtype
    expected = linear.linear_predict_proba(x, before, bias)
    np.testing.assert_allclose(linear.linear_predict_proba(x, weight, bias), expected, rtol=1e-5)
    np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize("context", [ways, shared])
@pytest.mark.parametrize("layout", ["C", "Fortran", "backwards", "unaligned", "byte-swapped"])
def test_layouts_of_targets(layout, context):
    """And of everything else that goes with rows, in narrower and wider dtypes."""
    x, weight, target, bias, _ = problem(3, (70, 9, 60), F64, soft=True)
    with context():
        assert_as_reference(x, weight, LAYOUTS[layout](target), bias, {}, "mean")
        soft = LAYOUTS[layout](target.astype(F32))
        assert_as_reference(x, weight, soft, bias, {}, "sum")
        labels = np.arange(70) % 60
        for given_ in (LAYOUTS[layout](labels), labels.astype(np.uint8), labels.astype(">i4"), labels.tolist()):
            options = {"sample_weight": LAYOUTS[layout](np.linspace(0, 1, 70, dtype=F32))}
            assert_as_reference(x, weight, np.asarray(given_), bias, options, "none")
            result = linear.linear_cross_entropy(x, weight, given_, bias)
            assert result == linear.linear_cross_entropy(x, weight, labels, bias)


MIXED = [(F32, F64), (F64, F32), (F16, F32), (BFLOAT16, F32), (F32, F16), (F16, BFLOAT16), ("i4", F32), (F32, "i8")]
MIXED = [(*pair, classes) for classes in (5, 60) for pair in MIXED]


@pytest.mark.parametrize(("of_x", "of_weight", "classes"), exhaustive_but(MIXED[::3], MIXED), ids=str)
def test_mixed_dtypes(of_x, of_weight, classes):
    """The wider dtype computes; gradients are in the dtypes of what they belong to."""
    x, weight, target, bias, options = problem(4, (70, 9, classes), F64, scale=3.0)
    x, weight = (3 * x).astype(of_x), (3 * weight).astype(of_weight)
    result = assert_as_reference(x, weight, target, bias.astype(F32), options)
    assert result.grad_x.dtype == (F64 if of_x == "i4" else of_x)
    assert result.grad_weight.dtype == (F64 if of_weight == "i8" else of_weight)
    assert result.grad_bias.dtype == F32


def test_lists():
    result = linear.linear_cross_entropy_and_grad([[1, 2], [3, 4]], [[0, 1], [1, 0]], [0, 1], [0, 0], wrt=ALL)
    assert {np.asarray(r).dtype for r in result} == {F64}
    assert_as_reference(np.array([[1, 2], [3, 4]]), np.array([[0, 1], [1, 0]]), np.array([0, 1]), np.array([0, 0]), {})
    np.testing.assert_array_equal(linear.linear_predict([[1, 2], [3, 4]], [[0, 1], [1, 0]]), [0, 0])


@pytest.mark.parametrize("classes", [5, 60])
def test_memory_maps(classes, tmp_path):
    x, weight, target, bias, _ = problem(5, (70, 9, classes), F32)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", F32, "r", shape=x.shape)
    for context in (ways, shared):
        with context():
            result = linear.linear_cross_entropy_and_grad(mapped, weight, target, bias, wrt=ALL)
            expected = linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt=ALL)
            for got, right in zip(result, expected, strict=True):
                assert type(got) is type(right)
                np.testing.assert_array_equal(got, right)


# Where results go.


@few_and_many
@pytest.mark.parametrize(
    "layout", ["C", "Fortran", "every second", "backwards", "rows backwards", "rows apart", "unaligned"]
)
def test_out(layout, classes, dtype):
    x, weight, target, bias, _ = problem(6, (70, 9, classes), dtype)
    for labels in (target, np.maximum(target, 0)):
        for context in (ways, shared):
            with context():
                expected = linear.linear_cross_entropy_and_grad(x, weight, labels, bias, wrt=ALL)
                operands = {"x": x, "weight": weight, "bias": bias}
                out = {n: placed("C" if n == "bias" else layout, np.ones_like(a)) for n, a in operands.items()}
                result = linear.linear_cross_entropy_and_grad(x, weight, labels, bias, wrt=ALL, out=out)
                assert result.loss == expected.loss
                for name, right in zip(ALL, expected[1:], strict=True):
                    assert getattr(result, f"grad_{name}") is out[name]
                    np.testing.assert_array_equal(out[name], right)


@pytest.mark.parametrize("layout", ["every second", "rows apart"])
def test_nothing_is_written_between_the_rows(layout):
    x, weight, target, bias, _ = problem(7, (70, 9, 60), F32)
    for context in (ways, shared):
        out = placed(layout, np.zeros_like(x))
        room = out.base
        inside = np.zeros(room.shape, bool)
        first = inside[1:, 1:] if layout == "every second" else inside
        np.lib.stride_tricks.as_strided(first, out.shape, [s // 4 for s in out.strides])[...] = True
        before = room.copy()
        with context():
            linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt="x", out={"x": out})
        np.testing.assert_array_equal(room[~inside], before[~inside])


def test_rows_apart_by_no_whole_number():
    """Rows of 36 bytes, 37 bytes from each other."""
    x, weight, target, bias, _ = problem(8, (70, 9, 60), F32, ignored=0)
    for context in (ways, shared):
        room = np.full((70, 37), 0xAA, np.uint8)
        out = np.ndarray((70, 9), F32, room, 0, (37, 4))
        with context():
            expected = linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt="x").grad_x
            linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt="x", out={"x": out})
            np.testing.assert_array_equal(out, expected)
            assert (room[:, 36] == 0xAA).all()
            out[...] = x
            result = linear.linear_cross_entropy_and_grad(out, weight, target, bias, wrt="x")
            np.testing.assert_allclose(result.grad_x, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("context", [ways, shared])
@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_gradients_onto_operands(block, ignored, context):
    """As if they were elsewhere."""
    x, weight, target, bias, _ = problem(9, (60, 60, 60), F32, ignored=ignored)
    with context():
        expected = linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt=ALL, block_rows=block)
        for names in (("x",), ("weight",), ("bias",), ALL):
            operands = {"x": x.copy(), "weight": weight.copy(), "bias": bias.copy()}
            out = {name: operands[name] for name in names}
            result = linear.linear_cross_entropy_and_grad(**operands, target=target, wrt=ALL, out=out, block_rows=block)
            assert result.loss == expected.loss
            for got, right in zip(result[1:], expected[1:], strict=True):
                np.testing.assert_array_equal(got, right)
        for name, other in (("x", "weight"), ("weight", "x")):
            operands = {"x": x.copy(), "weight": weight.copy(), "bias": bias.copy()}
            out = {name: operands[other]}
            linear.linear_cross_entropy_and_grad(**operands, target=target, wrt=ALL, out=out, block_rows=block)
            np.testing.assert_array_equal(operands[other], getattr(expected, f"grad_{name}"))


@pytest.mark.parametrize("context", [ways, shared])
@pytest.mark.parametrize("operand", ["x", "x backwards", "bias", "target", "sample_weight", "soft"])
def test_feature_gradients_overlap_an_operand(operand, context):
    room = np.random.default_rng(10).standard_normal((121, 60))
    x, weight, target, bias, options = problem(11, (120, 60, 60), F64, {"sample_weight": True})
    out = room[:120]
    if operand == "x":
        x = room[1:]
    elif operand == "x backwards":
        x = room[119::-1]
    elif operand == "bias":
        bias = room[100]
    elif operand == "soft":
        target = np.abs(room[1:], out=room[1:])
    elif operand == "sample_weight":
        options = {"sample_weight": np.abs(room[:120, 0], out=room[:120, 0])}
    else:
        view = room[40:42].view(np.int64).ravel()
        view[:] = target
        target = view
    with context():
        arguments = [a.copy() for a in (x, weight, target, bias)]
        copied = {k: v.copy() for k, v in options.items()}
        expected = linear.linear_cross_entropy_and_grad(*arguments, wrt=ALL, block_rows=7, **copied)
        result = linear.linear_cross_entropy_and_grad(
            x, weight, target, bias, wrt=ALL, block_rows=7, out={"x": out}, **options
        )
    assert result.loss == expected.loss
    for got, right in zip(result[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(got, right)


# Sparse features.

formats = st.sampled_from(["csr", "csc"])


def sparse(seed, shape, dtype, format_, index=np.int32):
    """Random features with duplicates, unsorted indices, stored zeros, and empty rows and columns."""
    random = np.random.default_rng(seed)
    count = max(1, int(shape[0] * shape[1] * 0.3))
    row, column = random.integers(0, shape[0], count), random.integers(0, shape[1], count)
    values = random.standard_normal(count).astype(dtype)
    values[::5] = 0
    keep = (row % 7 != 3) & (column % 5 != 2)
    row, column, values = row[keep], column[keep], values[keep]
    major, minor = (row, column) if format_ == "csr" else (column, row)
    order = np.argsort(major, kind="stable")
    starts = np.searchsorted(major[order], np.arange(shape[0 if format_ == "csr" else 1] + 1))
    make = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}[format_]
    made = make(shape, dtype=dtype)
    made.data, made.indices, made.indptr = values[order], minor[order].astype(index), starts.astype(index)
    return made


@pytest.mark.parametrize(("classes", "dtype"), exhaustive_but([(5, F32), (60, F64)], [(5, F32), (60, F64), (20, F32)]))
@given(seeds, st.integers(1, 70), st.sampled_from([1, 3, 40, 130]), formats)
def test_sparse_features(classes, dtype, seed, rows, features, format_):
    _, weight, target, bias, _ = problem(seed, (rows, features, classes), dtype)
    options = {"sample_weight": np.random.default_rng(seed).uniform(0.1, 2, rows)}
    x = sparse(seed, (rows, features), dtype, format_)
    before = [a.copy() for a in (x.data, x.indices, x.indptr)]
    for reduction in ("mean", "none"):
        assert_as_reference(x, weight, target, bias, options, reduction, wrt=ALL[1:])
        assert_as_reference(x, weight, target, None, options, reduction, wrt=ALL[1:], block_rows=7)
    dense = x.toarray()
    expected = linear.linear_predict_proba(dense, weight, bias)
    found = linear.linear_predict_proba(x, weight, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(linear.linear_predict(x, weight, bias), found.argmax(axis=1))
    top = linear.linear_top_k(x, weight, bias, k=2)
    np.testing.assert_allclose(np.exp(top.log_proba), np.take_along_axis(expected, top.indices, 1), rtol=1e-4)
    product = linear.linear_hessian_product(x, weight, bias, weight, bias, **options)
    right = linear.linear_hessian_product(dense, weight, bias, weight, bias, **options)
    for got, want in zip(product, right, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for array, old in zip((x.data, x.indices, x.indptr), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("format_", ["csr", "csc"])
def test_kinds_of_sparse_features(format_):
    """Long indices, matrices and arrays, other dtypes of values and of weights, soft targets, none and empty rows."""
    _, weight, target, bias, options = problem(12, (70, 30, 20), F32)
    target[0] = 1  # the mean of nothing is NaN times what is stored, and 0 elsewhere
    x = sparse(12, (70, 30), F32, format_)
    old = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}[format_]
    wide = sparse(12, (70, 30), F32, format_, np.int64)
    assert wide.indices.dtype == np.int64
    for other in (old(x), wide, x.astype(F64), (3 * x).astype(np.int8), x * 0, 0 * x[:0]):
        labels = target[: other.shape[0]]
        assert_as_reference(other, weight, labels, bias, options, wrt=ALL[1:])
        assert_as_reference(other, weight.astype(F64), labels, bias, options, "sum", wrt=ALL[1:])
    for soft in (np.full((70, 20), 0.05, F32), np.full((70, 20), 0.05, ">f8")):
        assert_as_reference(x, weight, soft, bias, {}, wrt=ALL[1:])
    nothing = scipy.sparse.csr_array((70, 0), dtype=F32).asformat(format_)
    assert_as_reference(nothing, weight[:, :0], target, bias, options, wrt=ALL[1:])


@pytest.mark.parametrize("format_", ["csr", "csc"])
def test_ignored_rows_of_sparse_features(format_):
    _, weight, target, bias, options = problem(13, (70, 30, 20), F32, {"sample_weight": True})
    target[8:40] = -100
    x = sparse(13, (70, 30), F32, format_)
    places = x.tocoo()
    x.data[np.isin(places.row, np.flatnonzero(target == -100))] = np.nan
    for block in (None, 1, 7):
        result = assert_as_reference(x, weight, target, bias, options, "none", wrt=ALL[1:], block_rows=block)
        assert all(np.isfinite(r).all() for r in result if r is not None)

"""Losses and gradients of linear maps against the reference in higher precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsoftmax.api import linear
from fastsoftmax.cpu.linear import plan
from tests.linear.support import ALL, OWN, TILES, assert_as_reference, contexts, feature_counts, problem, shared, ways
from tests.pairs import exhaustive_but
from tests.support import BFLOAT16, INDEX_OPTIONS, SOFT_OPTIONS, examples, in_turn, names, row_counts, seeds

F16, F32, F64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
#: Every way with every precision at least once, but not every combination of them: each is compiled.
KINDS = {"own": st.tuples(OWN, st.just(F64)), "tiles": st.tuples(TILES, st.just(F32))}
shapes = st.one_of(KINDS.values())
more_shapes = st.one_of(
    st.tuples(TILES, st.sampled_from([F32, F64, F16])), st.tuples(OWN, st.sampled_from([F32, F64, BFLOAT16]))
)
scales = st.sampled_from([0.1, 1.0, 10.0])
reductions = st.sampled_from(["mean", "sum", "none"])


@in_turn(INDEX_OPTIONS, KINDS, both=[INDEX_OPTIONS[0], INDEX_OPTIONS[-1]])
@examples(15)
@given(seeds, row_counts, feature_counts, scales, reductions, st.data())
def test_class_indices(backend, options, kind, seed, rows, features, scale, reduction, data):
    classes, dtype = data.draw(KINDS[kind])
    *arguments, options = problem(seed, (rows, features, classes), dtype, options, scale=scale)
    assert_as_reference(*arguments, options, reduction, backend=backend)


@in_turn(SOFT_OPTIONS, KINDS, both=[SOFT_OPTIONS[0], SOFT_OPTIONS[-1]])
@examples(15)
@given(seeds, row_counts, feature_counts, scales, reductions, st.data())
def test_probabilities(backend, options, kind, seed, rows, features, scale, reduction, data):
    classes, dtype = data.draw(KINDS[kind])
    *arguments, options = problem(seed, (rows, features, classes), dtype, options, soft=True, scale=scale)
    assert_as_reference(*arguments, options, reduction, backend=backend)


@pytest.mark.exhaustive
@given(seeds, st.integers(1, 700), feature_counts, more_shapes, reductions)
def test_dtypes(seed, rows, features, shape, reduction):
    """Half types are computed in float32, and results are in the dtypes of what they belong to."""
    classes, dtype = shape
    *arguments, options = problem(seed, (rows, features, classes), dtype)
    result = assert_as_reference(*arguments, options, reduction)
    assert {g.dtype for g in result[1:]} == {dtype}
    alone = linear.linear_cross_entropy(*arguments, reduction=reduction, **options)
    np.testing.assert_allclose(alone, result.loss, rtol=4 * np.finfo(alone.dtype).eps)


@pytest.mark.parametrize("options", [INDEX_OPTIONS[0], INDEX_OPTIONS[-1]], ids=names)
@given(seeds, row_counts, feature_counts, st.sampled_from([60, 100]), reductions)
def test_shared_blocks(options, seed, rows, features, classes, reduction):
    """As where weights are too many for a gradient a thread."""
    *arguments, options = problem(seed, (rows, features, classes), F32, options)
    with shared(), ways() as taken:
        assert_as_reference(*arguments, options, reduction)
    assert [way for way, _ in taken] == ["shared"]


@pytest.mark.parametrize(
    ("shape", "dtype", "way"),
    [
        ((700, 33, 5), F32, "tiles"),
        ((700, 33, 47), F32, "tiles"),
        ((700, 33, 49), F64, "own"),
        ((700, 33, 1000), F32, "own"),
        ((40, 1100, 1000), F32, "shared"),
        ((40, 3, 4100), F32, "shared"),
        ((40, 3, 2100), F64, "shared"),
    ],
)
def test_ways(shape, dtype, way):
    """Shapes take the way that tests think they take, and what it computes is right."""
    *arguments, options = problem(3, shape, dtype)
    with ways() as taken:
        assert_as_reference(*arguments, options)
    assert [name for name, _ in taken] == [way]
    rows, features, classes = shape
    about = {"gradient": True, "staged": True, "own": True, "block": None}
    assert taken[0][1] == plan.linear_plan(rows, features, classes, dtype.itemsize, **about)


@pytest.mark.parametrize(("shape", "way"), [((200, 9, 5), "tiles"), ((200, 9, 60), "own"), ((23, 9, 60), "shared")])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
def test_blocks(shape, way, soft):
    """Whatever the number of rows in a block; some blocks have no row that counts."""
    x, weight, target, bias, options = problem(4, shape, F32, {"sample_weight": True}, soft=soft)
    if not soft:
        target[2:13] = -100
    for block in (1, 2, 3, 7, shape[0], shape[0] + 1):
        for reduction in ("mean", "none"):
            with ways() as taken:
                if way == "shared":
                    with shared():
                        assert_as_reference(x, weight, target, bias, options, reduction, block_rows=block)
                else:
                    assert_as_reference(x, weight, target, bias, options, reduction, block_rows=block)
            assert [name for name, _ in taken] == [way]
            assert taken[0][1].block == min(block, shape[0])


@given(seeds, row_counts, shapes, st.booleans(), st.booleans())
def test_upstream_gradient(backend, seed, rows, shape, soft, weighted):
    """A number a row, some of them zero or negative; and one number for all."""
    classes, dtype = shape
    options = {"sample_weight": True} if weighted else {}
    *arguments, options = problem(seed, (rows, 7, classes), dtype, options, soft=soft)
    random = np.random.default_rng(seed)
    up = random.integers(-2, 3, rows) * random.uniform(0.5, 2, rows)
    if not (weighted and backend.gpu):  # which multiplies no factors of rows beforehand
        assert_as_reference(*arguments, options, "none", grad_output=up, backend=backend)
    for reduction in ("mean", "sum", "none"):
        assert_as_reference(*arguments, options, reduction, grad_output=-2.5, backend=backend)


@pytest.mark.parametrize("classes", [5, 60])
def test_infinite_upstream_gradient_of_ignored_rows(classes):
    x, weight, target, bias, options = problem(5, (50, 7, classes), F32)
    up = np.where(target == -100, np.inf, 1.5)
    for context in (shared, ways):
        with context():
            result = linear.linear_cross_entropy_and_grad(
                x, weight, target, bias, reduction="none", grad_output=up, wrt=ALL
            )
            assert all(np.isfinite(r).all() for r in result)
            assert_as_reference(x, weight, target, bias, options, "none", grad_output=1.5)


@pytest.mark.parametrize("shape", [(300, 7, 5), (300, 7, 60)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ignored_rows(shape, bad):
    """What stands in their features reaches nothing; theirs are losses and gradients of zero."""
    x, weight, target, bias, options = problem(6, shape, F32)
    target[128:256] = -100  # blocks without any row that counts
    ignored = target == -100
    clean = linear.linear_cross_entropy_and_grad(x, weight, target, bias, reduction="none", wrt=ALL)
    x[ignored] = bad
    for context in (ways, shared):
        with context():
            result = assert_as_reference(x, weight, target, bias, options, "none")
            assert_as_reference(x, weight, target, bias, options, "mean")
            assert (result.loss[ignored] == 0).all()
            assert (result.grad_x[ignored] == 0).all()
        if context is ways:
            for got, expected in zip(result, clean, strict=True):
                np.testing.assert_array_equal(got, expected)
    target = np.where(ignored, 2, target)
    assert_as_reference(x, weight, np.where(target == 2, -1, target), bias, {"ignore_index": -1}, "sum")
    for value in linear.linear_cross_entropy_and_grad(x, weight, target, bias)[2:]:
        if value is not None:
            assert np.isnan(value).any()


@pytest.mark.parametrize("classes", [5, 60])
def test_every_row_is_ignored(classes):
    x, weight, _, bias, _ = problem(7, (30, 7, classes), F32)
    x[:] = np.nan
    for context in (ways, shared):
        with context():
            for reduction, loss in (("mean", np.nan), ("sum", 0.0), ("none", np.zeros(30))):
                result = linear.linear_cross_entropy_and_grad(
                    x, weight, np.full(30, -100), bias, reduction=reduction, wrt=ALL
                )
                np.testing.assert_array_equal(result.loss, loss)
                assert not any(g.any() for g in result[1:])


@pytest.mark.parametrize("classes", [5, 60])
@pytest.mark.parametrize(
    "wrt", [(), "x", "weight", "bias", ("x", "bias"), ("bias", "weight"), ["x", "weight"], ALL], ids=str
)
def test_frozen_inputs(backend, classes, wrt):
    """Gradients of what is named, the same as among others; arguments that are read-only, and stay as they are."""
    x, weight, target, bias, options = problem(8, (90, 7, classes), F32)
    for array in (x, weight, target, bias):
        array.setflags(write=False)
    before = [array.copy() for array in (x, weight, target, bias)]
    rows = backend.block_rows
    for context in contexts(backend):
        with context():
            whole = backend.call(
                linear.linear_cross_entropy_and_grad, x, weight, target, bias, wrt=ALL, block_rows=rows
            )
            chosen = (wrt,) if isinstance(wrt, str) else tuple(wrt)
            result = assert_as_reference(x, weight, target, bias, options, wrt=chosen, backend=backend)
            same = backend.call(linear.linear_cross_entropy_and_grad, x, weight, target, bias, wrt=wrt, block_rows=rows)
            for name, got, again, expected in zip(ALL, result[1:], same[1:], whole[1:], strict=True):
                assert (got is None) == (again is None) == (name not in chosen)
                if got is not None:
                    np.testing.assert_array_equal(again, got)
                    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
            without = backend.call(linear.linear_cross_entropy_and_grad, x, weight, target, wrt=wrt, block_rows=rows)
            assert without.grad_bias is None
    for array, old in zip((x, weight, target, bias), before, strict=True):
        np.testing.assert_array_equal(array, old)


EDGES = [((0, 7, 5), F32), ((40, 0, 5), F32), ((0, 0, 5), F32), ((40, 7, 1), F32)]
MORE_EDGES = [((1, 1, 1), F32), ((0, 7, 60), F64), ((40, 0, 60), F64), ((1, 1, 60), F64)]


@pytest.mark.parametrize(("shape", "dtype"), exhaustive_but(EDGES, EDGES + MORE_EDGES), ids=str)
def test_edges(backend, shape, dtype):
    """No rows, no features, one class: sums over nothing are zero, and the mean over nothing is NaN."""
    for soft in (False, True):
        *arguments, options = problem(9, shape, dtype, soft=soft)
        for context in contexts(backend):
            for reduction in ("mean", "sum", "none"):
                with context():
                    result = assert_as_reference(*arguments, options, reduction, backend=backend)
            assert result.loss.shape == shape[:1]
            assert [g.shape for g in result[1:]] == [shape[:2], (shape[2], shape[1]), shape[2:]]


def test_without_bias(backend):
    for shape in ((90, 7, 5), (90, 7, 60)):
        x, weight, target, bias, options = problem(10, shape, F32)
        for context in contexts(backend):
            with context():
                assert_as_reference(x, weight, target, None, options, backend=backend)
                zeros = backend.call(linear.linear_cross_entropy_and_grad, x, weight, target, 0 * bias)
                plain = backend.call(linear.linear_cross_entropy_and_grad, x, weight, target)
                np.testing.assert_allclose(plain.loss, zeros.loss, rtol=1e-6)
                np.testing.assert_allclose(plain.grad_weight, zeros.grad_weight, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("classes", "dtype"), [(5, F16), (60, BFLOAT16)])
def test_half_inputs_are_accumulated_in_float32(classes, dtype):
    """A sum of thousands of small terms on a large one: in half precision they would all be lost."""
    rows = 6000
    x, weight = np.full((rows, 3), 1, dtype), np.zeros((classes, 3), dtype)
    target, up = np.zeros(rows, int), np.full(rows, 2.0**-4)
    up[0] = 256  # from here on 256 + 2**-4 is 256 in float16
    for context in (ways, shared):
        with context():
            result = linear.linear_cross_entropy_and_grad(
                x, weight, target, np.zeros(classes, dtype), reduction="none", grad_output=up
            )
        expected = up.sum() * (np.ones(classes) / classes - np.eye(classes)[0])
        eps = 2.0**-11 if dtype == F16 else 2.0**-8
        np.testing.assert_allclose(result.grad_weight.astype(np.float64), np.outer(expected, np.ones(3)), rtol=eps)
        np.testing.assert_allclose(result.grad_bias.astype(np.float64), expected, rtol=eps)

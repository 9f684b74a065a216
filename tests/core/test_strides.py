"""Strides that mean nothing, of axes of length 1 and of arrays without elements, and strides beyond 32 bits."""

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
import scipy.sparse

import fastsoftmax as fs
from fastsoftmax.core.strides import extent
from tests.linear.support import ALL, assert_as_reference, problem, shared
from tests.pairs import exhaustive_but

#: NumPy lets them be anything: as in v[None], in one row of a reversed array, cut out of a wide one, of packed records.
STEPS = pytest.mark.parametrize("step", [0, -8, 3, 1 << 33, -(1 << 45) + 1])
ways = pytest.mark.parametrize("context", [nullcontext, shared], ids=["own", "shared"])
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def with_step(array, step):
    """The same elements, with another stride along axes where none is taken."""
    strides = [step if n == 1 or array.size == 0 else s for n, s in zip(array.shape, array.strides, strict=True)]
    return np.lib.stride_tricks.as_strided(array, strides=strides)


def equal(found, expected):
    """Every array of a result, or of a tuple of them, is the expected one to the last bit."""
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for got, right in pairs:
        assert (got is None) == (right is None)
        if got is not None:
            assert np.shape(got) == np.shape(right)
            np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("index", [np.s_[:], np.s_[::-1], np.s_[1:, ::-2], np.s_[::-2, 1:4], np.s_[:, :0], np.s_[2:3]])
def test_extents(index):
    view = np.zeros((5, 6), np.float32)[index]
    low, high = extent(view.shape, view.strides, view.itemsize)
    if view.size:
        at = view.ctypes.data
        assert (at + low, at + high) == np.lib.array_utils.byte_bounds(view)


def one_by_one(function, arrays, step, out=(), **options):
    """Compare calls in which each array, then all, have another stride, and where results go as well."""
    expected = function(**arrays, **options)
    for name in arrays:
        equal(function(**{**arrays, name: with_step(arrays[name], step)}, **options), expected)
    every = {name: with_step(array, step) for name, array in arrays.items()}
    equal(function(**every, **options), expected)
    for room in out:
        fresh = room(np.full_like, step)
        equal(function(**every, out=fresh, **options), expected)
        for got, right in zip(*_written(fresh, expected), strict=True):
            np.testing.assert_array_equal(got, right)


def _written(out, expected):
    """What was written to outputs, and what should be there."""
    if isinstance(out, dict):
        return list(out.values()), [getattr(expected, f"grad_{name}") for name in out]
    return [out], [expected.grad if isinstance(expected, tuple) else expected]


@STEPS
@pytest.mark.parametrize("shape", [(1, 5), (1, 60), (4, 1), (1, 1), (1, 3, 10), (3, 1, 10), (0, 5), (1, 300)])
def test_functions_of_logits(shape, step):
    random = np.random.default_rng(1)
    x, grad = (random.standard_normal(shape).astype(F32) for _ in range(2))
    target = random.integers(0, shape[-1], shape[:-1])
    soft = random.uniform(0, 1, shape).astype(F32)

    def room(fill, step):
        return with_step(fill(x, 7), step)

    for function in (fs.softmax, fs.log_softmax):
        one_by_one(function, {"x": x}, step, [room])
        if x.size:
            one_by_one(function, {"x": x}, step, [room], axis=None)
            one_by_one(function, {"x": x}, step, [room], axis=0)
    one_by_one(fs.logsumexp, {"x": x}, step)
    for function in (fs.softmax_vjp, fs.log_softmax_vjp):
        one_by_one(function, {"y": fs.softmax(x), "grad": grad}, step, [room])
    for labels in (target, soft):
        arrays = {"logits": x, "target": labels, "sample_weight": np.ones(shape[:-1])}
        arrays |= {"class_weight": np.ones(shape[-1])}
        one_by_one(fs.cross_entropy, arrays, step)
        arrays |= {"grad_output": np.full(shape[:-1], 2.0)}
        one_by_one(fs.cross_entropy_and_grad, arrays, step, [room], reduction="none")


#: Of few classes in float32, whose kernels are those of functions of logits; and of many, and in float64.
SIZES = [(1, 20, 5), (5, 1, 5), (0, 20, 5), (3, 0, 5)]
OTHERS = [(40, 20, 1), (1, 1, 60), (1, 1, 1), (1, 20, 60), (5, 1, 60), (0, 20, 60), (3, 0, 60)]
LINEAR = [(*size, F32) for size in SIZES]


@ways
@STEPS
@pytest.mark.parametrize(
    ("rows", "features", "classes", "dtype"),
    exhaustive_but(LINEAR, [(*size, dtype) for size, dtype in product(SIZES + OTHERS, [F32, F64])]),
    ids=str,
)
def test_linear_functions(rows, features, classes, dtype, step, context):
    x, weight, target, bias, _ = problem(1, (rows, features, classes), dtype, ignored=0)
    soft = np.random.default_rng(1).uniform(0, 1, (rows, classes)).astype(dtype)
    ones, operands = np.ones(rows), {"x": x, "weight": weight, "bias": bias}

    def gradients(fill, step):
        return {name: with_step(fill(array, 7), step) for name, array in operands.items()}

    def probabilities(fill, step):
        return with_step(fill(soft, 7), step)

    with context():
        for labels in (target, soft):
            arrays = {**operands, "target": labels, "sample_weight": ones, "class_weight": np.ones(classes)}
            one_by_one(fs.linear_cross_entropy, arrays, step, reduction="sum")
            arrays["grad_output"] = 2 * ones
            options = {"reduction": "none", "wrt": ALL}
            one_by_one(fs.linear_cross_entropy_and_grad, arrays, step, [gradients], **options)
        directions = {"weight_direction": weight[::-1].copy(), "bias_direction": bias[::-1].copy()}
        one_by_one(fs.linear_hessian_product, {**operands, **directions, "sample_weight": ones}, step, reduction="sum")
        one_by_one(fs.linear_predict, operands, step)
        one_by_one(fs.linear_predict_proba, operands, step, [probabilities])
        one_by_one(fs.linear_top_k, operands, step, k=1)


@pytest.mark.parametrize("shape", exhaustive_but([((1, 20, 60),)], [((1, 20, 60),), ((1, 20, 5),)]))
def test_rows_by_indexing(shape):
    """Against the reference: a vector with an axis before it, and one row of arrays that are read backwards."""
    x, weight, target, bias, options = problem(2, (3, *shape[1:]), F64, ignored=0)
    for row in (x[1][None], x[1:2][::-1], x[::-1][1:2], np.broadcast_to(x[1], (1, shape[1])), x.T[:, 1:2].T):
        np.testing.assert_array_equal(row, x[1:2])
        for context in (nullcontext, shared):
            with context():
                assert_as_reference(row, weight, target[1:2], bias, options)
        buffer = np.empty(shape[2])
        assert fs.linear_predict_proba(row, weight, bias, out=buffer[None]).base is buffer
        np.testing.assert_allclose(buffer, fs.reference.linear_predict_proba(row, weight, bias)[0], rtol=1e-12)


@STEPS
def test_sparse_features(step):
    """One row, one value, one column: their arrays have one element."""
    x = scipy.sparse.csr_array((np.ones(1, F32), np.zeros(1, np.int32), np.array([0, 1], np.int32)), shape=(1, 1))
    weight, bias = np.ones((5, 1), F32), np.arange(5, dtype=F32)
    for made in (x, x.tocsc()):
        expected = fs.linear_cross_entropy_and_grad(made, weight, [3], bias)
        made.data, made.indices = with_step(made.data, step), with_step(made.indices, step)
        equal(fs.linear_cross_entropy_and_grad(made, with_step(weight, step), [3], bias), expected)


@pytest.fixture
def far(tmp_path):
    """A function that makes an array whose lines are more than 2**32 elements apart: a file with nothing in between."""

    def made(like, name, *, flipped=False):
        like = like.T if flipped else like
        line = (1 << 32) + 2 * like.shape[1]  # 32 bits of it are a leading dimension that BLAS would take
        room = np.memmap(tmp_path / name, like.dtype, "w+", shape=(len(like), line))
        array = np.asarray(room)[:, : like.shape[1]]
        array[...] = like
        return array.T if flipped else array

    return made


@ways
@pytest.mark.parametrize(("classes", "flipped"), exhaustive_but([(5, False)], list(product([5, 60], [False, True]))))
def test_lines_farther_apart_than_32_bits_say(far, classes, flipped, context):
    x, weight, target, bias, _ = problem(3, (3, 4, classes), F64 if classes == 60 else F32, ignored=0)
    arguments = {"target": target, "bias": bias, "wrt": ALL}
    a, w, to = far(x, "x", flipped=flipped), far(weight[:3], "w", flipped=flipped), far(x, "out", flipped=flipped)
    target %= 3
    with context():
        equal(
            fs.linear_cross_entropy_and_grad(a, weight, **arguments),
            fs.linear_cross_entropy_and_grad(x, weight, **arguments),
        )
        arguments["bias"] = bias[:3]
        expected = fs.linear_cross_entropy_and_grad(x, weight[:3], **arguments)
        equal(fs.linear_cross_entropy_and_grad(x, w, out={"x": to}, **arguments), expected)
        np.testing.assert_array_equal(to, expected.grad_x)
        equal(fs.linear_predict_proba(a, w), fs.linear_predict_proba(x, weight[:3]))
        proba = far(np.zeros((3, classes), x.dtype), "proba", flipped=flipped)
        equal(fs.linear_predict_proba(a, weight, out=proba), fs.linear_predict_proba(x, weight))
        equal(fs.linear_hessian_product(a, w, None, w, None), fs.linear_hessian_product(x, weight[:3], None, w, None))


def test_more_features_or_classes_than_blas_counts():
    few, many = (1, 1), 1 << 31
    wide = np.broadcast_to(np.float32(1), (1, many))
    for x, weight in ((wide, wide), (np.ones(few, F32), wide.T)):
        for function in (fs.linear_predict, fs.linear_predict_proba):
            with pytest.raises(ValueError, match=r"at most 2147483647 features, and as many logits a row.* 32 bits"):
                function(x, weight)
    half = np.broadcast_to(np.float32(1), (1 << 30, 1))
    with pytest.raises(ValueError, match=r"and 2147483648 logits a row"):
        fs.linear_hessian_product(np.ones(few, F32), half, None, half, None)

"""Bad input of linear passes: what was expected, what came, where, and no argument is changed."""

import re

import numpy as np
import pytest
import scipy.sparse

from fastsoftmax.api import linear

X, W, T, B = np.zeros((4, 2)), np.zeros((3, 2)), np.array([0, 1, 2, 0]), np.zeros(3)
LOSSES = [linear.linear_cross_entropy, linear.linear_cross_entropy_and_grad]
PREDICTIONS = [linear.linear_predict, linear.linear_predict_proba, lambda *a: linear.linear_top_k(*a, k=1)]
both_losses = pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)


def raises(error, text, function, *args, **kwargs):
    with pytest.raises(error, match=re.escape(text)):
        function(*args, **kwargs)


@both_losses
@pytest.mark.parametrize("n", [4, 200_000])
@pytest.mark.parametrize("value", [-1, -99, 3, 2**32 + 1, np.iinfo(np.int64).min])
def test_class_index_out_of_range(function, n, value):
    x, target = np.zeros((n, 2), np.float32), np.zeros(n, np.int64)
    target[n - 2] = value
    raises(ValueError, f"[0, 3) or ignore_index, got {value} at row {n - 2}", function, x, W, target)
    raises(ValueError, f"got {value} at row {n - 2}", function, scipy.sparse.csr_array(x), W, target)


def test_nothing_is_written_before_labels_are_checked():
    out = {"x": np.full((4, 2), 5.0), "weight": np.full((3, 2), 5.0), "bias": np.full(3, 5.0)}
    arguments = {"wrt": ("x", "weight", "bias"), "out": out}
    raises(ValueError, "got 9 at row 3", LOSSES[1], X, W, [0, 1, 2, 9], B, **arguments)
    assert all((a == 5).all() for a in out.values())


OPERANDS = [
    ((np.zeros(4), W), ValueError, "x must have shape (n, d)", "got shape (4,)"),
    ((np.zeros((4, 2, 1)), W), ValueError, "x must have shape (n, d)", "got shape (4, 2, 1)"),
    ((5.0, W), ValueError, "x must have shape (n, d)", "got shape ()"),
    ((X, W[0]), ValueError, "weight must have shape (K, d) = (K, 2)", "got (2,)"),
    ((X, np.zeros((3, 5))), ValueError, "(K, 2), as x has shape (4, 2)", "got (3, 5)"),
    ((X, np.zeros((2, 3))), ValueError, "(K, 2), as x has shape (4, 2)", "pass weight.T"),
    ((X, np.zeros((0, 2))), ValueError, "weight must have at least one class", "(0, 2)"),
    ((X, W, np.zeros(2)), ValueError, "bias must have shape (K,) = (3,)", "got (2,)"),
    ((X, W, np.zeros((3, 1))), ValueError, "bias must have shape (K,) = (3,)", "got (3, 1)"),
    ((X, W, 0.0), ValueError, "bias must have shape (K,) = (3,)", "got ()"),
    ((X + 0j, W), TypeError, "x must have dtype", "complex128"),
    ((X, W.astype("O")), TypeError, "weight must have dtype", "object"),
    ((X, W, np.array(["a", "b", "c"])), TypeError, "bias must have dtype", "<U1"),
    ((X.astype(np.longdouble), W), TypeError, "x must have dtype", "longdouble"[:4]),
    (([[1, 2], [3]], W), ValueError, "x must be an array of numbers", "inhomogeneous"),
    ((scipy.sparse.coo_array(X), W), TypeError, "CSR or CSC", "x.tocsr()"),
    ((scipy.sparse.lil_matrix(X), W), TypeError, "CSR or CSC", "lil_matrix"),
    ((scipy.sparse.csr_array(X + 0j), W), TypeError, "x must have dtype", "complex128"),
    ((scipy.sparse.csr_array(X), np.zeros((3, 5))), ValueError, "weight must have shape", "got (3, 5)"),
]


@pytest.mark.parametrize(("operands", "error", "expected", "got"), OPERANDS)
def test_operands(operands, error, expected, got):
    with np.errstate(all="ignore"):
        x, weight, *bias = operands
    if expected.startswith("x must have dtype") and got == "long":
        got = str(np.dtype(np.longdouble))
    for function in LOSSES:
        for text in (expected, got):
            raises(error, text, function, x, weight, T, *bias)
    for function in PREDICTIONS:
        for text in (expected, got):
            raises(error, text, function, x, weight, *bias)
    direction = (W, B if bias else None)
    for text in (expected, got):
        raises(error, text, linear.linear_hessian_product, x, weight, bias[0] if bias else None, *direction)


@both_losses
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reduction": "avg"}, ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be a finite number in [0, 1], got 1.5"),
        ({"z_loss": -1}, ValueError, "z_loss must be a finite number >= 0, got -1"),
        ({"temperature": 0}, ValueError, "temperature must be a finite number > 0, got 0"),
        ({"class_weight": [1, 2]}, ValueError, "class_weight must have shape (3,), one weight a class, got (2,)"),
        ({"sample_weight": [1, 2, 3, -4]}, ValueError, "sample_weight must hold finite numbers >= 0, got -4.0 at (3,)"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight must have shape (4,)"),
        ({"block_rows": 0}, ValueError, "block_rows must be >= 1, got 0"),
        ({"block_rows": -3}, ValueError, "block_rows must be >= 1, got -3"),
        ({"block_rows": 2.5}, TypeError, "block_rows must be an integer >= 1, got 2.5"),
        ({"block_rows": "all"}, TypeError, "got 'all'"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer, got 0.5"),
    ],
)
def test_options(function, options, error, text):
    raises(error, text, function, X, W, T, B, **options)


@both_losses
def test_targets(function):
    shapes = "target must have shape (4,) (class indices) or (4, 3) (probabilities)"
    for target in ([0, 1, 2], np.zeros((4, 2)), 0, [[0, 1, 2, 0]]):
        raises(ValueError, shapes, function, X, W, target)
    raises(TypeError, "class indices must have an integer dtype, got float64", function, X, W, T.astype(float))
    soft = np.full((4, 3), 1 / 3)
    raises(ValueError, "focal_gamma is defined for class indices", function, X, W, soft, focal_gamma=1.0)
    raises(ValueError, "ignore_index must be negative", function, X, W, soft, ignore_index=1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"wrt": "y"}, ValueError, "wrt must name some of 'x', 'weight', 'bias', got 'y'"),
        ({"wrt": ("weight", "W")}, ValueError, "got 'W'"),
        ({"wrt": 3}, ValueError, "got 3"),
        ({"wrt": [["x"]]}, ValueError, "got ['x']"),
        ({"grad_output": np.ones(4)}, ValueError, "grad_output must be a scalar for reduction='mean'"),
        ({"grad_output": np.ones(3), "reduction": "none"}, ValueError, "grad_output must have shape (4,)"),
        ({"out": np.zeros((3, 2))}, TypeError, "out must be a mapping such as {'weight': array}, got ndarray"),
        ({"out": {"x": np.zeros((4, 2))}}, ValueError, "out must hold arrays for what wrt names"),
        ({"out": {"coef": np.zeros((3, 2))}}, ValueError, "got one for 'coef'"),
        ({"out": {"weight": np.zeros((2, 3))}}, ValueError, "out['weight'] must have the shape of the result, (3, 2)"),
        ({"out": {"weight": np.zeros((3, 2), "f4")}}, TypeError, "out['weight'] must have dtype float64"),
        ({"out": {"bias": np.zeros((3, 1))}}, ValueError, "out['bias'] must have the shape of the result, (3,)"),
        ({"out": {"bias": [0, 0, 0]}}, TypeError, "out['bias'] must be a numpy.ndarray, got list"),
        ({"out": {"weight": np.broadcast_to(0.0, (3, 2))}}, ValueError, "must be writeable"),
        (
            {"wrt": "x", "out": {"x": np.zeros((4, 3))}},
            ValueError,
            "out['x'] must have the shape of the result, (4, 2)",
        ),
    ],
)
def test_gradients(arguments, error, text):
    raises(error, text, LOSSES[1], X, W, T, B, **arguments)


def test_gradients_that_are_not_there():
    x = scipy.sparse.csr_array(X)
    raises(ValueError, "wrt must not name 'x' when x is sparse", LOSSES[1], x, W, T, wrt=("x", "weight"))
    out = {"bias": np.zeros(3)}
    raises(ValueError, "got one for 'bias'", LOSSES[1], X, W, T, wrt=("weight", "bias"), out=out)


@pytest.mark.parametrize("k", [0, -1, 4, 10**30])
def test_k_out_of_range(k):
    raises(ValueError, f"k must be in [1, 3], got {k}", linear.linear_top_k, X, W, k=k)


@pytest.mark.parametrize("k", [1.0, "2", None])
def test_k_that_is_no_integer(k):
    raises(TypeError, f"k must be an integer in [1, 3], got {k!r}", linear.linear_top_k, X, W, k=k)


def test_output_of_probabilities():
    predict = linear.linear_predict_proba
    raises(ValueError, "out must have the shape of the result, (4, 3), got (3, 4)", predict, X, W, out=np.zeros((3, 4)))
    raises(TypeError, "out must have dtype float64", predict, X, W, out=np.zeros((4, 3), np.float32))
    half = X.astype(np.float16)
    raises(TypeError, "out must have dtype float16", predict, half, W.astype("f2"), out=np.zeros((4, 3), np.float32))


def test_directions_of_the_hessian():
    product = linear.linear_hessian_product
    raises(
        ValueError,
        "weight_direction must have the shape of weight, (3, 2), got (4, 2)",
        product,
        X,
        W,
        None,
        np.zeros((4, 2)),
        None,
    )
    raises(ValueError, "bias and bias_direction must both be given", product, X, W, B, W, None)
    raises(ValueError, "bias and bias_direction must both be given", product, X, W, None, W, B)
    raises(ValueError, "reduction must be 'mean' or 'sum', got 'none'", product, X, W, B, W, B, reduction="none")
    raises(ValueError, "sample_weight must have shape (4,)", product, X, W, B, W, B, sample_weight=np.ones(3))


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize(
    ("part", "place", "value", "text"),
    [
        ("indices", 3, 30, "got 30 at indices[3]"),
        ("indices", 5, -1, "got -1 at indices[5]"),
        ("indptr", -1, 10**6, "ascending numbers in indptr, from 0 to at most 120"),
        ("indptr", 4, 0, "ascending numbers in indptr, from 0 to at most 120"),
        ("indptr", 0, -2, "ascending numbers in indptr, from 0 to at most 120"),
    ],
)
def test_sparse_features_that_lead_out_of_the_matrix(form, part, place, value, text):
    """Kernels follow indices without looking: a damaged matrix would be read, and gradients written, anywhere."""
    x = scipy.sparse.random(20, 30, 0.2, form, random_state=0)
    getattr(x, part)[place] = value
    raises(ValueError, text, linear.linear_cross_entropy_and_grad, x, np.zeros((3, 30)), np.zeros(20, int))
    raises(ValueError, text, linear.linear_predict, x, np.zeros((3, 30)))


WORDS = pytest.mark.parametrize("word", ["<i4", "<i8", "<u4", "<u8", ">i4", ">i8", ">u8", "<u2"])


@WORDS
@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize(
    ("part", "place", "value"), [("indptr", 1, 120), ("indptr", -1, 65535), ("indices", 7, 65535), ("indices", 7, 30)]
)
def test_sparse_structure_in_any_integer_dtype(form, part, place, value, word):
    """Without a sign, row starts that fall have differences that are positive; and what is read is what is checked."""
    x = scipy.sparse.random(20, 30, 0.2, form, random_state=0)
    expected = linear.linear_predict_proba(x.toarray(), W30, None)
    x.indptr, x.indices = x.indptr.astype(word), x.indices.astype(word)
    np.testing.assert_allclose(linear.linear_predict_proba(x, W30), expected, rtol=1e-12)
    for array in (x.indptr, x.indices):
        every_second = np.repeat(array, 2)[::2]
        assert not every_second.flags.c_contiguous
        setattr(x, "indptr" if array is x.indptr else "indices", every_second)
    np.testing.assert_allclose(linear.linear_predict_proba(x, W30), expected, rtol=1e-12)
    getattr(x, part)[place] = value
    text = "ascending numbers in indptr" if part == "indptr" else f"got {value} at indices[7]"
    for function in PREDICTIONS:
        raises(ValueError, text, function, x, W30)
    raises(ValueError, text, LOSSES[1], x, W30, np.zeros(20, int))
    raises(ValueError, text, linear.linear_hessian_product, x, W30, None, W30, None)


W30 = np.random.default_rng(0).standard_normal((3, 30))


@pytest.mark.parametrize("word", ["<u4", "<u8"])
def test_sparse_indices_beyond_signed_ones(word):
    x = scipy.sparse.random(20, 30, 0.2, "csr", random_state=0)
    x.indices = x.indices.astype(word)
    x.indices[7] = np.iinfo(word).max
    raises(ValueError, "must have indices in [0, 30), got", linear.linear_predict, x, W30)


@pytest.mark.parametrize("part", ["indptr", "indices"])
def test_sparse_structure_that_is_none(part):
    x = scipy.sparse.random(20, 30, 0.2, "csr", random_state=0)
    array = getattr(x, part)
    for other in (array.astype(float), array[None], array.astype(bool)):
        setattr(x, part, other)
        raises(TypeError, f"x must have integers in {part}, in one dimension", linear.linear_predict, x, W30)


def test_sparse_vectors():
    x = scipy.sparse.csr_array(X[0])
    if x.ndim == 1:
        raises(ValueError, "x must have shape (n, d)", linear.linear_predict, x, W)


def test_outputs_that_share_memory_with_each_other():
    room = np.zeros((7, 2))
    out = {"x": room[:4], "weight": room[3:6]}
    wrt = ("x", "weight", "bias")
    text = "out['weight'] must not share memory with out['x']; pass an array for each"
    raises(ValueError, text, LOSSES[1], X, W, T, B, wrt=wrt, out=out)
    assert (room == 0).all()
    LOSSES[1](X, W, T, B, wrt=wrt, out={"x": room[:4], "weight": room[4:]})
    out = {"weight": np.zeros((3, 2)), "bias": room.ravel()[:3], "x": room[:4]}
    raises(ValueError, "out['x'] must not share memory with out['bias']", LOSSES[1], X, W, T, B, wrt=wrt, out=out)


def test_outputs_that_overlap_themselves():
    room, strided = np.zeros(12), np.lib.stride_tricks.as_strided
    for name, shape in (("x", (4, 2)), ("weight", (3, 2))):
        out = {name: strided(room, shape, (8, 8))}
        text = f"out['{name}'] must not overlap itself, got strides (8, 8) with shape {shape}"
        raises(ValueError, text, LOSSES[1], X, W, T, B, wrt=("x", "weight"), out=out)
    out = strided(room, (4, 3), (16, 8))
    raises(ValueError, "out must not overlap itself", linear.linear_predict_proba, X, W, B, out=out)
    apart = strided(room, (4, 3), (8, 32))  # columns between one another: each element has a place of its own
    expected = linear.linear_predict_proba(X, W, B)
    np.testing.assert_array_equal(linear.linear_predict_proba(X, W, B, out=apart), expected)

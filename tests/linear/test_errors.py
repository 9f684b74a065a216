"""Bad input of linear passes: what was expected, what came, where, and no argument is changed."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from fastsoftmax.api import linear
from tests.backends import raises

X, W, T, B = np.zeros((4, 2)), np.zeros((3, 2)), np.array([0, 1, 2, 0]), np.zeros(3)
LOSSES = [linear.linear_cross_entropy, linear.linear_cross_entropy_and_grad]
PREDICTIONS = [linear.linear_predict, linear.linear_predict_proba, lambda *a: linear.linear_top_k(*a, k=1)]
both_losses = pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)


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


SHAPES = [
    ((np.zeros(4), W), "x must have shape (n, d), one row of features for each of n samples", "got shape (4,)"),
    ((np.zeros((4, 2, 1)), W), "x must have shape (n, d)", "got shape (4, 2, 1)"),
    ((np.array(5.0), W), "x must have shape (n, d)", "got shape ()"),
    ((X, W[0]), "weight must have shape (K, d) = (K, 2)", "got (2,)"),
    ((X, np.zeros((3, 5))), "(K, 2), as x has shape (4, 2)", "got (3, 5)"),
    ((X, np.zeros((2, 3))), "(K, 2), as x has shape (4, 2)", "pass weight.T"),
    ((X, np.zeros((0, 2))), "weight must have at least one class", "(0, 2)"),
    ((X, W, np.zeros(2)), "bias must have shape (K,) = (3,)", "got (2,)"),
    ((X, W, np.zeros((3, 1))), "bias must have shape (K,) = (3,)", "got (3, 1)"),
    ((X, W, np.array(0.0)), "bias must have shape (K,) = (3,)", "got ()"),
]
OPERANDS = [
    ((X + 0j, W), TypeError, "x must have dtype", "complex128"),
    ((X, W.astype("O")), TypeError, "weight must have dtype", "object"),
    ((X, W, np.array(["a", "b", "c"])), TypeError, "bias must have dtype", "<U1"),
    ((X.astype(np.longdouble), W), TypeError, "x must have dtype", str(np.dtype(np.longdouble))),
    (([[1, 2], [3]], W), ValueError, "x must be an array of numbers", "inhomogeneous"),
    ((scipy.sparse.coo_array(X), W), TypeError, "CSR or CSC", "x.tocsr()"),
    ((scipy.sparse.lil_matrix(X), W), TypeError, "CSR or CSC", "lil_matrix"),
    ((scipy.sparse.csr_array(X + 0j), W), TypeError, "x must have dtype", "complex128"),
    ((scipy.sparse.csr_array(X), np.zeros((3, 5))), ValueError, "weight must have shape", "got (3, 5)"),
]


def refuse(operands, error, texts, backend=None):
    """Every function does."""
    bias = operands[2:]
    for text in texts:
        for function in LOSSES:
            raises(error, text, function, *operands[:2], T, *bias, backend=backend)
        for function in PREDICTIONS:
            raises(error, text, function, *operands, backend=backend)
        direction = (*(bias or [None]), W, B if bias else None)
        raises(error, text, linear.linear_hessian_product, *operands[:2], *direction, backend=backend)


@pytest.mark.parametrize(("operands", "expected", "got"), SHAPES)
def test_shapes(backend, operands, expected, got):
    refuse(operands, ValueError, (expected, got), backend)


@pytest.mark.parametrize(("operands", "error", "expected", "got"), OPERANDS)
def test_operands(operands, error, expected, got):
    refuse(operands, error, (expected, got))


@both_losses
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reduction": "avg"}, ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be a finite number in [0, 1], got 1.5"),
        ({"z_loss": -1}, ValueError, "z_loss must be a finite number >= 0, got -1"),
        ({"temperature": 0}, ValueError, "temperature must be a finite number > 0, got 0"),
        ({"class_weight": [1, 2]}, ValueError, "class_weight must have shape (3,), one weight a class, got (2,)"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight must have shape (4,)"),
        ({"block_rows": 0}, ValueError, "block_rows must be >= 1, got 0"),
        ({"block_rows": -3}, ValueError, "block_rows must be >= 1, got -3"),
        ({"block_rows": 2.5}, TypeError, "block_rows must be an integer >= 1, got 2.5"),
        ({"block_rows": "all"}, TypeError, "got 'all'"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer, got 0.5"),
    ],
)
def test_options(backend, function, options, error, text):
    raises(error, text, function, X, W, T, B, **options, backend=backend)


@both_losses
def test_rows_of_a_block_that_equal_those_of_an_earlier_call(backend, function):
    backend.call(function, X, W, T, B, block_rows=1)
    text = "block_rows must be an integer >= 1, got 1.0"
    raises(TypeError, text, function, X, W, T, B, block_rows=1.0, backend=backend)


@both_losses
def test_values_of_weights(function):
    """Which a GPU does not look at."""
    text = "sample_weight must hold finite numbers >= 0, got -4.0 at (3,)"
    raises(ValueError, text, function, X, W, T, B, sample_weight=[1, 2, 3, -4])


@both_losses
def test_targets(backend, function):
    text = "target must have shape (4,) (class indices) or (4, 3) (probabilities) for logits of shape (4, 3), got"
    for target in map(np.asarray, ([0, 1, 2], np.zeros((4, 2)), 0, [[0, 1, 2, 0]])):
        raises(ValueError, f"{text} {target.shape}", function, X, W, target, backend=backend)
    soft = np.full((4, 3), 1 / 3)
    text = "focal_gamma is defined for class indices"
    raises(ValueError, text, function, X, W, soft, focal_gamma=1.0, backend=backend)
    raises(ValueError, "ignore_index must be negative", function, X, W, soft, ignore_index=1, backend=backend)


@both_losses
def test_class_indices_that_are_no_integers(function):
    raises(TypeError, "class indices must have an integer dtype, got float64", function, X, W, T.astype(float))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"wrt": "y"}, ValueError, "wrt must name some of 'x', 'weight', 'bias', got 'y'"),
        ({"wrt": ("weight", "W")}, ValueError, "got 'W'"),
        ({"wrt": 3}, ValueError, "got 3"),
        ({"wrt": itertools.repeat(0)}, ValueError, "got 0"),  # of which nobody makes a tuple
        ({"wrt": [["x"]]}, ValueError, "got ['x']"),
        ({"grad_output": np.ones(4)}, ValueError, "grad_output must be a scalar for reduction='mean'"),
        ({"grad_output": np.ones(3), "reduction": "none"}, ValueError, "grad_output must have shape (4,)"),
        ({"out": []}, TypeError, "out must be a mapping such as {'weight': array}, got list"),
        ({"out": {"x": np.zeros((4, 2))}}, ValueError, "out must hold arrays for what wrt names"),
        ({"out": {"coef": np.zeros((3, 2))}}, ValueError, "got one for 'coef'"),
        ({"out": {"weight": np.zeros((2, 3))}}, ValueError, "out['weight'] must have the shape of the result, (3, 2)"),
        ({"out": {"weight": np.zeros((3, 2), "f4")}}, TypeError, "out['weight'] must have dtype float64"),
        ({"out": {"bias": np.zeros((3, 1))}}, ValueError, "out['bias'] must have the shape of the result, (3,)"),
        (
            {"wrt": "x", "out": {"x": np.zeros((4, 3))}},
            ValueError,
            "out['x'] must have the shape of the result, (4, 2)",
        ),
    ],
)
def test_gradients(backend, arguments, error, text):
    for _ in range(2):  # a call that was prepared looks at what is given too
        raises(error, text, LOSSES[1], X, W, T, B, **arguments, backend=backend)
        backend.call(LOSSES[1], X, W, T, B)


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.zeros((3, 2)), TypeError, "out must be a mapping such as {'weight': array}, got ndarray"),
        ({"bias": [0, 0, 0]}, TypeError, "out['bias'] must be a numpy.ndarray, got list"),
        ({"weight": np.broadcast_to(0.0, (3, 2))}, ValueError, "must be writeable"),
    ],
)
def test_outputs_in_main_memory(out, error, text):
    raises(error, text, LOSSES[1], X, W, T, B, out=out)


def test_gradients_that_are_not_there(backend):
    out, text = {"bias": np.zeros(3)}, "for what wrt names, ('weight',), got one for 'bias'"
    raises(ValueError, text, LOSSES[1], X, W, T, wrt=("weight", "bias"), out=out, backend=backend)


def test_gradients_of_sparse_features():
    x = scipy.sparse.csr_array(X)
    raises(ValueError, "wrt must not name 'x' when x is sparse", LOSSES[1], x, W, T, wrt=("x", "weight"))


@pytest.mark.parametrize("k", [0, -1, 4, 10**30])
def test_k_out_of_range(backend, k):
    raises(ValueError, f"k must be in [1, 3], got {k}", linear.linear_top_k, X, W, k=k, backend=backend)


@pytest.mark.parametrize("k", [1.0, "2", None])
def test_k_that_is_no_integer(k):
    raises(TypeError, f"k must be an integer in [1, 3], got {k!r}", linear.linear_top_k, X, W, k=k)


def test_output_of_probabilities(backend):
    def output(error, text, out, x=X, w=W):
        raises(error, text, linear.linear_predict_proba, x, w, out=out, backend=backend)

    output(ValueError, "out must have the shape of the result, (4, 3), got (3, 4)", np.zeros((3, 4)))
    output(TypeError, "out must have dtype float64", np.zeros((4, 3), np.float32))
    output(TypeError, "out must have dtype float16", np.zeros((4, 3), np.float32), X.astype("f2"), W.astype("f2"))


def test_directions_of_the_hessian(backend):
    def directions(text, bias, *along, **options):
        raises(ValueError, text, linear.linear_hessian_product, X, W, bias, *along, **options, backend=backend)

    directions("weight_direction must have the shape of weight, (3, 2), got (4, 2)", None, np.zeros((4, 2)), None)
    directions("bias and bias_direction must both be given", B, W, None)
    directions("bias and bias_direction must both be given", None, W, B)
    directions("bias_direction must have shape (K,) = (3,), got (4,)", B, W, np.zeros(4))
    directions("reduction must be 'mean' or 'sum', got 'none'", B, W, B, reduction="none")
    directions("sample_weight must have shape (4,), one weight a row", B, W, B, sample_weight=np.ones(3))


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


@pytest.mark.parametrize(("name", "shape"), [("x", (4, 2)), ("weight", (3, 2))])
def test_outputs_that_overlap_themselves(backend, name, shape):
    out = {name: np.ndarray(shape, buffer=np.zeros(12), strides=(8, 8))}
    text = f"out['{name}'] must not overlap itself, got strides (8, 8) with shape {shape}"
    raises(ValueError, text, LOSSES[1], X, W, T, B, wrt=("x", "weight"), out=out, backend=backend)


def test_probabilities_that_overlap_themselves():
    room, strided = np.zeros(12), np.lib.stride_tricks.as_strided
    out = strided(room, (4, 3), (16, 8))
    raises(ValueError, "out must not overlap itself", linear.linear_predict_proba, X, W, B, out=out)
    apart = strided(room, (4, 3), (8, 32))  # columns between one another: each element has a place of its own
    expected = linear.linear_predict_proba(X, W, B)
    np.testing.assert_array_equal(linear.linear_predict_proba(X, W, B, out=apart), expected)

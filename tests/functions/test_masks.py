"""Masks and offsets of the classes: values, what must be exactly 0, and what is not looked at."""

from itertools import product

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.statistics import NAMES
from tests.functions.test_statistics import compare
from tests.pairs import exhaustive_but
from tests.support import assert_exact, both, check, labels, logits, probabilities, seeds, spacing

FLOAT = np.dtype(np.float32)
#: Rows in registers or lanes, in batches, one after the other and block by block; in Fortran order but for "C".
SHAPES = ["900x10 C", "20x10 F", "21x47 C", "3x5000 C", "20x600 F"]
EVERY_SHAPE = [*SHAPES, "3x1 C", "20x17 C", "20x47 F", "2x270000 C", "40x1000 F"]
KINDS = ["classes", "mask", "offset", "both"]


def adjusted(random, x, kind, least=1):
    """A mask and an offset, and the logits with anything where no class is; the first `least` classes are there."""
    rows, classes = x.shape
    where = class_offset = None
    if kind == "classes":
        where = random.random(classes) < 0.7
    elif kind != "offset":
        where = random.random((rows, classes)) < 0.7
    if where is not None:
        where[..., :least] = True
    if kind in ("offset", "both"):
        class_offset = random.normal(size=classes)
        class_offset[least:][random.random(classes - least) < 0.2] = -np.inf
    there = np.ones(x.shape, bool) if where is None else np.broadcast_to(where, x.shape).copy()
    if class_offset is not None:
        there &= class_offset != -np.inf
    x[~there] = random.choice([np.nan, np.inf, -np.inf, 1e4], (~there).sum())
    return {"where": where, "class_offset": class_offset}, there


def drawn(seed, shape, kind, dtype=FLOAT):
    """(random numbers, logits, a mask and an offset, which classes are there)."""
    random, (sizes, order) = np.random.default_rng(seed), shape.split()
    rows, classes = map(int, sizes.split("x"))
    x = np.asarray(logits(seed, (rows, classes), dtype), order=order)
    options, there = adjusted(random, x, kind)
    return random, x, options, there


def usual(cases, *others):
    """Parameters of a test: some cases by default, all combinations in the exhaustive run."""
    return exhaustive_but(cases, list(dict.fromkeys([*cases, *product(*others)])))


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    usual(
        [("softmax", "mask", "20x10 F"), ("logsumexp", "classes", "900x10 C")],
        *(("softmax", "log_softmax", "logsumexp"), ("classes", "mask"), EVERY_SHAPE),
    ),
)
def test_softmax(name, kind, shape):
    """Classes that are not there have probability 0, and are not looked at."""
    function = getattr(fs, name)
    _, x, options, there = drawn(3, shape, kind)
    before, where = x.copy(), options["where"]
    got = function(x, where=where)
    check(function, x, actual=got, along=None, where=where)
    np.testing.assert_array_equal(x, before)
    if function is not fs.logsumexp:
        assert (got[~there] == (0 if function is fs.softmax else -np.inf)).all()


AXES = {"last": -1, "first": 0, "middle": 1, "two": (1, 2), "all": None}


@pytest.mark.parametrize("along", exhaustive_but(["middle", "two"], AXES))
@given(seed=seeds, data=st.data())
def test_masks_of_any_shape(backend, along, seed, data):
    """Those that broadcast to the logits, with fewer axes too; and labels of four bytes beside them."""
    random, x, axis = np.random.default_rng(seed), logits(seed, (3, 4, 5), FLOAT), AXES[along]
    several = axis is None or isinstance(axis, tuple)
    # On a GPU axes that are merged are those of the mask, too.
    kept = 3 if axis is None else 2 if several else 0
    shape = tuple(n if i >= 3 - kept else data.draw(st.sampled_from([1, n])) for i, n in enumerate(x.shape))
    shape = shape[data.draw(st.integers(0, 3 - kept)) :]
    where = np.asarray(random.random(shape) < 0.7)
    wide = np.where(where, x, -np.inf).astype(np.float64)
    for of, exact in ((fs.softmax, scipy.special.softmax), (fs.logsumexp, scipy.special.logsumexp)):
        with np.errstate(invalid="ignore"):
            expected = exact(wide, axis=axis)
        np.testing.assert_allclose(backend.call(of, x, axis, where=where), expected, rtol=1e-5, atol=1e-7)
    if not several:
        t = labels(random, np.moveaxis(x, axis, -1).shape).astype(np.int32)
        options = {"where": where, "axis": axis, "reduction": "none"}
        found = backend.call(fs.cross_entropy, x, t, **options)
        np.testing.assert_allclose(found, reference.cross_entropy(x.astype(np.float64), t, **options), rtol=1e-5)


PLAIN = [("offset", "900x10 C"), ("mask", "20x10 F"), ("offset", "21x47 C"), ("mask", "3x5000 C"), ("both", "20x600 F")]


@pytest.mark.parametrize(("kind", "shape"), usual(PLAIN, KINDS, EVERY_SHAPE))
def test_losses(kind, shape):
    """The loss is +inf where the target is masked; gradients are exactly 0 where no class is."""
    compare_losses({}, kind, shape)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_smoothing(kind, shape):
    """Classes that are left out have no share; the loss alone is the same."""
    compare_losses({"label_smoothing": 0.2, "class_weight": True}, kind, shape)
    _, x, options, _ = drawn(4, shape, kind)
    t = labels(np.random.default_rng(4), x.shape)
    np.testing.assert_array_equal(fs.cross_entropy(x, t, **options), fs.cross_entropy_and_grad(x, t, **options).loss)


def compare_losses(options, kind, shape):
    """Losses and gradients of rows with the reference's."""
    random, x, adjust, there = drawn(4, shape, kind)
    options = {"reduction": "none", **options, **adjust}
    if options.get("class_weight"):
        options["class_weight"] = random.uniform(0.5, 2, x.shape[1])
    t = labels(random, x.shape)
    if not there[-1].all():
        t[-1] = there[-1].argmin()  # a target that is masked
    loss, grad = fs.cross_entropy_and_grad(x, t, **options)
    exact, naive = both(fs.cross_entropy_and_grad, x, t, dtype=FLOAT, **options)
    assert_exact(loss, exact.loss, naive.loss, along=None)
    assert_exact(grad, exact.grad, naive.grad)
    assert (grad[~there] == 0).all()
    masked = ~np.take_along_axis(there, np.maximum(t, 0)[:, None], 1)[:, 0] & (t >= 0)
    assert (loss[masked] == np.inf).all()
    assert np.isfinite(np.delete(loss, np.flatnonzero(masked))).all()


SOFT = [{}, {"label_smoothing": 0.1}]
CAPPED = [{"softcap": 4.0, "temperature": 0.8}, {"z_loss": 0.1, "focal_gamma": 1.5}]


@pytest.mark.parametrize("shape", exhaustive_but(["21x47 C"], EVERY_SHAPE))
@pytest.mark.parametrize("options", exhaustive_but([SOFT[1], CAPPED[0]], [*SOFT, *CAPPED]), ids=str)
def test_options(options, shape):
    """Soft targets, smoothing, softcap and others, with a mask and an offset at once."""
    random, x, adjust, there = drawn(5, shape, "both")
    soft = options in SOFT
    options = {"reduction": "none", **options, **adjust}
    t = probabilities(random, x.shape, FLOAT) if soft else labels(random, x.shape)
    loss, grad = fs.cross_entropy_and_grad(x, t, **options)
    exact, naive = both(fs.cross_entropy_and_grad, x, t, dtype=FLOAT, **options)
    cap = options.get("softcap", 0.0)
    assert_exact(loss, exact.loss, naive.loss, along=None, size=cap)
    assert_exact(grad, exact.grad, naive.grad, size=1.0 if cap else 0.0)
    assert (grad[~there] == 0).all()


@pytest.mark.parametrize(("kind", "shape"), usual([("both", "20x10 F")], KINDS, EVERY_SHAPE))
def test_statistics(kind, shape):
    """All statistics, of which those by order compare adjusted logits; and their gradient."""
    random, x, adjust, there = drawn(6, shape, kind)
    t = labels(random, x.shape)
    options = {**adjust, "k": min(3, x.shape[1])}
    for want in (NAMES, ("argmax",))[: 1 + ("F" in shape)]:
        compare(fs.row_stats(x, t, want=want, **options), x, t, want, **options)
    ups = {"log_prob": random.normal(size=len(x)), "entropy": 0.5, "log_sum_exp": 1.0}
    grad = fs.row_stats_vjp(x, t, **ups, **adjust)
    exact, naive = both(fs.row_stats_vjp, x, t, dtype=FLOAT, **ups, **adjust)
    assert_exact(grad, exact, naive, size=1.0)
    assert (grad[~there] == 0).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_dtypes(shape, dtype):
    """Masks are read beside logits of any dtype."""
    random, x, adjust, there = drawn(7, shape, "mask", np.dtype(dtype))
    t = labels(random, x.shape)
    options = {"reduction": "none", **adjust}
    got = fs.cross_entropy_and_grad(x, t, **options)
    exact, naive = both(fs.cross_entropy_and_grad, x, t, dtype=x.dtype, **options)
    assert_exact(got.loss, exact.loss, naive.loss, along=None)
    assert_exact(got.grad, exact.grad, naive.grad)
    assert (got.grad[~there] == 0).all()


@given(seed=seeds, shape=st.sampled_from([(7, 10)]), broadcast=st.sampled_from(["rows", "classes", "strided"]))
def test_masks_that_broadcast(seed, shape, broadcast):
    """A mask of any strides, along any axis: as if masked logits were -inf."""
    random = np.random.default_rng(seed)
    x, t = logits(seed, shape, FLOAT), labels(random, shape, ignored=0)
    where = random.random(shape) < 0.8
    if broadcast == "strided":
        where = np.repeat(where, 2, axis=1)[:, ::-2]
    else:
        where = where[:1] if broadcast == "classes" else where[:, :1]
    filled = np.where(where, x, -np.inf).astype(FLOAT)
    loss, grad = fs.cross_entropy_and_grad(x.T, t, where=where.T, axis=0, reduction="none")
    exact = reference.cross_entropy_and_grad(filled, t, reduction="none")
    np.testing.assert_allclose(loss, exact.loss, rtol=1e-5, atol=1e-6)
    there = np.broadcast_to(where, shape)
    np.testing.assert_allclose(grad.T, np.where(there, exact.grad, 0 * exact.grad), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("apart", ["mask", "logits"])
def test_rows_apart(apart):
    """Rows of a mask or of the logits with something between them."""
    x, t = logits(3, (20, 17), FLOAT), np.zeros(20, int)
    where = np.random.default_rng(3).random((20, 17)) < 0.7
    where[:, 0] = True
    exact = fs.cross_entropy_and_grad(x, t, where=where, reduction="none")
    if apart == "mask":
        where = np.hstack([where, ~where])[:, :17]
    else:
        x = np.hstack([x, x[::-1]])[:, :17]
    got = fs.cross_entropy_and_grad(x, t, where=where, reduction="none")
    for one, other in zip(got, exact, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("axis", exhaustive_but([[0, 2]], [[0, 2], None, [1, 2], []]), ids=str)
def test_axes_together(axis):
    """A mask of several axes, and of none that can be merged."""
    x, random = logits(8, (3, 4, 5), FLOAT), np.random.default_rng(8)
    where, axis = random.random((3, 1, 5)) < 0.7, axis if axis is None else tuple(axis)
    np.testing.assert_allclose(
        fs.softmax(x, axis, where=where), reference.softmax(x, axis, where=where), rtol=1e-5, atol=1e-6
    )
    if axis == ():
        return
    got, exact = (of.logsumexp(x, axis, where=where) for of in (fs, reference))
    np.testing.assert_allclose(got, exact, rtol=1e-6)
    factor = random.normal(size=(3, 4, 5))
    got = fs.logsumexp(x, axis, where=where, b=factor, return_sign=True)
    exact = fs.logsumexp(np.where(where, x, -np.inf), axis, b=factor, return_sign=True)
    np.testing.assert_array_equal(got, exact)


def test_logsumexp_is_infinite_or_missing():
    """An infinite logit that is there makes it infinite, NaN that is there NaN; masked ones do neither."""
    x = np.array([[np.inf, 0.0, np.nan], [np.inf, 0.0, np.nan], [np.nan, 1.0, np.inf]], np.float32)
    where = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    for wide in (1, 100):
        got = fs.logsumexp(np.tile(x, wide), where=np.tile(where, wide))
        np.testing.assert_allclose(got, [np.inf, np.nan, 1 + np.log(wide)], rtol=1e-6)


def test_rows_without_classes():
    """They are NaN, as rows of nothing but -inf are; their neighbours are not."""
    x, where = logits(9, (4, 20), FLOAT), np.ones((4, 20), bool)
    where[2] = False
    for function in (fs.softmax, fs.log_softmax):
        np.testing.assert_array_equal(np.isnan(function(x, where=where)), ~where)
    np.testing.assert_array_equal(fs.logsumexp(x, where=where) == -np.inf, [False, False, True, False])
    loss, grad = fs.cross_entropy_and_grad(x, np.zeros(4, int), where=where, reduction="none")
    np.testing.assert_array_equal(np.isnan(loss), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(grad), ~where)


def test_logit_adjustment():
    """Log-priors make up for a shift of the classes' frequencies: p_j becomes p_j prior_j over their sum."""
    x, prior = logits(10, (50, 10), np.dtype(np.float64)), np.random.default_rng(10).dirichlet(np.ones(10))
    t = labels(np.random.default_rng(10), x.shape, ignored=0)
    p = reference.softmax(x) * prior
    p /= p.sum(axis=1, keepdims=True)
    got = fs.cross_entropy(x, t, class_offset=np.log(prior), reduction="none")
    np.testing.assert_allclose(got, -np.log(p[np.arange(50), t]), rtol=1e-12)


@pytest.mark.exhaustive
def test_gradients_by_differences():
    """Central differences, with a mask and an offset at once."""
    _, x, adjust, there = drawn(11, "6x7 C", "both", np.dtype(np.float64))
    x[~there] = 0.5
    options = {**adjust, "label_smoothing": 0.1, "temperature": 0.7, "softcap": 3.0}
    t = np.zeros(6, int)
    grad, step = fs.cross_entropy_and_grad(x, t, **options).grad, 1e-6
    for i, j in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = x.copy()
            moved[i, j] += sign * step
            sides.append(fs.cross_entropy(moved, t, **options))
        assert abs((sides[0] - sides[1]) / (2 * step) - grad[i, j]) < 1e-8


def test_bits_of_a_plain_call():
    """A mask of nothing and an offset of 0 change no probability by more than an ulp or two."""
    x = logits(12, (20, 100), FLOAT)
    got, plain = fs.softmax(x, where=np.ones((20, 100), bool)), fs.softmax(x)
    assert (np.abs(got - plain) <= 2 * spacing(plain, FLOAT)).all()


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 300]))
def test_linear(classes):
    """Offsets of the classes in linear passes, after softcap and temperature."""
    rows, features, random = 200, 5, np.random.default_rng(13)
    x, weight = random.normal(size=(rows, features)), random.normal(size=(classes, features))
    offset, t = random.normal(size=classes), labels(random, (rows, classes))
    offset[3] = -np.inf
    t[t == 3] = 4
    options = {"class_offset": offset} | ({"temperature": 0.7, "softcap": 3.0} if classes > 10 else {})
    got = fs.linear_cross_entropy_and_grad(x, weight, t, **options)
    exact = reference.linear_cross_entropy_and_grad(x, weight, t, **options)
    np.testing.assert_allclose(got.loss, exact.loss, rtol=1e-12)
    np.testing.assert_allclose(got.grad_weight, exact.grad_weight, rtol=1e-9, atol=1e-12)
    want = ("log_prob", "argmax", "top_k")
    stats = fs.linear_row_stats(x, weight, t, want=want, **options)
    direct = fs.row_stats(x @ weight.T, t, want=want, **options)
    np.testing.assert_allclose(stats.log_prob, direct.log_prob, rtol=1e-9)
    np.testing.assert_array_equal(stats.argmax, direct.argmax)
    np.testing.assert_array_equal(stats.top_k.indices, direct.top_k.indices)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"where": np.ones((3, 4))}, TypeError, "where must be boolean"),
        ({"where": np.ones((2, 4), bool)}, ValueError, "where must broadcast to the shape of the logits, (3, 4)"),
        ({"class_offset": np.zeros(3)}, ValueError, "class_offset must have shape (4,)"),
        ({"class_offset": [0, np.nan, 0, 0]}, ValueError, "got nan at (1,)"),
        ({"class_offset": [0, 0, np.inf, 0]}, ValueError, "got inf at (2,)"),
        ({"class_offset": [0, 0, 1e300, 0]}, ValueError, "within 3.4e+38, as they are added in float32"),
        ({"class_offset": ["a"] * 4}, TypeError, "class_offset must"),
    ],
)
def test_errors(options, error, text):
    """Refused in words that say what was expected."""
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(error) as caught:
        fs.cross_entropy(x, [0, 1, 2], **options)
    assert text in str(caught.value)


@pytest.mark.parametrize("direction", exhaustive_but(["forward"], ["forward", "reverse", 0.3]))
@pytest.mark.parametrize("teacher_is", exhaustive_but(["prob"], ["logits", "log_prob", "prob"]))
@pytest.mark.parametrize("shape", exhaustive_but(["20x10 F"], EVERY_SHAPE[:5]))
def test_divergences(shape, teacher_is, direction):
    """Neither array is looked at where a class is masked; its gradient is 0."""
    random, x, options, there = drawn(14, shape, "mask", np.dtype(np.float64))
    y = logits(15, x.shape, np.float64)
    y = {"logits": y, "log_prob": reference.log_softmax(y), "prob": reference.softmax(y)}[teacher_is]
    y[~there] = random.choice([np.nan, np.inf], (~there).sum())
    options = {"where": options["where"], "teacher_is": teacher_is, "direction": direction, "reduction": "none"}
    got = fs.kl_divergence_and_grad(x, y, **options)
    exact = reference.kl_divergence_and_grad(x, y, **options)
    np.testing.assert_allclose(got.loss, exact.loss, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got.grad, exact.grad, rtol=1e-11, atol=1e-14)
    assert (got.grad[~there] == 0).all()
    assert np.isfinite(got.loss).all()
    np.testing.assert_allclose(fs.kl_divergence(x.T, y.T, axis=0, **options | {"where": there.T}), got.loss, rtol=1e-13)
    with pytest.raises(ValueError, match="where must be None for a teacher that lists classes"):
        fs.kl_divergence(x, (np.zeros((len(x), 1), int), y[:, :1]), tail="bucket", where=there)

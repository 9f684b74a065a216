"""row_stats against the reference in higher precision, NumPy's order, and what must hold exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.statistics import NAMES, REAL, STATISTICS
from tests.guarded import guarded
from tests.pairs import exhaustive_but
from tests.support import (
    LAYOUTS,
    assert_exact,
    both,
    by_least_places,
    computed,
    labels,
    logits,
    row_counts,
    scales,
    seeds,
)

REALS = [statistic.name for statistic in STATISTICS if statistic.kind == REAL]
#: Sets of names that most users ask for, and each name alone.
SETS = ["log_prob entropy correct", "argmax", "rank margin", "top_k"]
EVERY_SET = [*SETS, *(name for name in NAMES if name not in SETS)]


def compare(found, x, t, want, **options):
    """Each statistic that was asked for with the reference's; None for the others."""
    exact, naive = both(fs.row_stats, x, t, want=want, dtype=x.dtype, **options)
    assert {name for name in NAMES if getattr(found, name) is not None} == set(want)
    for name in want:
        got, expected, rough = (getattr(stats, name) for stats in (found, exact, naive))
        if name == "top_k":
            np.testing.assert_array_equal(got.indices, expected.indices)
            assert got.indices.dtype == np.int64
            got, expected, rough = got.log_proba, expected.log_proba, rough.log_proba
        if name in REALS or name == "top_k":
            assert got.dtype == computed(x.dtype)
            # A logit that is rounded when it is divided moves a difference of logits by ulps of its own size.
            size = np.nan_to_num(np.abs(x.astype(np.float64)), posinf=0, neginf=0).max(initial=0.0)
            assert_exact(got, expected, rough, along=None, size=size if name == "margin" else 0.0)
        else:
            assert got.dtype == np.asarray(expected).dtype
            np.testing.assert_array_equal(got, expected, err_msg=name)


@by_least_places
@given(seeds, row_counts, st.data(), scales)
def test_values(places, seed, rows, data, scale):
    """All statistics of rows of every layout, dtype and length, some of them ignored."""
    dtype, classes, layout, _ = data.draw(places)
    random = np.random.default_rng(seed)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype, scale))
    t, before = labels(random, x.shape), x.copy()
    options = {"k": min(3, classes)}
    compare(fs.row_stats(x, t, want=NAMES, **options), x, t, NAMES, **options)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("want", exhaustive_but(SETS, EVERY_SET))
def test_sets_of_names(want, classes):
    """What is not asked for is not there, with a target and, where none is needed, without."""
    x, want = logits(1, (40, classes), np.dtype(np.float32)), want.split()
    t = labels(np.random.default_rng(1), x.shape)
    t[:20] = x[:20].argmax(axis=1)
    compare(fs.row_stats(x, t, want=want), x, t, want)
    if not any(statistic.needs_target for statistic in STATISTICS if statistic.name in want):
        compare(fs.row_stats(x, want=want), x, None, want)


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("options", [{"temperature": 0.7, "softcap": 5.0}], ids=["tempered+capped"])
@given(seed=seeds)
def test_transforms(options, classes, seed):
    """Softcap, then temperature; the order is that of the logits as they came, however flat the cap is."""
    x = logits(seed, (9, classes), np.dtype(np.float32), 30.0)
    t = x.argmax(axis=1)
    t[:4] = labels(np.random.default_rng(seed), (4, classes), ignored=0)
    found = fs.row_stats(x, t, want=NAMES, **options)
    np.testing.assert_array_equal(found.argmax, x.argmax(axis=1))
    np.testing.assert_array_equal(found.correct, t == x.argmax(axis=1))
    np.testing.assert_array_equal(found.rank, (x > np.take_along_axis(x, t[:, None], 1)).sum(axis=1))
    np.testing.assert_array_equal(found.top_k.indices, np.argsort(-x, axis=1, kind="stable")[:, :5])
    exact, naive = both(fs.row_stats, x, t, want=NAMES, dtype=x.dtype, **options)
    for name in REALS:  # an ulp of a capped logit is one of the cap
        assert_exact(*(getattr(stats, name) for stats in (found, exact, naive)), along=None, size=5.0 / 0.7)


@given(seeds, st.sampled_from([(7, 10), (5, 300), (3, 3000)]), st.sampled_from("CF"))
def test_ties_and_infinities(seed, shape, order):
    """Logits with many equal ones, NaN and infinities: NumPy's argmax, the stable order, and NaN where it is due."""
    random = np.random.default_rng(seed)
    x = np.asarray(random.integers(-2, 3, shape), np.float32, order=order)
    x[random.random(shape) < random.choice([0, 0.01, 0.3])] = random.choice([np.nan, np.inf, -np.inf])
    t = labels(random, shape, ignored=0)
    found = fs.row_stats(x, t, want=NAMES)
    compare(found, x, t, NAMES)
    np.testing.assert_array_equal(found.argmax, x.argmax(axis=1))
    np.testing.assert_array_equal(found.correct, x.argmax(axis=1) == t)
    np.testing.assert_array_equal(found.rank, (x > np.take_along_axis(x, t[:, None], 1)).sum(axis=1))


@pytest.mark.parametrize("classes", exhaustive_but([10, 1000], [2, 10, 1000]))
@pytest.mark.parametrize("dtype", exhaustive_but(["float32"], ["float32", "float64"]))
def test_certain_rows_keep_their_digits(classes, dtype):
    """Relative precision near 0: two ulps, and a quarter of one for each unit that the largest logit is ahead.

    NumPy's, SciPy's, torch's and JAX's log-softmax have none left there (scipy#19521).
    """
    gap = np.array([0.0, 1e-3, 1.0, 5.0, 10.0, 20.0, 40.0, 80.0] + [600.0] * (dtype == "float64"))
    x = np.zeros((len(gap), classes), dtype)
    place = np.arange(len(gap)) % classes
    x[np.arange(len(gap)), place] = gap
    found = fs.row_stats(x, place, want=("log_prob", "entropy"))
    eps, d = np.finfo(dtype).eps, -np.asarray(x[np.arange(len(gap)), place], np.longdouble)
    rest = (classes - 1) * np.exp(d)
    entropy = np.log1p(rest) - rest * d / (1 + rest)
    for got, exact in ((found.log_prob, -np.log1p(rest)), (found.entropy, entropy)):
        assert (np.abs(got - exact) <= (3 + gap / 4) * eps * np.abs(exact)).all()
        assert (exact != 0).all()


@pytest.mark.parametrize("dtype", exhaustive_but(["float32"], ["float16", "float32", "float64"]))
@given(seed=seeds, shape=st.sampled_from([(20, 2), (20, 10), (9, 300)]))
def test_signs(dtype, seed, shape):
    """Log-probabilities are never above 0, and entropies never below, whatever the logits are."""
    random = np.random.default_rng(seed)
    x = (logits(seed, shape, np.float64) * 10.0 ** random.integers(-4, 4, (shape[0], 1))).astype(dtype)
    t = np.where(random.random(shape[0]) < 0.5, x.argmax(axis=1), random.integers(0, shape[1], shape[0]))
    for options in ({}, {"softcap": 2.0}):
        found = fs.row_stats(x, t, want=("log_prob", "entropy"), **options)
        assert not (found.log_prob > 0).any()
        assert not (found.entropy < 0).any()


@pytest.mark.parametrize("classes", [10, 1000])
def test_ignored_rows_are_not_read(classes):
    """Theirs are 0, -1 and False, and NaN there reaches nothing; memory past the rows that count is nobody's."""
    x, t = np.full((6, classes), np.nan, np.float32), np.full(6, 7)
    x[1], t[1] = logits(0, classes, np.float32), 3
    found = fs.row_stats(x, t, want=NAMES, ignore_index=7)
    others = np.delete(np.arange(6), 1)
    for name in REALS:
        assert (getattr(found, name)[others] == 0).all()
        assert np.isfinite(getattr(found, name)[1])
    assert (found.argmax[others] == -1).all()
    assert (found.rank[others] == -1).all()
    assert not found.correct[others].any()
    assert (found.top_k.indices[others] == -1).all()
    assert (found.top_k.log_proba[others] == 0).all()
    if classes == 1000:
        count = guarded(x[:2])
        beyond = np.lib.stride_tricks.as_strided(count, (6, classes), count.strides)
        far = fs.row_stats(beyond, [7, 3, 7, 7, 7, 7], want=NAMES, ignore_index=7)
        for name in REALS:
            np.testing.assert_array_equal(getattr(far, name), getattr(found, name))


@given(st.data(), seeds)
def test_axes(data, seed):
    """The classes along any axis of arrays of one to four dimensions, in any order in memory."""
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = logits(seed, shape, np.float64).transpose(data.draw(st.permutations(range(len(shape)))))
    rows = np.moveaxis(x, axis, -1)
    t = labels(np.random.default_rng(seed), rows.shape)
    want = ("log_prob", "entropy", "correct", "rank", "top_k")
    found = fs.row_stats(x, t, want=want, axis=axis, k=1)
    expected = reference.row_stats(rows, t, want=want, k=1)
    for name in want[:4]:
        assert np.shape(getattr(found, name)) == rows.shape[:-1]
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    np.testing.assert_array_equal(found.top_k.indices, expected.top_k.indices)
    np.testing.assert_allclose(found.top_k.log_proba, expected.top_k.log_proba, rtol=1e-12)


def test_integers_lists_and_no_rows():
    found = fs.row_stats([3, 1, 2], 2, want=NAMES, k=2)
    assert (found.argmax, found.rank, bool(found.correct), float(found.margin)) == (0, 1, False, -1.0)
    assert found.top_k.indices.tolist() == [0, 2]
    assert found.entropy.dtype == np.float64
    empty = fs.row_stats(np.empty((0, 3), np.float32), np.empty(0, np.int64), want=NAMES, k=3)
    assert empty.log_prob.shape == empty.argmax.shape == (0,)
    assert empty.top_k.indices.shape == (0, 3)


def test_temperatures_that_float32_cannot_invert():
    """Computed in float64, as the losses are, and given in float32."""
    x = logits(0, (4, 10), np.dtype(np.float32)) * np.float32(1e30)
    found = fs.row_stats(x, [0, 1, 2, 3], want=("log_prob", "top_k"), temperature=1e30)
    expected = reference.row_stats(x, [0, 1, 2, 3], want=("log_prob", "top_k"), temperature=1e30)
    assert found.log_prob.dtype == found.top_k.log_proba.dtype == np.float32
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-6)
    np.testing.assert_allclose(found.top_k.log_proba, expected.top_k.log_proba, rtol=1e-6)


def test_bits_do_not_depend_on_other_rows():
    """A row has the same statistics alone and among others, by whatever number of threads."""
    for shape in ((3000, 30), (200, 1000)):
        x = logits(2, shape, np.dtype(np.float32))
        t = labels(np.random.default_rng(2), shape)
        everything = fs.row_stats(x, t, want=("log_prob", "entropy", "correct"))
        part = fs.row_stats(x[7:99], t[7:99], want=("log_prob", "entropy", "correct"))
        for name in ("log_prob", "entropy", "correct"):
            np.testing.assert_array_equal(getattr(everything, name)[7:99], getattr(part, name))


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "want must name some of 'log_prob', ", {"want": "probability"}),
        (ValueError, "want must name at least one of 'log_prob', ", {"want": []}),
        (ValueError, "'rank' needs a target, got None", {"want": ("entropy", "rank"), "target": None}),
        (ValueError, "k must be in [1, 3], got 5", {"want": "top_k"}),
        (ValueError, "target must hold class indices in [0, 3) or ignore_index, got 3 at row 1", {"target": [0, 3]}),
        (ValueError, "target must hold class indices here, and have shape (2,)", {"target": np.zeros((2, 3))}),
        (TypeError, "class indices must have an integer dtype, got float64", {"target": [0.0, 1.0]}),
        (ValueError, "temperature must be a finite number > 0, got 0", {"temperature": 0}),
        (ValueError, "axis must be in [-2, 2) for logits with 2 dimensions, got 2", {"axis": 2}),
    ],
)
def test_errors(error, text, options):
    options = {"target": [0, 1], "want": "log_prob", **options}
    with pytest.raises(error) as caught:
        fs.row_stats(np.zeros((2, 3)), **options)
    assert text in str(caught.value)

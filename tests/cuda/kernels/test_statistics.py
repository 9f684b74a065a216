"""The GPU kernels of row statistics, executed by the interpreter of their PTX, in every form.  No GPU."""

import numpy as np
import pytest

from fastsoftmax.core.statistics import NAMES, STATISTICS
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR, TINY
from tests.cuda.kernels.row_statistics import ONE_EACH, compare, statistics_of
from tests.cuda.kernels.support import A100, H200, Lie
from tests.pairs import exhaustive_but
from tests.support import computed, labels, logits

inf, nan = np.inf, np.nan
#: Dtype and classes of each form.
CASES = {
    SCALAR: (FLOAT32, 50), PART_WARP: (FLOAT32, 10), WARP: (BFLOAT16, 515), BLOCK: (FLOAT32, 5001),
    SHARED: (FLOAT16, 65701), CLUSTER: (FLOAT64, 17001), ONLINE: (FLOAT32, 33001),
}  # fmt: skip
EACH = [(form, *about) for form, about in CASES.items()]
by_form = pytest.mark.parametrize(
    ("form", "dtype", "classes"),
    exhaustive_but([EACH[form] for form in (PART_WARP, BLOCK, CLUSTER, ONLINE)], EACH),
    ids=str,
)
USUAL = "log_prob", "entropy", "correct"
SETS = ["argmax", "entropy", "rank margin", " ".join(USUAL), "max_prob rank", "log_sum_exp argmax", "top_k"]


def how(form):
    """What makes a plan choose a form."""
    return {
        "lie": MAJOR if form == SCALAR else Lie(offset=2) if form == BLOCK else Lie(),
        "facts": {SHARED: A100, ONLINE: TINY}.get(form, H200),
    }


def drawn(dtype, classes):
    """Rows of every sort, and their targets; one row is ignored."""
    x, random = logits(classes, (16, classes), dtype), np.random.default_rng(classes)
    target = labels(random, x.shape, ignored=0.0)
    target[:3] = x[:3].argmax(axis=-1)
    x[1] += np.float32(1000).astype(dtype)
    x[4], target[4] = nan, -100
    x[5], x[6, -1], x[7, classes // 2], x[8, [0, -1]] = -inf, inf, nan, nan
    x[9], x[10], x[11, : classes - 1], x[12, 1:] = random.integers(-2, 3, classes), 3.0, -inf, -inf
    x[13], x[14, target[14]], x[15, target[15]] = 0.0, nan, -inf
    x[13, target[13]] = 15.0
    return x, target


@by_form
def test_all_statistics(form, dtype, classes):
    """Of rows with ties, infinities and NaN, and of certain ones; a row is read once, and not if it is ignored."""
    x, target = drawn(dtype, classes)
    found, made, traffic = statistics_of(x, target, ONE_EACH, **how(form))
    assert made.form == form
    compare(found, x, target, ONE_EACH)
    rough, _, _ = statistics_of(x, target, ONE_EACH, rough=True, **how(form))
    compare(rough, x, target, ONE_EACH, ulps=16)
    used, row = np.count_nonzero(target != -100), x.nbytes // len(x)
    each = made.group * made.cluster * dtype.itemsize  # every thread of a row looks its target's logit up
    assert used * row <= traffic["x"].loaded <= used * (row + each)
    assert {name: traffic[name].stored for name in found} == {name: column.nbytes for name, column in found.items()}


@pytest.mark.parametrize(
    ("form", "dtype", "classes"), exhaustive_but([EACH[form] for form in (PART_WARP, ONLINE)], EACH), ids=str
)
def test_top_k(form, dtype, classes):
    """Of rows of every sort the largest classes; a row that is held is read once all the same."""
    x, target = drawn(dtype, classes)
    found, made, traffic = statistics_of(x, target, ["top_k"], **how(form))
    compare(found, x, target, ["top_k"])
    times = 4 if form in (SCALAR, SHARED, ONLINE) else 1
    most = times * x.nbytes // len(x) + made.group * made.cluster * dtype.itemsize
    assert traffic["x"].loaded <= np.count_nonzero(target != -100) * most
    found, _, _ = statistics_of(x[:, :9], None, ["top_k"], k=9)
    compare(found, x[:, :9], None, ["top_k"], k=9)


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], list(CASES)))
@pytest.mark.parametrize("want", exhaustive_but([SETS[0], SETS[3]], SETS))
def test_sets_of_statistics(want, form):
    """They are the same as together with all others, bit by bit, and nothing else is written."""
    (dtype, classes), want = CASES[form], want.split()
    x, target = drawn(dtype, classes)
    needed = any(s.needs_target for s in STATISTICS if s.name in want)
    x[4] = x[3]  # which is ignored only where there is a target
    found, _, traffic = statistics_of(x, target if needed else None, want, **how(form))
    compare(found, x, target if needed else None, want)
    assert {name for name, moved in traffic.items() if moved.stored} == set(found)


@pytest.mark.parametrize(("form", "label"), exhaustive_but([(PART_WARP, 4)], [(PART_WARP, 4), (WARP, 8), (ONLINE, 4)]))
def test_labels(form, label):
    """Of int32 and int64; the statistics of a row whose label is no class are NaN, -1 and False, ignored ones 0."""
    dtype, classes = CASES[form]
    x = logits(1, (6, classes), dtype)
    target = np.array([0, classes, classes - 1, -1, -7, 1])
    found, _, _ = statistics_of(x, target, NAMES, **how(form), label=label, ignore_index=-7)
    good = np.array([0, 2, 4, 5])
    compare({n: column[good] for n, column in found.items()}, x[good], target[good], NAMES, ignore_index=-7)
    for name in NAMES:
        rest = {"argmax": -1, "rank": -1, "correct": False}.get(name, nan)
        np.testing.assert_array_equal(found[name][[1, 3]], rest)
    np.testing.assert_array_equal(found["indices"][[1, 3, 4]], -1)


@pytest.mark.parametrize(("form", "dtype"), exhaustive_but([(BLOCK, FLOAT32)], [(BLOCK, FLOAT32), (ONLINE, FLOAT16)]))
def test_transforms(form, dtype):
    """Softcap, then temperature; the order is that of the logits as they came, however flat the cap is."""
    options = {"softcap": 3.0, "temperature": 0.7}
    x = logits(2, (8, 515 if form == BLOCK else 65701), dtype, 30.0)
    target = x.argmax(axis=-1)
    target[4:] = labels(np.random.default_rng(1), x[4:].shape, ignored=0)
    x[7] = -inf
    found, made, _ = statistics_of(x, target, NAMES, **how(form), **options)
    assert made.form == form
    compare(found, x, target, NAMES, **options)


def test_one_class():
    """It is the largest, has no other, and a softcap does not find one in what is not there."""
    x, target = np.array([[2.0], [-inf], [nan]], np.float32), np.zeros(3, int)
    for options in ({}, {"softcap": 2.0}):
        found, _, _ = statistics_of(x, target, NAMES, k=1, **options)
        compare(found, x, target, NAMES, k=1, **options)
    assert found["margin"][0] == inf


LIES = [Lie(step=-1, offset=5), Lie(step=2, extra=3, inner=2, apart=7), Lie(backwards=True, extra=1)]


@pytest.mark.parametrize("lie", exhaustive_but(LIES[:1], LIES), ids=["backwards", "apart", "rows backwards"])
def test_layouts(lie):
    """The target's logit is looked up where the others are."""
    x, target = drawn(FLOAT32, 10)
    found, _, _ = statistics_of(x, target, NAMES, lie=lie)
    compare(found, x, target, NAMES)


@by_form
def test_certain_rows_keep_their_digits(form, dtype, classes):
    """Log-probabilities and entropies near 0: 3 ulps, and half of one for each unit that the largest is ahead."""
    gap = np.array([0.0, 1.0, 5.0, 10.0, 20.0, 40.0])
    x, place = np.zeros((len(gap), classes), dtype), np.arange(len(gap)) % classes
    x[np.arange(len(gap)), place] = gap
    found, _, _ = statistics_of(x, place, USUAL, **how(form))
    d = -np.asarray(gap, np.longdouble)
    rest = (classes - 1) * np.exp(d)
    entropy, eps = np.log1p(rest) - rest * d / (1 + rest), np.finfo(computed(dtype)).eps
    for got, exact in ((found["log_prob"], -np.log1p(rest)), (found["entropy"], entropy)):
        assert (np.abs(got - exact) <= (4 + gap / 4) * eps * np.abs(exact)).all()
    assert found["correct"].all()

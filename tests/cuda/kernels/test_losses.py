"""The GPU kernels of losses against the reference in higher precision, executed by the interpreter of their PTX.

That shows what they compute, and what they read and write; it is no result of a GPU.
"""

import numpy as np
import pytest

from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, EACH, FLOAT16, FLOAT32, FLOAT64, OTHERS, SOFTS, USUAL, Case
from tests.cuda.kernels.support import Lie, assert_as_reference, loss_of, options_of
from tests.interpreter.spaces import Global, Space
from tests.pairs import exhaustive_but
from tests.support import SOFT_OPTIONS, labels, logits

HARD = EACH + OTHERS
every = pytest.mark.parametrize("case", exhaustive_but(USUAL, HARD + SOFTS), ids=lambda case: case.name)
indices = pytest.mark.parametrize("case", exhaustive_but(USUAL, HARD), ids=lambda case: case.name)
probabilities = pytest.mark.parametrize("case", exhaustive_but(USUAL, SOFTS), ids=lambda case: case.name)
inf, nan = np.inf, np.nan


def test_each_meets_each():
    """Every form holds every dtype it can, and takes every kind of target; so do the options."""
    cases = HARD + SOFTS
    assert {case.form for case in EACH} == {SCALAR, PART_WARP, WARP, BLOCK, SHARED, CLUSTER, ONLINE}
    for form in (SCALAR, PART_WARP, WARP, BLOCK, SHARED, CLUSTER, ONLINE):
        mine = [case for case in cases if case.form == form]
        assert len({case.dtype for case in mine}) >= 2
        assert {bool(case.soft) for case in mine} == {False, True}
        used = {name for case in mine for name in case.options}
        assert used >= {"label_smoothing", "temperature", "sample_weight", "class_weight", "softcap", "z_loss"}
    assert {case.dtype for case in SOFTS} == {FLOAT16, BFLOAT16, FLOAT32, FLOAT64}
    assert {case.dtype for case in OTHERS if case.label == 4} == {BFLOAT16, FLOAT32, FLOAT64}
    assert {bool(case.soft == case.dtype) for case in SOFTS} == {False, True}


@every
def test_values(case):
    """Also where approximate instructions are as wrong as a GPU's may be; each logit is read once where it is held."""
    x, target, options = case.drawn(20 if case.classes < 10000 else 17)
    for rough in (False, True):
        result = loss_of(x, target, options, **case.how, rough=rough)
        assert result.plan.form == case.form
        assert_as_reference(x, target, options, result)
    assert result.moved("out") == (0, x.nbytes)
    read, written = result.moved("x")
    assert written == 0
    if case.form in (SCALAR, ONLINE):
        assert read <= 2 * x.nbytes
    else:  # where a row is kept in shared memory its ends are read twice
        assert x.nbytes <= read <= x.nbytes * (1.001 if case.form == SHARED else 1)
    if case.soft:
        assert result.moved("y")[0] <= target.nbytes * (2 if case.form in (SCALAR, ONLINE, SHARED) else 1)


#: What the plan makes of 131073 and more classes, for fewer: a cluster whose blocks keep rounds of 64 vectors.
STAGED = {"form": CLUSTER, "threads": 64, "group": 64, "items": 2, "cluster": 2, "grid": 4, "shared": 6 * 64 * 16}

IN_CLUSTERS = [
    Case(FLOAT32, 3001, CLUSTER, Lie(offset=3)),
    Case(BFLOAT16, 5003, CLUSTER, options=SOFT_OPTIONS[-1], soft=BFLOAT16),
]


@pytest.mark.parametrize(
    "case",
    exhaustive_but(IN_CLUSTERS[1:], IN_CLUSTERS),
    ids=lambda case: case.name,
)
def test_rows_in_the_shared_memory_of_a_cluster(case):
    """Two clusters for three rows: one has a second row where its first one was.  Each logit is read once."""
    x, target, options = case.drawn(3)
    result = loss_of(x, target, options, **case.how, change=STAGED)
    assert_as_reference(x, target, options, result)
    assert x.nbytes <= result.moved("x")[0] <= 1.02 * x.nbytes
    assert result.moved("out") == (0, x.nbytes)


def special(case):
    """Rows with infinities, NaN, common offsets, and gaps of many sizes."""
    k, dtype = case.classes, case.dtype
    x, target, options = case.drawn(20)
    far = {FLOAT16: 6e4, FLOAT64: 1e15}.get(dtype, 1e7)
    x[0, : k // 2] = -inf
    x[1] = -inf
    x[3, k - 1] = inf
    x[4, k // 2] = nan
    x[8] += dtype.type(1e4)
    x[9] = far + np.arange(k) % 5 * (0 if dtype == FLOAT16 else 4)
    x[12] = 3.0
    x[16] = np.where(np.arange(k) % 3, -6e4, 6e4)
    x[17, : k - 1] = -inf  # the first tile, the second, ...
    x[18, 1:] = -inf
    return x, target, options


@indices
def test_special_values(case):
    """Each poisons its own row only, and no row that is ignored; confident rows keep their digits.  All in place."""
    x, target, options = special(case)
    rows = np.arange(20)
    target[[6, 7]] = -100
    at = np.where(target < 0, 0, target)
    x[2, at[2]] = -inf
    x[5, at[5]] = nan
    x[6], x[7, -1] = nan, inf
    for row, gap in ((10, 600), (11, 20), (13, 5), (14, 50), (15, 80)):
        x[row] = np.where(np.arange(case.classes) == at[row], gap / 2, -gap / 2 - np.arange(case.classes) % 3)
    target[[2, 5, 10, 11, 13, 14, 15]] = at[[2, 5, 10, 11, 13, 14, 15]]
    if "sample_weight" in options:
        options["sample_weight"][6:8], options["sample_weight"][11:16] = (inf, nan), 1.5
    result = loss_of(x, target, options, **case.how, in_place=True)
    exact = assert_as_reference(x, target, options, result)
    assert not result.out[6:8].any()
    confident = (exact.loss > 0) & (exact.loss < 1e-2)
    error = 2e-14 if case.dtype == FLOAT64 else 2e-5
    np.testing.assert_allclose(result.rows[confident], exact.loss[confident], rtol=error, atol=1e-36)
    if not options and case.classes > 1:
        assert np.isnan(result.rows[[1, 3, 4, 5]]).all()
        assert result.rows[2] == inf
        assert confident[[11, 13, 14, 15]].any()
        assert (result.rows[rows[target >= 0]] >= 0).sum() == (target >= 0).sum() - 4


@probabilities
def test_special_values_with_probabilities(case):
    """A class of no weight may be impossible: 0 times infinity is 0.  All in place."""
    x, target, options = special(case)
    target[0, : case.classes // 2] = 0
    target[2], x[2, 1], target[2, 1] = 1, -inf, 0.5
    target[5, 0] = nan
    target[13] = 0
    target[14], target[14, -1] = 0, 1
    target[17, : case.classes - 1] = 0
    target[18, 1:] = 0
    result = loss_of(x, target, options, **case.how, in_place=True)
    assert_as_reference(x, target, options, result)


@indices
def test_labels_out_of_range(case):
    """NaN in their rows, nothing read out of bounds, and the last such row is reported."""
    k = case.classes
    x, _, options = case.drawn(11)
    wrong = [-1, k, 1 << 31, (1 << 32) + 1, -(1 << 63), 0, k - 1, -100, 1 << 40, (1 << 63) - 1, 0]
    if case.label == 4:
        wrong = [-1, k, (1 << 31) - 1, -(1 << 31), k + 1, 0, k - 1, -100, -99, -101, 0]
    wrong = np.array(wrong)
    used, nothing = np.isin(np.arange(11), (5, 6, 10)), wrong == -100
    unasked = loss_of(x, wrong, options, **case.how, wants_bad=False)
    result = loss_of(x, wrong, options, **case.how)
    np.testing.assert_array_equal(unasked.rows, result.rows)
    assert np.isnan(result.rows[~used & ~nothing]).all()
    assert np.isnan(result.out[~used & ~nothing]).all()
    assert result.bad == 10
    right = np.where(used | nothing, wrong, -100)
    expected = loss_of(x, right, options, **case.how)
    assert expected.bad == 0
    for a, b in ((result.rows, expected.rows), (result.out, expected.out)):
        np.testing.assert_array_equal(a[used | nothing], b[used | nothing])


@indices
def test_labels_that_change(case, monkeypatch):
    """Every reading finds another label, in range or not: any result, no access out of bounds, and an end.

    A thread reads its row's label once, as somebody who owns the target may write to it during the launch.
    """
    x, target, options = case.drawn(11)
    random, k, places = np.random.default_rng(case.classes), case.classes, set()
    wide = [1 << 31, (1 << 32) + 1, -(1 << 63), 1 << 40] if case.label == 8 else [(1 << 31) - 1, -(1 << 31)]
    pool, load = np.array([-1, k, k + 1, -100, *wide, *range(min(k, 8)), k - 1]), Global.load

    def another(self, site, address, lanes):
        found = load(self, site, address, lanes)
        if self.memory.at(int(address.min())).name != "target":
            return found
        places.add(site.instruction.where())
        return random.choice(pool, len(found)).astype(found.dtype)

    monkeypatch.setattr(Global, "load", another)
    monkeypatch.setattr(Space, "fresh", lambda *_: None)  # where no thread of a row believes that it has the target
    monkeypatch.setattr(Space, "race", lambda *_: None)  # where two do
    loss_of(x, target, options, **case.how)
    assert len(places) == 1  # in the program


@pytest.mark.parametrize("ignore_index", [0, 3, 19, 20, 255, -7])
def test_ignore_index_may_be_a_class_or_no_class(ignore_index):
    random, case = np.random.default_rng(1), next(case for case in OTHERS if case.options == {"class_weight": True})
    x = logits(1, (30, case.classes), FLOAT32)
    options = {"class_weight": random.uniform(0.5, 2, case.classes), "ignore_index": ignore_index}
    target = labels(random, x.shape, ignore_index=ignore_index)
    assert_as_reference(x, target, options, loss_of(x, target, options, **case.how))


@pytest.mark.parametrize("case", exhaustive_but(USUAL, EACH), ids=lambda case: case.name)
def test_in_place(case):
    """The logits' own memory takes the gradient: no thread reads what another one may have overwritten."""
    x, target, options = case.drawn(5)
    separate, inside = (loss_of(x, target, options, **case.how, in_place=k) for k in (False, True))
    np.testing.assert_array_equal(separate.out, inside.out)
    np.testing.assert_array_equal(separate.rows, inside.rows)


def test_many_equal_classes():
    """The sum of a quarter of a million ones."""
    case = Case(FLOAT32, 262145, ONLINE, facts=EACH[-1].facts)
    x, target = np.full((2, case.classes), 7, FLOAT32), np.array([0, case.classes - 1])
    result = loss_of(x, target, {}, **case.how)
    np.testing.assert_allclose(result.rows, np.log(case.classes), rtol=3e-7)
    np.testing.assert_allclose(result.out[:, 1], 1 / case.classes, rtol=3e-7)


def test_denominator():
    """A mean's gradients are divided by one number in memory; by 0 they are NaN, except for ignored rows."""
    x, target = logits(3, (7, 10), FLOAT32), np.array([1, 2, -100, 3, 4, 5, 6])
    plain, halved, nothing = (loss_of(x, target, {}, denominator=d) for d in (None, 4.0, 0.0))
    np.testing.assert_array_equal(halved.out, plain.out / 4)
    assert not nothing.out[2].any()
    assert np.isnan(np.delete(nothing.out, 2, axis=0)).all()
    np.testing.assert_array_equal(nothing.rows, plain.rows)


def test_scale():
    x, target = logits(3, (7, 10), FLOAT32), np.arange(7)
    numbers = options_of(10)[1]._replace(scale=-0.5)
    scaled = loss_of(x, target, {}, numbers=numbers)
    assert_as_reference(x, target, {}, scaled, scale=-0.5)


def test_factors_are_optional_one_by_one():
    x, target, factor = logits(3, (7, 10), FLOAT32), np.arange(7), np.linspace(-1, 2, 7)
    flags = {"sample_weight": factor}
    both, plain = loss_of(x, target, flags), loss_of(x, target, {})
    only_loss, only_grad = (
        loss_of(x, target, flags, without="grad_factor"),
        loss_of(x, target, flags, without="loss_factor"),
    )
    np.testing.assert_array_equal(only_loss.rows, both.rows)
    np.testing.assert_array_equal(only_loss.out, plain.out)
    np.testing.assert_array_equal(only_grad.rows, plain.rows)
    np.testing.assert_array_equal(only_grad.out, both.out)


def test_more_rows_than_blocks():
    """Blocks come back for more rows; their sums of losses are exact to the last bit but a few."""
    random = np.random.default_rng(8)
    x = logits(8, (1500, 10), FLOAT32)
    target = labels(random, x.shape)
    result = loss_of(x, target, {}, change={"grid": 3})
    assert_as_reference(x, target, {}, result)


@pytest.mark.parametrize("classes", [10, 1001])
def test_the_sum_of_an_infinite_loss_is_infinite(classes):
    """And not NaN, by what compensation makes of it; whichever thread adds it, and whatever follows."""
    x, target = logits(3, (9, classes), FLOAT32), np.zeros(9, np.int64)
    x[[1, 2], 0] = -inf
    result = loss_of(x, target, {}, change={"grid": 1})
    assert_as_reference(x, target, {}, result)
    assert result.total == inf

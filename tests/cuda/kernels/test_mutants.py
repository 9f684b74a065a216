"""GPU kernels that are wrong in one place do not pass: each barrier, each guard of an access, each shuffle in turn.

The kernels are executed by the interpreter of PTX, wrong ones as right ones.  No GPU.
"""

import numpy as np
import pytest

from fastsoftmax import log_softmax, log_softmax_vjp, logsumexp, softmax, softmax_vjp
from fastsoftmax.core.dtypes import FLOAT32 as SINGLE
from fastsoftmax.core.dtypes import FLOAT64 as DOUBLE
from fastsoftmax.core.dtypes import LOG_SOFTMAX, LOGSUMEXP
from fastsoftmax.core.statistics import NAMES
from fastsoftmax.cuda.plan import ONLINE
from tests.cuda.kernels.counting import counted, totalled
from tests.cuda.kernels.divergences import compare as compare_divergences
from tests.cuda.kernels.divergences import divergence_of
from tests.cuda.kernels.forms import BFLOAT16, EACH, FLOAT32, FLOAT64, MAJOR, SOFTS
from tests.cuda.kernels.hessians import compare_hessians, hessian_of_rows
from tests.cuda.kernels.row_statistics import compare, compare_derivatives, derivative_of, statistics_of
from tests.cuda.kernels.support import A100, assert_as_reference, loss_of, run
from tests.interpreter import mutants, ptx
from tests.pairs import exhaustive_but
from tests.support import both, check, probabilities

CASES = {case.form: case for case in EACH}
MUTANTS = {
    "barriers": mutants.without_barriers,
    "guards": mutants.with_inverted_guards,
    "shuffles": mutants.with_other_shuffles,
}


def spread(dtype, n, classes):
    """Every second row has a logit so large that no other one will do as the shift of the exponentials.

    It lies with the last thread of a warp, of a block, of a cluster, with the first one, and anywhere: what a shuffle
    leaves out is left out somewhere.
    """
    random, vector = np.random.default_rng(classes), 16 // dtype.itemsize
    x, large = random.standard_normal((n, classes)), np.arange(0, n, 2)
    at = random.integers(0, classes, len(large))
    threads = np.array([511, 2047, 31, 0, 1023])[: len(large)]
    there = vector * threads + vector - 1
    at[: len(threads)] = np.where(there < classes, there, at[: len(threads)])
    x[large, at] += 2000 if dtype == FLOAT64 else 200
    target = random.integers(0, classes, n)
    target[0] = classes - 1
    return x.astype(dtype), target


def loss(dtype, n, classes, **how):
    """A trial of a loss and its gradient."""
    x, target = spread(dtype, n, classes)

    def trial(ptx_of):
        assert_as_reference(x, target, {}, loss_of(x, target, {}, ptx_of=ptx_of, **how))

    return trial


def masked_loss(dtype, n, classes, **how):
    """A trial of a loss with a mask and an offset; classes that are left out are NaN."""
    (x, target), random = spread(dtype, n, classes), np.random.default_rng(6)
    options = {"where": random.random((n, classes)) < 0.8, "class_offset": random.normal(size=classes).astype(FLOAT32)}
    options["where"][range(n), target] = options["where"][x > 100] = True
    x[~options["where"]] = np.nan

    def trial(ptx_of):
        assert_as_reference(x, target, options, loss_of(x, target, options, ptx_of=ptx_of, **how))

    return trial


def soft_loss(case, n):
    """A trial of a loss of soft targets, with every option."""
    x, _ = spread(case.dtype, n, case.classes)
    _, _, options = case.drawn(n)
    target = probabilities(np.random.default_rng(1), x.shape, case.soft)

    def trial(ptx_of):
        assert_as_reference(x, target, options, loss_of(x, target, options, ptx_of=ptx_of, **case.how))

    return trial


def mapped(function, variant, n, classes, **how):
    """A trial of softmax, log_softmax or logsumexp."""
    x, _ = spread(FLOAT32, n, classes)

    def trial(ptx_of):
        found = run("softmax", x, variant=variant, wants_rows=variant == LOGSUMEXP, ptx_of=ptx_of, **how)
        check(function, x, actual=found.rows if variant == LOGSUMEXP else found.out)

    return trial


def product(function, variant, n, classes, **how):
    """A trial of a product."""
    y = both(log_softmax if variant else softmax, spread(FLOAT32, n, classes)[0] / 50, dtype=FLOAT32)[1]
    g = np.random.default_rng(2).uniform(1, 2, y.shape).astype(FLOAT32)
    size = np.abs(g * (1 if variant else y)).sum(axis=-1, keepdims=True)

    def trial(ptx_of):
        found = run("vjp", y, y=g, variant=variant, wants_rows=False, ptx_of=ptx_of, **how)
        check(function, y, g, actual=found.out, size=size)

    return trial


def statistics(n, classes, **how):
    """A trial of all statistics; of some rows the largest logits are all over them, others are all but certain."""
    x, target = spread(FLOAT32, n, classes)
    x[1::4] = np.random.default_rng(4).integers(0, 3, x[1::4].shape)
    x[3::4, classes // 2] = x[3::4].max(axis=-1) + 5
    x[n // 4 * 2, classes // 3], x[n // 4, classes - 1], target[5::4] = np.nan, np.inf, -100

    def trial(ptx_of):
        found, _, _ = statistics_of(x, target, NAMES, ptx_of=ptx_of, **how)
        compare(found, x, target, NAMES)

    return trial


def derivatives(n, classes, **how):
    """A trial of the gradient of statistics, of rows like those of `statistics` without NaN."""
    x, target = spread(FLOAT32, n, classes)
    x[1::4] = np.random.default_rng(4).integers(0, 3, x[1::4].shape)
    x[3::4, classes // 2] = x[3::4].max(axis=-1) + 5
    target[3::8], target[5::4] = classes // 2, -100
    ups = np.random.default_rng(5).normal(size=n), np.ones(n), 0.5

    def trial(ptx_of):
        compare_derivatives(derivative_of(x, target, ups, ptx_of=ptx_of, **how)[0], x, target, ups)

    return trial


def hessian(n, classes, **how):
    """A trial of gradient and Hessian, of rows like those of `derivatives`, every second one of another class."""
    x, target = spread(FLOAT32, n, classes)
    x[1::4] = np.random.default_rng(4).integers(0, 3, x[1::4].shape)
    x[3::4, classes // 2] = x[3::4].max(axis=-1) + 5
    target[3::8], target[5::4] = classes // 2, -100

    def trial(ptx_of):
        compare_hessians(hessian_of_rows(x, target, ptx_of=ptx_of, **how)[:2], x, target)

    return trial


def divergence(n, classes, **how):
    """A trial of a divergence that takes every pass, of rows whose largest logits are others in student and teacher."""
    x, y = spread(FLOAT32, n, classes)[0], spread(FLOAT32, n + 1, classes)[0][1:]
    x[n // 3], y[n // 2] = y[n // 3], 1.0
    weight = np.random.default_rng(6).uniform(1, 2, n).astype(FLOAT32)
    options = {"direction": 0.3, "sample_weight": weight}

    def trial(ptx_of):
        rows, total, grad, _, _ = divergence_of(x, y, ptx_of=ptx_of, **options, **how)
        compare_divergences(rows, grad, x, y, **options)
        np.testing.assert_allclose(total, rows.astype(np.longdouble).sum(), rtol=1e-14)

    return trial


def count(ptx_of):
    """A trial of the denominator, with a label out of range the second time; more rows a thread than are unrolled."""
    random = np.random.default_rng(3)
    target, weight, factor = random.integers(0, 7, 6001), random.uniform(size=7), random.uniform(size=6001)
    expected = weight.astype(FLOAT32).astype(np.float64)[target] * factor.astype(FLOAT32)
    for wants_bad in (True, False):
        sums, bad, _ = counted(SINGLE, target, weight, factor, blocks=2, wants_bad=wants_bad, ptx_of=ptx_of)
        np.testing.assert_allclose(sums.sum(), expected.sum(), rtol=1e-14)
    target[[5, 700]] = 7, -100
    target[9] = -5
    sums, last, _ = counted(SINGLE, target, None, None, blocks=2, ptx_of=ptx_of)
    assert np.isnan(sums.sum())
    assert (bad, last) == (0, 10)


def total(ptx_of):
    """A trial of the sum of partial sums."""
    partial = np.random.default_rng(1).uniform(1, 3, 1234)
    for denominator in (None, 7.0):
        found, _ = totalled(DOUBLE, partial, denominator, ptx_of=ptx_of)
        np.testing.assert_allclose(found, partial.sum() / (denominator or 1), rtol=1e-14)


#: name: trial, and the least numbers of barriers, guards and shuffles.
TRIALS = {
    "loss-scalar": (loss(FLOAT32, 200, 50, lie=MAJOR, change={"grid": 1}), (1, 3, 5)),
    # Several rows a thread, whose sum has something to compensate.
    "loss-part_warp": (loss(FLOAT32, 200, 10, change={"grid": 1}), (1, 5, 5)),
    "loss-warp": (loss(FLOAT32, 20, 1001, change={"grid": 1}), (1, 5, 5)),
    "loss-block": (loss(BFLOAT16, 12, 5003, change={"grid": 3}), (1, 5, 5)),
    "loss-shared": (loss(FLOAT32, 4, 33001, facts=A100, change={"grid": 2}), (1, 5, 5)),
    "loss-cluster": (loss(FLOAT32, 8, 40001), (1, 5, 5)),
    "loss-online": (loss(FLOAT32, 8, 33001, facts=CASES[ONLINE].facts), (1, 5, 5)),
    "soft-online": (soft_loss(next(case for case in SOFTS if case.form == ONLINE and not case.options), 6), (1, 5, 5)),
    "masked-warp": (masked_loss(FLOAT32, 20, 1001, change={"grid": 1}), (1, 5, 5)),
    "masked-shared": (masked_loss(BFLOAT16, 4, 33001, facts=A100, change={"grid": 2}), (1, 5, 5)),
    "softmax-cluster": (mapped(softmax, 0, 6, 17001), (1, 2, 5)),
    "log_softmax-block": (mapped(log_softmax, LOG_SOFTMAX, 6, 5001, change={"grid": 2}), (1, 2, 5)),
    "logsumexp-part_warp": (mapped(logsumexp, LOGSUMEXP, 60, 10), (0, 2, 3)),
    "vjp-cluster": (product(softmax_vjp, 0, 6, 17001), (1, 5, 5)),
    "vjp-block": (product(log_softmax_vjp, LOG_SOFTMAX, 6, 5001, change={"grid": 2}), (1, 5, 5)),
    "vjp-online": (product(log_softmax_vjp, LOG_SOFTMAX, 5, 33001, facts=CASES[ONLINE].facts), (1, 5, 5)),
    "statistics-part_warp": (statistics(60, 10), (0, 2, 5)),
    "statistics-block": (statistics(12, 5001, change={"grid": 3}), (3, 2, 5)),
    "statistics-cluster": (statistics(24, 17001), (3, 2, 5)),
    "statistics-online": (statistics(8, 33001, facts=CASES[ONLINE].facts), (3, 2, 5)),
    "derivatives-part_warp": (derivatives(60, 10), (0, 2, 5)),
    "derivatives-block": (derivatives(16, 5001, change={"grid": 3}), (2, 2, 5)),
    "derivatives-cluster": (derivatives(16, 17001), (2, 2, 5)),
    "derivatives-online": (derivatives(16, 33001, facts=CASES[ONLINE].facts), (2, 2, 5)),
    "hessian-part_warp": (hessian(60, 10), (0, 2, 5)),
    "hessian-block": (hessian(16, 5001, change={"grid": 3}), (2, 2, 5)),
    "hessian-cluster": (hessian(16, 17001), (2, 2, 5)),
    "divergence-part_warp": (divergence(200, 10, change={"grid": 1}), (1, 4, 5)),
    "divergence-block": (divergence(12, 3001, change={"grid": 3}), (5, 4, 5)),
    "divergence-cluster": (divergence(12, 17001), (5, 4, 5)),
    "divergence-online": (divergence(6, 17001, facts=CASES[ONLINE].facts), (5, 4, 5)),
    "count": (count, (1, 2, 5)),
    "total": (total, (1, 1, 5)),
}


#: Shuffles that exchange what nobody looks at: they are there for the barriers between them, or for other kernels.
SILENT = {
    "vjp-cluster": range(11),
    "vjp-block": range(9),
    "vjp-online": range(9),
    "logsumexp-part_warp": range(1),
    "statistics-part_warp": (0, 15),
    "divergence-part_warp": range(1),
    "divergence-block": range(36, 45),
    "divergence-cluster": range(44, 55),
    "divergence-online": range(36, 45),
}
#: In float64 half of the shuffles are of digits that a common shift of exponentials does not need.
BOTH = [(name, kind) for name in TRIALS for kind in MUTANTS if (name, kind) != ("soft-online", "shuffles")]
#: Kernels whose mutants run in a second; the rest takes a minute.
USUAL = [("loss-block", "barriers"), ("loss-part_warp", "guards"), ("total", "shuffles"), ("count", "barriers")]


@pytest.mark.parametrize(("name", "kind"), exhaustive_but(USUAL, BOTH))
def test_kernels_that_are_wrong_in_one_place_fail(name, kind):
    trial, least = TRIALS[name]
    texts, left, tried = [], [], 0
    trial(lambda compiled: texts.append(text_of(compiled)) or texts[0])
    for what, text in MUTANTS[kind](texts[0]):
        tried += 1
        try:
            trial(lambda _, text=text: text)
            if not what.startswith(tuple(f"shuffle {i}," for i in SILENT.get(name, ()))):
                left.append(what)
        except (ptx.PtxError, AssertionError):
            pass
    assert tried >= least[list(MUTANTS).index(kind)]
    assert not left


def text_of(compiled):
    """The PTX of a kernel."""
    return getattr(compiled, "ptx", compiled)

"""The GPU kernels of adjusted logits, with masks and offsets, against the reference; executed from their PTX.

Classes that are left out hold NaN and infinities, so that whatever looks at them is noticed.
"""

import numpy as np
import pytest

from fastsoftmax import log_softmax, logsumexp, softmax
from fastsoftmax.core.dtypes import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from fastsoftmax.core.statistics import NAMES
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR, TINY, edges
from tests.cuda.kernels.row_statistics import compare, compare_derivatives, derivative_of, statistics_of
from tests.cuda.kernels.support import A100, H200, Lie, assert_as_reference, loss_of, run
from tests.pairs import exhaustive_but
from tests.support import check, filled, logits, probabilities

inf, nan = np.inf, np.nan
BOTH = "mask", "offset"
SOFT = {"soft": True}
#: Form, dtype, classes, what adjusts, options: each form, with rows that are peeled, kept or read twice.
LOSSES = [
    (PART_WARP, FLOAT32, 10, BOTH, {}),
    (PART_WARP, FLOAT16, 22, BOTH, {"softcap": 4.0, "temperature": 0.8, "sample_weight": True}),
    (SCALAR, FLOAT32, 50, BOTH, {"label_smoothing": 0.1}),
    (WARP, BFLOAT16, 403, ("mask",), {"label_smoothing": 0.2, "class_weight": True}),
    (WARP, FLOAT64, 121, ("offset",), {"focal_gamma": 1.5, "z_loss": 0.01}),
    (BLOCK, FLOAT32, 3001, BOTH, {"softcap": 4.0, "temperature": 0.8, "label_smoothing": 0.1}),
    (BLOCK, FLOAT16, 3000, BOTH, {"label_smoothing": 0.1, **SOFT}),
    (CLUSTER, BFLOAT16, 33005, BOTH, {}),
    (SHARED, FLOAT16, 30005, BOTH, {"label_smoothing": 0.1}),
    (SHARED, FLOAT32, 33001, ("mask",), {"softcap": 4.0, "label_smoothing": 0.1, **SOFT}),
    (ONLINE, FLOAT32, 33001, BOTH, {"softcap": 4.0, "class_weight": True, "label_smoothing": 0.1}),
    (ONLINE, BFLOAT16, 65701, ("mask",), SOFT),
]


def how(form):
    """What makes a plan choose a form."""
    return {
        "lie": MAJOR if form == SCALAR else Lie(offset=3) if form == BLOCK else Lie(),
        "facts": {SHARED: A100, ONLINE: TINY}.get(form, H200),
    }


def adjusted(x, by, target=None):
    """A mask and an offset, and the logits with anything where no class is; a row has none, and some no target."""
    random, (n, k) = np.random.default_rng(5), x.shape
    where = random.random((n, k)) < 0.7 if "mask" in by else None
    offset = random.normal(size=k).astype(FLOAT32) if "offset" in by else None
    if offset is not None and k > 4:
        offset[random.random(k) < 0.2] = -inf
    there = np.ones((n, k), bool) if where is None else where
    if where is not None:
        if target is not None and target.ndim == 1:
            where[range(n), np.maximum(target, 0)] = np.arange(n) % 5 > 0
        where[3] = False
    if offset is not None:
        there = there & (offset != -inf)
    x[~there] = random.choice([nan, inf, -inf], (~there).sum()).astype(x.dtype)
    return {"where": where, "class_offset": offset}, there


def drawn(dtype, classes, by, options, rows=12):
    """(logits, targets, all options, which classes are there)."""
    random, shape, options = np.random.default_rng(classes), (rows, classes), dict(options)
    x = logits(classes, shape, dtype)
    target = edges(classes, rows)
    if options.pop("soft", False):
        target = probabilities(random, shape, x.dtype)
    else:
        target[2::7] = -100
    given, there = adjusted(x, by, target)
    if target.ndim == 2:
        target[1::2] = np.where(there[1::2], target[1::2], 0)
        x[2] = nan if np.isnan(x).any() else x[2]
    else:
        x[2] = nan  # of an ignored row
    return x, target, {**filled(options, random, shape), **given}, there


@pytest.mark.parametrize(
    ("form", "dtype", "classes", "by", "options"), exhaustive_but([LOSSES[i] for i in (1, 3, 9)], LOSSES), ids=str
)
def test_losses(form, dtype, classes, by, options):
    """Gradients are exactly 0 where no class is, NaN in a row without classes; the loss of a masked target is +inf."""
    x, target, options, there = drawn(dtype, classes, by, options)
    result = loss_of(x, target, options, **how(form))
    assert result.plan.form == form
    exact = assert_as_reference(x, target, options, result)
    finite = ~np.isnan(exact.loss)
    assert not result.out[finite][~there[finite]].any()
    assert not np.isnan(result.rows[finite]).any()
    inside = loss_of(x, target, options, **how(form), in_place=True)
    np.testing.assert_array_equal(inside.out.astype(np.float64), result.out.astype(np.float64))


#: What adjusts, form, dtype and classes of each function from rows to rows, or to a number.
MAPS = [
    (softmax, PART_WARP, FLOAT32, 10),
    (softmax, BLOCK, BFLOAT16, 3003),
    (softmax, ONLINE, FLOAT32, 33001),
    (log_softmax, SCALAR, FLOAT16, 50),
    (log_softmax, WARP, FLOAT64, 121),
    (log_softmax, SHARED, BFLOAT16, 30005),
    (logsumexp, PART_WARP, FLOAT16, 22),
    (logsumexp, CLUSTER, FLOAT32, 17001),
    (logsumexp, ONLINE, BFLOAT16, 65701),
]


def named(part):
    """A part of a case's name, the same in every process."""
    return getattr(part, "__name__", str(part))


@pytest.mark.parametrize(("function", "form", "dtype", "classes"), exhaustive_but(MAPS[1:8:3], MAPS), ids=named)
def test_maps(function, form, dtype, classes):
    """What is not there has probability 0; infinities and NaN that are there poison their rows only."""
    x = logits(classes, (9, classes), dtype)
    given, there = adjusted(x, ("mask",))
    where = given["where"]
    where[4:7, 1] = True
    x[4, 1], x[5, 1], x[6, 1] = inf, nan, -inf
    wants_rows, variant = function is logsumexp, {softmax: SOFTMAX, log_softmax: LOG_SOFTMAX}.get(function, LOGSUMEXP)
    result = run("softmax", x, variant=variant, **how(form), where=where, wants_rows=wants_rows)
    assert result.plan.form == form
    found = result.rows if wants_rows else result.out
    check(function, x, actual=found, where=where)
    if wants_rows:
        np.testing.assert_array_equal(found[3:6].astype(np.float64), [-inf, inf, nan])
    else:
        finite = [0, 1, 2, 6, 7, 8]
        assert (found[finite][~there[finite]] == (0 if function is softmax else -inf)).all()


#: Form, dtype, classes, what adjusts, options.
STATISTICS = [
    (PART_WARP, FLOAT32, 10, BOTH, {}),
    (PART_WARP, BFLOAT16, 22, ("offset",), {"softcap": 4.0}),
    (SCALAR, FLOAT16, 50, ("mask",), {"temperature": 0.7}),
    (WARP, FLOAT16, 403, BOTH, {"temperature": 0.7, "softcap": 5.0}),
    (WARP, FLOAT64, 121, BOTH, {}),
    (BLOCK, FLOAT32, 3001, ("mask",), {"softcap": 5.0}),
    (CLUSTER, BFLOAT16, 17001, BOTH, {}),
    (ONLINE, FLOAT32, 33001, BOTH, {"temperature": 0.7, "softcap": 5.0}),
]


@pytest.mark.parametrize(
    ("form", "dtype", "classes", "by", "options"), exhaustive_but(STATISTICS[3:4], STATISTICS), ids=str
)
def test_statistics(form, dtype, classes, by, options):
    """Order is that of adjusted logits; classes that are left out come last, and have the log-probability -inf."""
    x, target, options, there = drawn(dtype, classes, by, options, rows=16)
    if classes < 100:  # fewer classes than are asked for
        there[7, 2:] = False
        if options["where"] is not None:
            options["where"][7, 2:] = False
            x[7, 2:] = nan
    found, made, _ = statistics_of(x, target, NAMES, **how(form), **options, k=4)
    assert made.form == form
    compare(found, x, target, NAMES, **options, k=4)


@pytest.mark.parametrize(
    ("form", "dtype", "classes", "by", "options"), exhaustive_but(STATISTICS[5:6], STATISTICS), ids=str
)
def test_derivatives(form, dtype, classes, by, options):
    """Of a masked target too: its own gradient is 0, and those of the others are as usual."""
    x, target, options, there = drawn(dtype, classes, by, options, rows=16)
    ups = np.random.default_rng(4).normal(size=16), np.ones(16), 0.5
    found, made, _ = derivative_of(x, target, ups, **how(form), **options)
    assert made.form == form
    compare_derivatives(found, x, target, ups, **options)
    rows = np.arange(16) != 3
    assert not found[rows][~there[rows]].any()
    inside = derivative_of(x, target, ups, **how(form), **options, in_place=True)[0]
    np.testing.assert_array_equal(inside.astype(np.float64), found.astype(np.float64))


LIES = [Lie(offset=3, extra=2), Lie(step=-2, inner=3, apart=5), Lie(major=True), Lie(again=True)]


@pytest.mark.parametrize("shape", [(12, 1001), (1, 1001), (12, 1), (1, 1)], ids=str)
def test_masks_lie_anywhere(shape):
    """Between bytes that say otherwise; and one row, or one class, stands for all."""
    n, k = 12, 1001
    where = np.random.default_rng(2).random(shape) < 0.7
    for lie in LIES if shape == (n, k) else LIES[:1]:
        x = logits(k, (n, k), FLOAT32)
        given = np.repeat(where[:1], n, axis=0) if lie.again else where
        mask, inner = np.broadcast_to(given, (n, k)), Lie(inner=lie.inner)
        x[~mask] = nan
        result = run("softmax", x, where=given, mask_lie=lie, lie=inner, wants_rows=False)
        check(softmax, x, actual=result.out, where=mask)

"""The GPU kernels of softmax, log_softmax, logsumexp and their products, executed by the interpreter of their PTX."""

import numpy as np
import ptx
import pytest
import support_cuda  # noqa: F401  skips where numba-cuda is not installed
from support import check, logits
from support_kernels import A100, H200, KINDS, Lie, Placed, run

from fastsoftmax import log_softmax, log_softmax_vjp, logsumexp, softmax, softmax_vjp
from fastsoftmax.cuda import counting, kernels
from fastsoftmax.cuda.params import Counting, Totalling
from fastsoftmax.plan_cuda import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from fastsoftmax.spec import FLOAT32 as SINGLE
from fastsoftmax.spec import FLOAT64 as DOUBLE
from fastsoftmax.spec import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (KINDS[k] for k in range(4))
TINY = (2, 1024, False)
MAJOR = Lie(major=True)
FORMS = [
    (FLOAT32, 10, PART_WARP, Lie(), H200),
    (FLOAT32, 101, WARP, Lie(offset=2), H200),
    (FLOAT32, 5001, BLOCK, Lie(), H200),
    (FLOAT32, 17001, CLUSTER, Lie(), H200),
    (FLOAT32, 33001, SHARED, Lie(), A100),
    (FLOAT32, 33001, ONLINE, Lie(), TINY),
    (FLOAT32, 50, SCALAR, MAJOR, H200),
    (BFLOAT16, 515, WARP, Lie(), H200),
    (FLOAT16, 70, PART_WARP, Lie(), H200),
    (FLOAT64, 131, WARP, Lie(), H200),
]
ids = [f"{dtype}-{classes}-{form}" for dtype, classes, form, _, _ in FORMS]
OPERANDS = pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), FORMS, ids=ids)


@OPERANDS
@pytest.mark.parametrize(("function", "variant"), [(softmax, SOFTMAX), (log_softmax, LOG_SOFTMAX)])
def test_maps(function, variant, dtype, classes, form, lie, facts):
    x = logits(classes, (5, classes), dtype)
    x[1] += np.float32(1000).astype(dtype)
    x[2, : classes // 2], x[3], x[4, -1] = -np.inf, -np.inf, np.inf
    result = run("softmax", x, variant=variant, lie=lie, facts=facts, wants_rows=False)
    assert result.plan.form == form
    check(function, x, actual=result.out)
    assert result.moved("out") == (0, x.nbytes)
    assert result.moved("x")[0] <= x.nbytes * (2 if form in (ONLINE, SCALAR) else 1.001)
    assert np.isnan(result.out[3:].astype(np.float64)).all()


@OPERANDS
def test_logsumexp(dtype, classes, form, lie, facts):
    """Infinite where the maximum is, NaN where there is one, whatever else a row holds; in the logits' own dtype."""
    inf, nan = np.inf, np.nan
    x = logits(classes, (8, classes), dtype)
    x[1, : classes // 2], x[2], x[3, -1], x[4, 0], x[4, -1] = -inf, -inf, inf, inf, inf
    x[5, 0], x[5, 1], x[6, 2] = nan, inf, nan
    result = run("softmax", x, variant=LOGSUMEXP, lie=lie, facts=facts)
    assert result.plan.form in (form, PART_WARP, WARP, CLUSTER)
    check(logsumexp, x, actual=result.rows)
    assert result.rows.dtype == dtype
    np.testing.assert_array_equal(result.rows[2:5].astype(np.float64), [-inf, inf, inf])


@OPERANDS
@pytest.mark.parametrize(
    ("function", "variant"), [(softmax_vjp, SOFTMAX), (log_softmax_vjp, LOG_SOFTMAX)], ids=["softmax", "log_softmax"]
)
def test_products(function, variant, dtype, classes, form, lie, facts):
    y = run("softmax", logits(1, (5, classes), dtype), variant=variant, facts=facts, wants_rows=False).out
    g = logits(2, (5, classes), dtype)
    result = run("vjp", y, y=g, variant=variant, lie=lie, facts=facts, wants_rows=False)
    size = np.abs(g.astype(np.float64) * (y if variant == SOFTMAX else 1)).sum(axis=-1, keepdims=True)
    check(function, y, g, actual=result.out, size=size)
    assert result.moved("out") == (0, y.nbytes)
    twice = result.plan.form in (ONLINE, SCALAR)
    for operand in ("x", "y"):
        assert y.nbytes <= result.moved(operand)[0] <= y.nbytes * (2 if twice else 1)


def test_products_into_an_operand():
    y, g = (logits(k, (5, 5001), FLOAT32) for k in (1, 2))
    apart, inside = (run("vjp", y, y=g, in_place=k, wants_rows=False).out for k in (False, True))
    np.testing.assert_array_equal(apart, inside)


@pytest.mark.parametrize("label", [4, 8])
@pytest.mark.parametrize("kind", [SINGLE, DOUBLE])
@pytest.mark.parametrize("blocks", [1, 3])
def test_count(label, kind, blocks):
    """The weights of the rows that count, in float64; labels out of range are reported and make it NaN."""
    random, dtype = np.random.default_rng(3), KINDS[kind]
    target = random.integers(-1, 7, 3001)
    target[target < 0] = -100
    weight, factor = random.uniform(size=7).astype(dtype), random.uniform(size=3001).astype(dtype)
    used = target >= 0
    weights = np.where(used, weight[np.where(used, target, 0)].astype(np.float64), 0)
    cases = [
        (target, weight, factor, (weights * factor).sum(), 0),
        (target, None, None, used.sum(), 0),
        (target, weight, None, weights.sum(), 0),
        (None, None, factor, factor.sum(dtype=np.float64), 0),
        (np.where(np.arange(3001) == 2345, 7, target), None, None, np.nan, 2346),
    ]
    compiled = kernels.compiled(kernels.count_recipe(kind, label), (9, 0))
    for labels, classes, rows, expected, bad in cases:
        placed, sums, flag = Placed(), np.full(blocks, 5.0), np.zeros(1, np.int64)
        arguments = Counting(
            target=placed.vector(labels, np.int64 if label == 8 else np.int32, "target"),
            class_weight=placed.vector(classes, dtype, "class_weight"),
            loss_factor=placed.vector(rows, dtype, "loss_factor"),
            denominator=placed.memory.add(sums, "sums"),
            bad=placed.memory.add(flag, "bad"),
            rows=3001,
            classes=7,
        )
        ptx.launch(ptx.program(compiled.ptx), placed.memory, blocks, counting.THREADS, arguments)
        np.testing.assert_allclose(sums.sum(), expected, rtol=1e-14)
        assert flag[0] == bad


@pytest.mark.parametrize("kind", [SINGLE, DOUBLE])
def test_total(kind):
    """The sum in float64, divided where there is something to divide by; the mean of nothing is NaN."""
    partial = np.random.default_rng(1).uniform(-1, 3, 1234)
    compiled = kernels.compiled(kernels.total_recipe(kind), (9, 0))
    for denominator, expected in ((None, partial.sum()), (7.0, partial.sum() / 7), (0.0, np.nan)):
        placed, result = Placed(), np.zeros(1, KINDS[kind])
        arguments = Totalling(
            placed.vector(partial, np.float64, "partial"),
            1234,
            placed.vector(None if denominator is None else [denominator], np.float64, "denominator"),
            placed.memory.add(result, "result"),
        )
        ptx.launch(ptx.program(compiled.ptx), placed.memory, 1, counting.THREADS, arguments)
        np.testing.assert_allclose(result[0], expected, rtol=1e-7 if kind == SINGLE else 1e-14)

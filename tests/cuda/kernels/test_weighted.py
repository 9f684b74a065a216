"""The GPU kernel of logsumexp with factors and signs, against the reference; executed from its PTX."""

import numpy as np
import pytest

from fastsoftmax import reference
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR, TINY
from tests.cuda.kernels.support import A100, H200, Lie, run
from tests.pairs import exhaustive_but
from tests.support import computed, logits, spacing

inf, nan = np.inf, np.nan
#: Form, dtype, classes, whether factors have the computing dtype: each form, with rows that are peeled or kept.
CASES = [
    (PART_WARP, FLOAT32, 10, False),
    (SCALAR, BFLOAT16, 50, True),
    (WARP, FLOAT16, 403, True),
    (WARP, FLOAT64, 121, False),
    (BLOCK, FLOAT32, 3001, False),
    (SHARED, FLOAT16, 30005, False),
    (CLUSTER, BFLOAT16, 17001, True),
    (ONLINE, FLOAT32, 33001, False),
    (ONLINE, FLOAT64, 16500, False),
]


def how(form):
    """What makes a plan choose a form."""
    return {
        "lie": MAJOR if form == SCALAR else Lie(offset=3) if form == BLOCK else Lie(),
        "facts": {SHARED: A100, ONLINE: TINY}.get(form, H200),
    }


def compare(value, sign, x, b=None, where=None, signed=True):
    """Logarithm and sign against the reference: within what rounding does to terms of both signs."""
    options = {"where": where, "dtype": np.longdouble, "return_sign": True}
    exact, right = reference.logsumexp(x, b=b, **options)
    size = reference.logsumexp(x, b=None if b is None else np.abs(b.astype(np.longdouble)), **options)[0]
    wide = value.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        lost = size - exact  # by terms that cancel
    if signed:
        clear = ~(lost > 8) | (exact == -inf)
        np.testing.assert_array_equal(sign[clear].astype(np.longdouble), right[clear])
    else:
        exact = np.where(right < 0, nan, exact)
    same = np.isfinite(exact)
    np.testing.assert_array_equal(wide[~same], exact[~same])
    wide, exact = wide[same], exact[same]
    near = 32 * np.finfo(computed(x.dtype)).eps * (1 + np.abs(exact) + np.exp(lost[same]))
    assert (np.abs(wide - exact) <= near + spacing(exact, x.dtype)).all()


def drawn(dtype, classes, factors):
    """Logits and factors with everything that is strange: each row has something else."""
    random = np.random.default_rng(classes)
    x, b = logits(classes, (14, classes), dtype), random.normal(size=(14, classes))
    b[0] = np.abs(b[0])
    b[1], x[1] = -np.abs(b[1]), x[1] + np.float32(1000).astype(dtype)
    b[2], b[3, 1:] = 0.0, 0.0  # of a sum of nothing, and of one
    b[4], x[4] = np.where(random.random(classes) < 0.3, 0.0, b[4]), nan  # what has no factor is not looked at
    x[4, b[4] != 0] = 1.0
    x[5], x[6, -1], x[7, classes // 2], b[8, 0] = -inf, inf, nan, nan
    x[9, :2], b[9, :2] = inf, [1.0, -1.0]
    x[10, 0], b[10, 0], x[11, 0], b[11, :2] = inf, 0.0, inf, [-2.0, 3.0]
    b[12, 0], x[12] = inf, np.linspace(-30, 0, classes)
    x[13], b[13] = 0.0, np.resize([1.0, -1.0], classes)
    return x, b.astype(factors)


@pytest.mark.parametrize(
    ("form", "dtype", "classes", "wide"), exhaustive_but([CASES[i] for i in (1, 2, 6, 7)], CASES), ids=str
)
def test_values(form, dtype, classes, wide):
    """Each logit and each factor is read once, whatever the form; without the sign a negative sum is NaN."""
    x, b = drawn(dtype, classes, computed(dtype) if wide else dtype)
    signed = classes % 2 > 0
    result = run("weighted", x, y=b, variant=(True, signed), **how(form))
    assert result.plan.form == form
    compare(result.rows, result.out, x, b, signed=signed)
    for name, operand in (("x", x), ("y", b)):
        assert operand.nbytes <= result.moved(name)[0] <= operand.nbytes * 1.001
    rough = run("weighted", x, y=b, variant=(True, signed), **how(form), rough=True)
    compare(rough.rows, rough.out, x, b, signed=signed)


@pytest.mark.parametrize(("form", "dtype", "classes"), exhaustive_but([(WARP, FLOAT32, 403)], [
    (WARP, FLOAT32, 403), (ONLINE, BFLOAT16, 65701), (PART_WARP, FLOAT64, 7)]), ids=str)  # fmt: skip
def test_signs_without_factors(form, dtype, classes):
    x = drawn(dtype, classes, dtype)[0]
    result = run("weighted", x, variant=(False, True), **how(form))
    assert result.plan.form == form
    compare(result.rows, result.out, x)
    assert x.nbytes <= result.moved("x")[0] <= x.nbytes * 1.001


@pytest.mark.parametrize(("form", "dtype", "classes"), exhaustive_but([(BLOCK, FLOAT16, 3001)], [
    (BLOCK, FLOAT16, 3001), (PART_WARP, FLOAT32, 10), (ONLINE, FLOAT32, 33001)]), ids=str)  # fmt: skip
def test_masks(form, dtype, classes):
    """Where no class is, neither its logit nor its factor is looked at."""
    x, b = drawn(dtype, classes, dtype)
    where = np.random.default_rng(3).random(x.shape) < 0.6
    where[2] = False
    x[~where], b[~where] = nan, inf
    result = run("weighted", x, y=b, variant=(True, True), **how(form), where=where)
    assert result.plan.form == form
    compare(result.rows, result.out, x, b, where)


@pytest.mark.parametrize("lie", [Lie(again=True), Lie(offset=1, extra=2), Lie(step=-2, inner=7, apart=5)], ids=str)
def test_factors_lie_anywhere(lie):
    """One row for all, beside other numbers, or apart."""
    x, b = drawn(FLOAT32, 403, FLOAT32)
    b = np.repeat(b[:1], len(b), axis=0) if lie.again else b
    result = run("weighted", x, y=b, variant=(True, True), lie=Lie(inner=lie.inner), y_lie=lie)
    compare(result.rows, result.out, x, b)

"""The GPU kernels of softmax, log_softmax, logsumexp and their products, executed by the interpreter of their PTX.

Forms, functions and dtypes are paired: a kernel for each form and function, each dtype in each function.  No GPU.
"""

import numpy as np
import pytest

from fastsoftmax import log_softmax, log_softmax_vjp, logsumexp, reference, softmax, softmax_vjp
from fastsoftmax.core.dtypes import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR, NAMES, TINY
from tests.cuda.kernels.support import A100, H200, Lie, run
from tests.pairs import covering, exhaustive_but
from tests.support import both, check, logits, spacing

inf, nan = np.inf, np.nan
VARIANTS = {softmax: SOFTMAX, log_softmax: LOG_SOFTMAX, softmax_vjp: SOFTMAX, log_softmax_vjp: LOG_SOFTMAX}
#: function: dtype and classes of each form.
MAPS = {
    softmax: {
        SCALAR: (FLOAT32, 50), PART_WARP: (FLOAT32, 10), WARP: (BFLOAT16, 515), BLOCK: (FLOAT64, 1001),
        SHARED: (FLOAT16, 65701), CLUSTER: (FLOAT32, 17001), ONLINE: (FLOAT32, 33001),
    },
    log_softmax: {
        SCALAR: (FLOAT16, 50), PART_WARP: (FLOAT16, 70), WARP: (FLOAT64, 131), BLOCK: (FLOAT32, 5001),
        SHARED: (FLOAT32, 33001), CLUSTER: (BFLOAT16, 33005), ONLINE: (BFLOAT16, 65701),
    },
    logsumexp: {
        SCALAR: (BFLOAT16, 50), PART_WARP: (FLOAT32, 10), WARP: (FLOAT32, 1001), BLOCK: (FLOAT16, 3000),
        SHARED: (BFLOAT16, 65701), CLUSTER: (FLOAT32, 17001), ONLINE: (FLOAT64, 16500),
    },
}  # fmt: skip
PRODUCTS = {
    softmax_vjp: {
        SCALAR: (FLOAT32, 50), PART_WARP: (FLOAT32, 10), WARP: (FLOAT32, 101), BLOCK: (FLOAT16, 5003),
        CLUSTER: (FLOAT32, 17001), ONLINE: (FLOAT64, 16500),
    },
    log_softmax_vjp: {
        SCALAR: (BFLOAT16, 50), PART_WARP: (FLOAT64, 6), WARP: (BFLOAT16, 515), BLOCK: (FLOAT32, 5001),
        CLUSTER: (BFLOAT16, 33005), ONLINE: (FLOAT32, 33001),
    },
}  # fmt: skip


def of(table):
    """All (function, form, dtype, classes) of a table; those that add a function, form or dtype are usual."""
    cases = [(f, form, *about) for f, forms in table.items() for form, about in forms.items()]
    ids = [f"{f.__name__}-{NAMES[form]}-{dtype}-{classes}" for f, form, dtype, classes in cases]
    usual = covering(cases, 1, about=lambda case: case[:3])
    return pytest.mark.parametrize(("function", "form", "dtype", "classes"), exhaustive_but(usual, cases), ids=ids)


def how(form):
    """What makes a plan choose a form."""
    return {
        "lie": MAJOR if form == SCALAR else Lie(offset=2) if form == BLOCK else Lie(),
        "facts": {SHARED: A100, ONLINE: TINY}.get(form, H200),
    }


def same(a, b):
    """Equal to the last bit; NumPy's comparison takes NaN for equal in its own dtypes only."""
    np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64))


@of(MAPS)
def test_maps(function, form, dtype, classes):
    """A row is read once where it is held; infinities and NaN poison their rows only; the same in place."""
    x = logits(classes, (10, classes), dtype)
    x[1] += np.float32(1000).astype(dtype)
    x[2, : classes // 2], x[3], x[4, -1], x[5, classes // 2] = -inf, -inf, inf, nan
    x[6], x[7, : classes - 1], x[8, 1:] = 3.0, -inf, -inf
    x[9] = np.where(np.arange(classes) % 3, -3e4, 3e4)
    variant, given = VARIANTS.get(function, LOGSUMEXP), how(form)
    wants_rows = function is logsumexp
    result = run("softmax", x, variant=variant, **given, wants_rows=wants_rows)
    assert result.plan.form == form
    found = result.rows if wants_rows else result.out
    check(function, x, actual=found)
    rough = run("softmax", x, variant=variant, **given, wants_rows=wants_rows, rough=True)
    check(function, x, actual=rough.rows if wants_rows else rough.out, ulps=16)
    assert result.moved("out") == ((0, 0) if wants_rows else (0, x.nbytes))
    twice = form in (ONLINE, SCALAR) and not wants_rows
    assert x.nbytes <= result.moved("x")[0] <= x.nbytes * (2 if twice else 1.001)
    if wants_rows:
        assert found.dtype == dtype
        np.testing.assert_array_equal(found[[3, 4, 5]].astype(np.float64), [-inf, inf, nan])
        return
    assert np.isnan(found[3:6].astype(np.float64)).all()
    inside = run("softmax", x, variant=variant, **given, in_place=True, wants_rows=False)
    same(inside.out, found)


@of({log_softmax: MAPS[log_softmax]})
def test_the_digits_of_the_largest_class(function, form, dtype, classes):
    """However sure a row is of it, its log-probability has an error of few ulps, as one of two or three has."""
    gaps = np.array([0.5, 3.0, 8.0, 15.0, 30.0, 0.0, 0.0])
    x = -gaps[:, None] - np.random.default_rng(1).uniform(size=(7, classes))
    first = np.array([0, classes - 1, classes // 2, 1, 2, 3, 4])
    x[range(7), first] = x[[5, 6, 6], [5, 5, 6]] = 0.0
    x = (x + 7).astype(dtype)
    result = run("softmax", x, variant=LOG_SOFTMAX, **how(form), wants_rows=False)
    assert result.plan.form == form
    exact = reference.row_stats(x, first, want="log_prob", dtype=np.longdouble).log_prob
    error = np.abs(result.out[range(7), first] - exact) / spacing(exact, dtype)
    assert (error <= 2 + gaps / 4).all()


@of(PRODUCTS)
def test_products(function, form, dtype, classes):
    """Both operands are read once where they are held; each may be overwritten; NaN poisons its own row."""
    given = how(form)
    map_of = softmax if function is softmax_vjp else log_softmax
    y = both(map_of, logits(1, (6, classes), dtype), dtype=dtype)[0].astype(dtype)
    g = logits(2, (6, classes), dtype)
    g[1] = 1.0  # nothing is left of a constant by softmax
    g[2, -1], y[3, 0], g[4, 0] = nan, nan, inf
    y[5, : classes // 2] = 0 if function is softmax_vjp else -inf
    result = run("vjp", y, y=g, variant=VARIANTS[function], **given, wants_rows=False)
    assert result.plan.form == form
    with np.errstate(invalid="ignore"):
        size = np.abs(g.astype(np.float64) * (y if function is softmax_vjp else 1))
    size = np.where(np.isfinite(size), size, 0).sum(axis=-1, keepdims=True)
    check(function, y, g, actual=result.out, size=size)
    assert result.moved("out") == (0, y.nbytes)
    for operand in ("x", "y"):
        assert y.nbytes <= result.moved(operand)[0] <= y.nbytes * (2 if form in (ONLINE, SCALAR) else 1)
    for operand in (True, "y"):
        inside = run("vjp", y, y=g, variant=VARIANTS[function], **given, in_place=operand, wants_rows=False)
        same(inside.out, result.out)


HALF_OUTPUTS = [
    (softmax_vjp, SCALAR, BFLOAT16, 50),
    (softmax_vjp, PART_WARP, FLOAT16, 10),
    (softmax_vjp, WARP, FLOAT16, 401),
    (log_softmax_vjp, BLOCK, BFLOAT16, 5003),
    (softmax_vjp, ONLINE, FLOAT16, 33001),
]


@pytest.mark.parametrize(("function", "form", "dtype", "classes"), exhaustive_but(HALF_OUTPUTS[2:4], HALF_OUTPUTS))
def test_products_of_half_outputs(function, form, dtype, classes):
    """Upstream gradients in float32 are not rounded to the half type, in which an offset leaves nothing of them."""
    map_of, offset = (softmax, 1000) if function is softmax_vjp else (log_softmax, 0)
    y = both(map_of, logits(1, (6, classes), dtype), dtype=dtype)[0].astype(dtype)
    g = logits(2, (6, classes), FLOAT32) + np.float32(offset)
    result = run("vjp", y, y=g, variant=VARIANTS[function], **how(form), wants_rows=False)
    assert result.plan.form == form
    size = np.abs(g * (y.astype(np.float64) if function is softmax_vjp else 1)).sum(axis=-1, keepdims=True)
    check(function, y, g, actual=result.out, size=size)


IN_SHARED = [(4, FLOAT32), (1, FLOAT16), (1, FLOAT32), (2, FLOAT16), (2, FLOAT32), (4, FLOAT16)]


@pytest.mark.parametrize(("vector", "g_dtype"), exhaustive_but(IN_SHARED[1:2], IN_SHARED))
def test_products_of_half_outputs_in_shared_memory(vector, g_dtype):
    y, g = softmax(logits(1, (3, 1500), FLOAT32)).astype(FLOAT16), logits(2, (3, 1500), FLOAT32).astype(g_dtype)
    change = {"form": SHARED, "threads": 64, "group": 64, "items": 2, "grid": 2, "vector": vector, "peeled": False}
    result = run("vjp", y, y=g, lie=Lie(), change={**change, "shared": 3 * 4 * 1500}, wants_rows=False)
    check(softmax_vjp, y, g, actual=result.out, size=np.abs(g.astype(float) * y).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(("blocks", "classes"), [(1, 1501), (2, 3001)])
def test_products_in_shared_memory(blocks, classes):
    """What the plan makes of long rows, for shorter ones: of three rows two come to the same blocks."""
    shared, form = 6 * 64 * 32, CLUSTER if blocks > 1 else SHARED
    change = {"form": form, "threads": 64, "group": 64, "items": 2, "cluster": blocks, "grid": 2 * blocks}
    y, g = softmax(logits(1, (3, classes), FLOAT32)), logits(2, (3, classes), FLOAT32)
    result = run("vjp", y, y=g, lie=Lie(offset=1), change={**change, "shared": shared}, wants_rows=False)
    check(softmax_vjp, y, g, actual=result.out, size=np.abs(g * y).sum(axis=-1, keepdims=True))
    for operand in ("x", "y"):
        assert y.nbytes <= result.moved(operand)[0] <= 1.02 * y.nbytes
    assert result.moved("out") == (0, y.nbytes)

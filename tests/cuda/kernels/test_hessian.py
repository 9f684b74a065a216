"""The GPU kernels of gradient and Hessian, executed by the interpreter of their PTX, in every form.  No GPU."""

import numpy as np
import pytest

from fastsoftmax.cuda.plan import BLOCK, ONLINE, PART_WARP, SHARED, WARP
from tests.cuda.kernels.hessians import compare_hessians, hessian_of_rows
from tests.cuda.kernels.support import Lie
from tests.cuda.kernels.test_statistics import CASES, EACH, how
from tests.pairs import exhaustive_but
from tests.support import filled, labels, logits, probabilities

WEIGHTS = {"class_weight": True, "sample_weight": True}
#: Sets of options, which have kernels of their own: (options, whether the target is probabilities).
SETS = {
    "plain": ({}, False),
    "all": ({**WEIGHTS, "label_smoothing": 0.1, "focal_gamma": 1.5, "temperature": 0.7, "min_hessian": 1e-3}, False),
    "upper": ({"hessian": "upper", "class_weight": True, "temperature": 2.0}, False),
    "residual": ({"hessian": "residual", "sample_weight": True, "temperature": 2.0}, False),
    "soft": ({**WEIGHTS, "label_smoothing": 0.1, "hessian": "lightgbm"}, True),
    "soft residual": ({"hessian": "residual", "min_hessian": 1e-3}, True),
}


@pytest.mark.parametrize(
    ("form", "dtype", "classes"), exhaustive_but([EACH[form] for form in (PART_WARP, BLOCK)], EACH), ids=str
)
@pytest.mark.parametrize("case", exhaustive_but(["plain"], ["plain", "all", "soft"]))
def test_values(case, form, dtype, classes):
    """Of rows of every sort, some of them ignored and full of NaN; the gradient may take the logits' place."""
    random, x = np.random.default_rng(4), logits(4, (9, classes), dtype)
    x[1, 0], x[2, 1:] = 30.0, -20.0  # of which one class is certain
    target = labels(random, x.shape)
    target[[1, 2, 3]] = 0, classes - 1, -100
    if case == "soft":
        target = probabilities(random, x.shape, dtype)
    else:
        x[3] = np.nan
        x[4, classes // 2] = -np.inf
    options = filled(SETS[case][0], random, x.shape)
    *found, made, traffic = hessian_of_rows(x, target, **how(form), **options)
    if case == "plain":
        assert made.form == form
        assert x.nbytes <= traffic["x"].loaded <= (2 if form in (0, ONLINE) else 1.001) * x.nbytes
    compare_hessians(found, x, target, **options)
    assert (traffic["out"].stored, traffic["hessian"].stored) == (x.nbytes, x.nbytes)
    inside = hessian_of_rows(x, target, in_place=True, **how(form), **options)
    for one, other in zip(inside[:2], found, strict=True):
        np.testing.assert_array_equal(one.astype(np.float64), other.astype(np.float64))


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, WARP, SHARED, ONLINE]))
@pytest.mark.parametrize("case", exhaustive_but(["all", "residual", "soft"], SETS))
def test_options(case, form):
    options, soft = SETS[case]
    dtype, classes = CASES[form]
    random, x = np.random.default_rng(5), logits(5, (12, classes), dtype)
    options = filled(options, random, x.shape)
    target = probabilities(random, x.shape, dtype) if soft else labels(random, x.shape)
    *found, _, _ = hessian_of_rows(x, target, **how(form), **options)
    compare_hessians(found, x, target, **options)


#: Single precision of logits of another, and results that lie otherwise than logits and than each other.
APART = {
    "float32 of float64": (PART_WARP, np.float64, np.float32, (None, None)),
    "Hessian in Fortran order": (WARP, np.float32, None, (None, Lie(major=True))),
    "float32 of float16": (ONLINE, np.float16, np.float32, (Lie(extra=3, offset=1), Lie(step=-1))),
    "gradient in Fortran order": (BLOCK, np.float64, np.float32, (Lie(major=True), None)),
    "each peeled alike": (BLOCK, np.float32, None, (Lie(offset=1, extra=4), Lie(offset=1, extra=8))),
}


@pytest.mark.parametrize("case", exhaustive_but(list(APART)[:3], APART))
def test_results_that_lie_apart(case):
    form, dtype, stored, lies = APART[case]
    _, classes = CASES[form]
    random, x = np.random.default_rng(6), logits(6, (10, classes), np.dtype(dtype))
    target = labels(random, x.shape)
    x[0], x[0, 0], target[0] = -np.inf, 0, 0
    x[0, [1, 2, 512, 1024] if classes > 1024 else [1, 2, 3, 4]] = -71  # two beside the target in a thread of 512
    lie = {"lie": Lie(offset=1, extra=4)} if case == "each peeled alike" else {}
    *found, made, traffic = hessian_of_rows(x, target, dtype=stored, out_lies=lies, **(how(form) | lie))
    compare_hessians(found, x, target)
    rest = 4 * np.exp(-71.0)  # of the first row, beside the target's 1: to the digits of what is stored
    np.testing.assert_allclose(found[0][0, 0], -rest / (1 + rest), rtol=8 * np.finfo(found[0].dtype).eps)
    assert all(part.dtype == np.dtype(stored or dtype) for part in found)
    assert made.vector == {"float32 of float64": 2, "each peeled alike": 4}.get(case, 1)
    assert (traffic["out"].stored, traffic["hessian"].stored) == (found[0].nbytes, found[1].nbytes)


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, BLOCK, ONLINE]))
@pytest.mark.parametrize("right", [True, False])
def test_certain_rows_keep_their_digits(form, right):
    """``1 - p`` of a certain class, be it the target or not: a few ulps and a quarter of one a unit of the gap."""
    dtype, classes = CASES[form]
    gap = np.array([1.0, 10.0, 20.0, 40.0, 80.0])
    x = np.zeros((5, classes), dtype)
    x[:, 1] = gap
    grad, hess, _, _ = hessian_of_rows(x, np.full(5, 1 if right else 0), **how(form))
    rest, eps = (classes - 1) * np.exp(-gap), np.finfo(dtype).eps
    p, but_p = 1 / (1 + rest), rest / (1 + rest)
    for got, exact in ((hess[:, 1], p * but_p), (grad[:, 1], -but_p if right else p)):
        assert (np.abs(got - exact) <= (8 + gap / 2) * eps * np.abs(exact)).all()


def test_bad_labels():
    x, target = logits(1, (3, 10), np.dtype(np.float32)), np.array([1, 10, -1])
    grad, hess, _, _ = hessian_of_rows(x, target)
    assert np.isnan(grad[1:]).all()
    assert np.isnan(hess[1:]).all()
    compare_hessians((grad[:1], hess[:1]), x[:1], target[:1])

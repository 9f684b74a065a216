"""The GPU kernels of the gradient of statistics, executed by the interpreter of their PTX, in every form.  No GPU."""

import numpy as np
import pytest

from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED
from tests.cuda.kernels.row_statistics import compare_derivatives, derivative_of
from tests.cuda.kernels.test_statistics import CASES, EACH, drawn, how
from tests.pairs import exhaustive_but
from tests.support import labels, logits

by_form = pytest.mark.parametrize(
    ("form", "dtype", "classes"),
    exhaustive_but([EACH[form] for form in (PART_WARP, BLOCK, SHARED)], EACH),
    ids=str,
)


@by_form
def test_gradients(form, dtype, classes):
    """Of rows of every sort: what is -inf gets nothing, ignored rows 0, others with NaN or +inf NaN; in place too."""
    x, target = drawn(dtype, classes)
    random = np.random.default_rng(5)
    ups = random.normal(size=len(x)), random.normal(size=len(x)), 0.75
    found, made, traffic = derivative_of(x, target, ups, **how(form))
    assert made.form == form
    compare_derivatives(found, x, target, ups)
    inside, _, _ = derivative_of(x, target, ups, in_place=True, **how(form))
    np.testing.assert_array_equal(inside.astype(np.float64), found.astype(np.float64))
    assert traffic["out"].stored == x.nbytes
    times = 2 if form in (SCALAR, ONLINE) else 1.001  # the ends of a row in shared memory are read again
    assert x.nbytes <= traffic["x"].loaded <= times * x.nbytes


TRANSFORMS = [{}, {"softcap": 3.0, "temperature": 0.7}]
SETS = [(1.0, None, None), (None, 1.0, None), (None, None, "rows"), ("rows", None, "rows")]


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, CLUSTER, ONLINE]))
@pytest.mark.parametrize("which", range(len(SETS)))
@pytest.mark.parametrize("options", exhaustive_but(TRANSFORMS[1:], TRANSFORMS), ids=["plain", "softcap, temperature"])
def test_sets_and_options(form, which, options):
    """Numbers or one a row, without a target where none is needed."""
    dtype, classes = CASES[form]
    x = logits(which, (7, classes), dtype)
    ups = tuple(np.random.default_rng(6).normal(size=7) if up == "rows" else up for up in SETS[which])
    target = None if ups[0] is None else labels(np.random.default_rng(7), x.shape)
    found, _, _ = derivative_of(x, target, ups, **how(form), **options)
    compare_derivatives(found, x, target, ups, **options)


def test_bad_labels():
    """They make their row NaN."""
    x, target = logits(1, (3, 10), np.dtype(np.float32)), np.array([1, 10, -1])
    found, _, _ = derivative_of(x, target, (1.0, 1.0, 1.0))
    assert np.isnan(found[1:]).all()
    compare_derivatives(found[:1], x[:1], target[:1], (1.0, 1.0, 1.0))

"""The GPU kernels that add up weights and losses, executed by the interpreter of their PTX: no result of a GPU."""

import numpy as np
import pytest

from fastsoftmax.core.dtypes import FLOAT32 as SINGLE
from fastsoftmax.core.dtypes import FLOAT64 as DOUBLE
from tests.cuda.kernels.counting import counted, totalled
from tests.cuda.kernels.support import KINDS

ROWS = 3001


def drawn(label):
    """Labels with some ignored ones, class weights, factors of rows."""
    random = np.random.default_rng(label)
    target = random.integers(-1, 7, ROWS)
    target[target < 0] = -100
    return target, random.uniform(size=7), random.uniform(size=ROWS)


@pytest.mark.parametrize(("label", "kind"), [(4, SINGLE), (8, SINGLE), (8, DOUBLE)])
@pytest.mark.parametrize("blocks", [1, 3])
def test_count(label, kind, blocks):
    """The weights of the rows that count, in float64; nothing is read that is not needed, and that once."""
    target, weight, factor = drawn(label)
    weight, factor = weight.astype(KINDS[kind]), factor.astype(KINDS[kind])
    used = target >= 0
    weights = np.where(used, weight[np.where(used, target, 0)].astype(np.float64), 0)
    factor[~used] = np.nan  # those of ignored rows are not looked at
    plain = np.where(used, factor, 0.25).astype(KINDS[kind])
    cases = [
        (target, weight, factor, (weights[used] * factor[used]).sum(dtype=np.float64)),
        (target, None, None, used.sum()),
        (target, weight, None, weights.sum()),
        (None, None, plain, plain.sum(dtype=np.float64)),
        (np.full(ROWS, -100), weight, factor, 0),
    ]
    for labels, classes, rows, expected in cases:
        sums, bad, traffic = counted(kind, labels, classes, rows, label=label, blocks=blocks)
        np.testing.assert_allclose(sums.sum(), expected, rtol=1e-14)
        unasked = counted(kind, labels, classes, rows, label=label, blocks=blocks, wants_bad=False)[0]
        np.testing.assert_array_equal(unasked, sums)
        assert bad == 0
        count = used.sum() if labels is target else 0 if labels is not None else ROWS
        read = {
            "target": 0 if labels is None else ROWS * label,
            "class_weight": 0 if classes is None else count * weight.itemsize,
            "loss_factor": 0 if rows is None else count * weight.itemsize,
        }
        assert {name: used.loaded for name, used in traffic.items() if used.loaded} == {
            name: size for name, size in read.items() if size
        }
        assert {name: used.stored for name, used in traffic.items() if used.stored} == {"sums": 8 * blocks}


@pytest.mark.parametrize(("label", "kind"), [(4, SINGLE), (8, DOUBLE)])
def test_labels_out_of_range_have_no_weight_to_read(label, kind):
    """They make the denominator NaN, and the last of them is reported."""
    target, weight, factor = drawn(label)
    for wrong in (-1, 7, (1 << 31) - 1, -(1 << 31), *([1 << 31, (1 << 32) + 1, -(1 << 63)] if label == 8 else [])):
        labels = target.copy()
        labels[[3, 2345]] = wrong
        for given in ((weight, factor), (None, None)):
            sums, bad, _ = counted(kind, labels, *given, label=label)
            assert np.isnan(sums[0])
            assert bad == 2346
            assert np.isnan(counted(kind, labels, *given, label=label, wants_bad=False)[0][0])


@pytest.mark.parametrize("kind", [SINGLE, DOUBLE])
def test_total(kind):
    """The sum in float64, divided where there is something to divide by; the mean of nothing is NaN."""
    partial = np.random.default_rng(1).uniform(-1, 3, 1234)
    for denominator, expected in ((None, partial.sum()), (7.0, partial.sum() / 7), (0.0, np.nan)):
        result, traffic = totalled(kind, partial, denominator)
        np.testing.assert_allclose(result, expected, rtol=1e-7 if kind == SINGLE else 1e-14)
        read = {"partial": partial.nbytes, **({} if denominator is None else {"denominator": 8})}
        assert {name: used.loaded for name, used in traffic.items() if used.loaded} == read

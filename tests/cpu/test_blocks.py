"""Class-major input of many classes, in blocks of them; few classes from rows that lie apart; strided classes."""

from itertools import product

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.layouts.constants import BLOCKS, LANE_BLOCK
from tests.pairs import exhaustive_but
from tests.support import check, labels, logits, probabilities

CLASSES = plan.PACKED + LANE_BLOCK + 5  # whole blocks and a part of one
VECTOR = 16
TILE = plan.TILE_VECTORS * VECTOR
GUARD = np.float32(-12345.0)
OPTIONS = {
    "plain": {},
    "weights": {"class_weight": np.linspace(0.5, 2, CLASSES), "label_smoothing": 0.1, "z_loss": 1e-3},
    "focal": {"focal_gamma": 2.0, "softcap": 4.0, "temperature": 0.5},
}


def class_major(x):
    """The same rows with their classes far apart, amid elements that nobody may touch."""
    room = np.full((x.shape[1], x.shape[0] + 7), GUARD).astype(x.dtype)
    view = room[:, 3 : 3 + x.shape[0]].T
    view[...] = x
    return room, view


def assert_guarded(room, rows):
    beside = np.concatenate([room[:, :3], room[:, 3 + rows :]], axis=1)
    np.testing.assert_array_equal(beside, np.full_like(beside, GUARD))


def test_plan():
    assert plan.plan(1, 5 * TILE, CLASSES, 4, True, True, False, False).layout == BLOCKS
    assert plan.plan(1, TILE + VECTOR, CLASSES, 4, True, True, False, False).tile == (plan.TILE_VECTORS + 2) // 2


LOSSES = list(product((1, VECTOR - 1, VECTOR, TILE + VECTOR + 3), OPTIONS))


def is_usual(rows, name):
    """One row has other strides, and kernels of its own."""
    return rows > 1 and name != "focal"


@pytest.mark.parametrize(("rows", "name"), exhaustive_but([case for case in LOSSES if is_usual(*case)], LOSSES))
def test_losses_and_gradients(rows, name):
    options = OPTIONS[name]
    values = logits(rows, (rows, CLASSES), np.float32)
    target = labels(np.random.default_rng(rows), values.shape)
    room, x = class_major(values)
    out_room, out = class_major(np.zeros_like(values))
    result = fs.cross_entropy_and_grad(x, target, out=out, reduction="none", **options)
    exact, slopes = reference.cross_entropy_and_grad(values.astype(float), target, reduction="none", **options)
    np.testing.assert_allclose(result.loss, exact, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(out, slopes, rtol=2e-5, atol=1e-7)
    np.testing.assert_array_equal(x, values)
    np.testing.assert_array_equal(fs.cross_entropy(x, target, reduction="none", **options), result.loss)
    fs.cross_entropy_and_grad(x, target, out=x, reduction="none", **options)
    np.testing.assert_array_equal(x, out)
    for some in (room, out_room):
        assert_guarded(some, rows)


MAPS = [(fs.log_softmax, np.float32), (fs.logsumexp, np.float32)]
EVERY_MAP = list(product((fs.softmax, fs.log_softmax, fs.logsumexp), (np.float16, np.float32, np.float64)))


@pytest.mark.parametrize(("function", "dtype"), exhaustive_but(MAPS, EVERY_MAP), ids=lambda part: part.__name__)
def test_maps(function, dtype):
    _, x = class_major(logits(3, (VECTOR + 5, CLASSES), dtype))
    check(function, x, actual=function(x), along=None if function is fs.logsumexp else -1)


def test_soft_targets():
    values = logits(1, (VECTOR + 5, CLASSES), np.float32)
    y = probabilities(np.random.default_rng(2), values.shape, np.float32)
    options = {"label_smoothing": 0.2, "z_loss": 1e-3, "ignore_index": -1}
    _, x = class_major(values)
    loss, grad = fs.cross_entropy_and_grad(x, y, **options)
    exact, slopes = reference.cross_entropy_and_grad(values.astype(float), y.astype(float), **options)
    np.testing.assert_allclose(loss, exact, rtol=2e-6)
    np.testing.assert_allclose(grad, slopes, rtol=2e-5, atol=1e-8)


def test_rows_are_the_same_wherever_they_stand():
    _, x = class_major(logits(5, (TILE + 50, CLASSES), np.float32))
    target = labels(np.random.default_rng(5), x.shape)
    losses, grad = fs.cross_entropy_and_grad(x, target, reduction="none")
    sums = fs.logsumexp(x)
    for part in (slice(1, 2), slice(13, 40), slice(TILE - 3, None)):
        some, slopes = fs.cross_entropy_and_grad(x[part], target[part], reduction="none")
        np.testing.assert_array_equal(some, losses[part])
        np.testing.assert_array_equal(slopes, grad[part])
        np.testing.assert_array_equal(fs.logsumexp(x[part]), sums[part])
    for function in (fs.softmax, fs.log_softmax):
        whole = function(x)
        for part in (slice(13, 40), slice(TILE - 3, None)):
            np.testing.assert_array_equal(function(x[part]), whole[part])


def test_infinite_logits():
    """Blocks of -inf before and after the rest, a row of nothing else, +inf, NaN: as where classes are contiguous."""
    values = logits(7, (VECTOR, CLASSES), np.float32)
    values[0, : 2 * LANE_BLOCK], values[1, LANE_BLOCK:], values[2] = -np.inf, -np.inf, -np.inf
    values[3, 5], values[4, -1], values[5, 40], values[5, 80] = np.inf, np.nan, np.inf, np.nan
    values[6, :], values[6, 100] = -np.inf, 2.5
    target = np.full(VECTOR, 100)
    _, x = class_major(values)
    for actual, expected in (
        (fs.logsumexp(x), fs.logsumexp(values)),
        (fs.softmax(x), fs.softmax(values)),
        (fs.log_softmax(x), fs.log_softmax(values)),
        (
            fs.cross_entropy_and_grad(x, target, reduction="none").grad,
            fs.cross_entropy_and_grad(values, target, reduction="none").grad,
        ),
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(fs.logsumexp(x)[2:6], [-np.inf, np.inf, np.nan, np.nan])


def test_sums_of_many_classes_are_exact():
    """Large logits one after the other, so that every block raises the maximum; a sum of 2**14 equal terms is exact."""
    rising = np.linspace(-60, 60, 1 << 14, dtype=np.float32)
    values = np.stack([rising, rising[::-1], np.zeros_like(rising)])
    _, x = class_major(values)
    exact = np.log(np.exp(values.astype(float) - 60).sum(1)) + 60
    np.testing.assert_allclose(fs.logsumexp(x), exact, rtol=3e-7)
    np.testing.assert_allclose(fs.softmax(x).sum(1, dtype=float), 1.0, rtol=2e-6)


APART = list(product(("rows", "classes"), (1, 3, 10, plan.REGISTERS)))


@pytest.mark.parametrize(("apart", "classes"), exhaustive_but([("rows", 10)], APART))
def test_few_classes_of_rows_that_lie_apart(apart, classes):
    """They are copied together, worked on in registers, and nothing between them is written to."""
    rows = plan.WORTHWHILE // classes + 5
    step = 2 if apart == "classes" else 1
    room = np.full((rows, step * classes + 3), GUARD)
    x = room[:, : step * classes : step]
    between = np.ones(room.shape, bool)
    between[:, : step * classes : step] = False
    x[...] = values = logits(classes, (rows, classes), np.float32)
    target = labels(np.random.default_rng(classes), values.shape)
    plain = fs.cross_entropy_and_grad(values, target, reduction="none", label_smoothing=0.1)
    result = fs.cross_entropy_and_grad(x, target, out=x, reduction="none", label_smoothing=0.1)
    np.testing.assert_array_equal(result.loss, plain.loss)
    np.testing.assert_array_equal(x, plain.grad)
    np.testing.assert_array_equal(room[between], np.full(between.sum(), GUARD))


STRIDED = list(product((60, 300, 5000), ("plain", "capped and smooth", "capped")))
COPIED = {"plain": {}, "capped and smooth": {"softcap": 3.0, "label_smoothing": 0.1}, "capped": {"softcap": 3.0}}


@pytest.mark.parametrize(("classes", "name"), exhaustive_but([(300, "plain")], STRIDED))
def test_strided_classes_are_copied_once_and_right(classes, name):
    values = logits(classes, (9, classes), np.float32)
    room = np.full((9, 2 * classes), np.nan, np.float32)
    x = room[:, ::2]
    x[...] = values
    target = labels(np.random.default_rng(classes), values.shape)
    plain = fs.cross_entropy_and_grad(values, target, **COPIED[name])
    result = fs.cross_entropy_and_grad(x, target, **COPIED[name])
    np.testing.assert_array_equal(result.loss, plain.loss)
    np.testing.assert_allclose(result.grad, plain.grad, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(fs.cross_entropy(x, target, **COPIED[name]), plain.loss)
    np.testing.assert_array_equal(fs.logsumexp(x), fs.logsumexp(values))
    np.testing.assert_array_equal(fs.log_softmax(x), fs.log_softmax(values))
    np.testing.assert_array_equal(x, values)
    assert np.isnan(room[:, 1::2]).all()

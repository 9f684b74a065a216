"""Rows of few classes in registers: every number of classes, every tail, and nothing written beside the results."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cpu import plan
from fastsoftmax.cpu.execute import recipe_for
from fastsoftmax.cpu.layouts.registers import Network
from tests.pairs import exhaustive_but

CLASSES = range(1, plan.REGISTERS + 1)
GUARD = np.float32(-12345.0)


@pytest.fixture
def registers(monkeypatch):
    """Rows of few classes are kept in registers however few there are."""

    def switch(elements):
        monkeypatch.setattr(plan, "WORTHWHILE", elements)
        recipe_for.cache_clear()

    switch(0)
    yield switch
    recipe_for.cache_clear()


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("classes", range(1, 49))
def test_network_exchanges_rows_and_classes(lanes, classes):
    def shuffle(a, b, index):
        return [(a + b)[i] for i in index]

    flat = [(row, j) for row in range(lanes) for j in range(classes)]
    memory = [flat[i : i + lanes] for i in range(0, len(flat), lanes)]
    network = Network(shuffle, lanes, classes)
    columns = network.classes(memory)
    assert columns == [[(row, j) for row in range(lanes)] for j in range(classes)]
    assert network.memory(columns) == memory


def guarded(rows, classes, dtype, offset):
    """(all elements, a view of rows among them that are side by side); what is not in the view is GUARD."""
    around = np.full(rows * classes + 64, GUARD).astype(dtype)
    return around, around[offset : offset + rows * classes].reshape(rows, classes)


def problem(rows, classes, dtype=np.float32, offset=3):
    rng = np.random.default_rng(rows * 100 + classes)
    around, x = guarded(rows, classes, dtype, offset)
    x[...] = rng.normal(0, 3, (rows, classes))
    target = rng.integers(0, classes, rows)
    target[1:][rng.random(rows - 1) < 0.2] = -100
    return around, x, target


def assert_beside_is_kept(around, view):
    start = (view.ctypes.data - around.ctypes.data) // around.itemsize
    beside = np.concatenate([around[:start], around[start + view.size :]])
    np.testing.assert_array_equal(beside, np.full(beside.shape, GUARD).astype(around.dtype))


@pytest.mark.parametrize("classes", exhaustive_but([1, 2, 7, 10, 16], CLASSES))
def test_gradients_of_every_number_of_classes(registers, classes):
    # One lane, a vector and a bit, and tiles whose last vector lacks one row.
    for rows in (1, 7, 15, 16, 17, 31, 128 + 13, 300):
        around, x, target = problem(rows, classes)
        before = x.copy()
        around_out, out = guarded(rows, classes, np.float32, 5)
        loss, grad = fs.cross_entropy_and_grad(x, target, out=out)
        expected, slopes = reference.cross_entropy_and_grad(before.astype(np.float64), target)
        np.testing.assert_allclose(loss, expected, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(grad, slopes, rtol=5e-6, atol=1e-8)
        np.testing.assert_array_equal(x, before)
        assert_beside_is_kept(around, x)
        assert_beside_is_kept(around_out, out)
        again, _ = fs.cross_entropy_and_grad(x, target, out=x)
        assert again == loss
        np.testing.assert_array_equal(x, grad)
        assert_beside_is_kept(around, x)


OTHERS = [(classes, dtype) for classes in (3, 10, 12, 16) for dtype in (np.float16, np.float64)]


@pytest.mark.parametrize(("classes", "dtype"), exhaustive_but([(3, np.float64), (10, np.float16)], OTHERS))
def test_other_dtypes(registers, classes, dtype):
    for rows in (5, 8, 33):
        around, x, _ = problem(rows, classes, dtype)
        around_out, out = guarded(rows, classes, dtype, 1)
        exact = x.astype(np.float64)
        exact = np.exp(exact - exact.max(-1, keepdims=True))
        exact /= exact.sum(-1, keepdims=True)
        fs.softmax(x, out=out)
        np.testing.assert_allclose(out, exact, rtol=4 * float(np.finfo(dtype).eps), atol=1e-7)
        assert_beside_is_kept(around, x)
        assert_beside_is_kept(around_out, out)


OPTIONS = {
    "plain": {},
    "weights": {"class_weight": np.linspace(0.5, 2, 7, dtype=np.float32), "label_smoothing": 0.1, "z_loss": 1e-3},
    "focal": {"focal_gamma": 2.0, "softcap": 4.0, "temperature": 0.5},
}


@pytest.mark.parametrize("name", exhaustive_but(["plain", "weights"], OPTIONS))
def test_registers_and_lanes_give_the_same_bits(registers, name):
    options = OPTIONS[name]
    _, x, target = problem(200, 7)
    x[5, 2], x[77, 1], x[131] = np.nan, np.inf, -np.inf

    def results(part):
        losses, grad = fs.cross_entropy_and_grad(x[part], target[part], reduction="none", **options)
        return [losses, grad, fs.logsumexp(x[part]), fs.softmax(x[part]), fs.log_softmax(x[part])]

    in_registers = results(slice(None))
    for start, rows in ((1, 1), (13, 5), (16, 16), (3, 150)):
        for found, whole in zip(results(slice(start, start + rows)), in_registers, strict=True):
            np.testing.assert_array_equal(found, whole[start : start + rows])
    registers(1 << 60)
    for found, expected in zip(results(slice(None)), in_registers, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", exhaustive_but([np.float16], [np.float32, np.float16]))
def test_soft_targets(registers, dtype):
    """Beside float16 logits they are float32, of twice the size in memory; the last rows do not fill a vector."""
    options = {"class_weight": np.linspace(0.5, 2, 7), "label_smoothing": 0.1, "z_loss": 1e-3, "ignore_index": -1}
    _, x, _ = problem(200, 7, dtype)
    around, y = guarded(200, 7, np.float32, 5)
    y[...] = np.random.default_rng(3).dirichlet(np.full(7, 0.3), 200)
    losses, grad = fs.cross_entropy_and_grad(x, y, reduction="none", **options)
    exact, slopes = reference.cross_entropy_and_grad(x.astype(float), y.astype(float), reduction="none", **options)
    np.testing.assert_allclose(losses, exact, rtol=2e-6)
    np.testing.assert_allclose(grad, slopes, rtol=4 * float(np.finfo(dtype).eps), atol=2 * float(np.finfo(dtype).eps))
    assert_beside_is_kept(around, y)
    part, _ = fs.cross_entropy_and_grad(x[3:40], y[3:40], reduction="none", **options)
    np.testing.assert_array_equal(part, losses[3:40])
    registers(1 << 60)
    for found, expected in zip(
        fs.cross_entropy_and_grad(x, y, reduction="none", **options), (losses, grad), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_two_levels_of_rows(registers):
    """The outer level has gaps, the inner one has not."""
    _, x, target = problem(3 * 40, 7)
    wide = np.zeros((3, 41, 7), np.float32)
    wide[:, :40] = x.reshape(3, 40, 7)
    losses = fs.cross_entropy(x, target, reduction="none")
    levels = fs.cross_entropy(wide[:, :40], target.reshape(3, 40), reduction="none")
    np.testing.assert_array_equal(levels, losses.reshape(3, 40))

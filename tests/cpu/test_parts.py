"""Long rows that are cut in parts: the bits of whole rows, whatever the number of threads and beside whatever rows."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cpu import execute, parts, prepared
from fastsoftmax.cpu.layouts.constants import BLOCK, PART
from fastsoftmax.cpu.threads import launch
from tests.pairs import exhaustive_but
from tests.support import DTYPES, check, logits

CLASSES = 4 * PART + BLOCK + 37  # whole parts, a whole block and a part of one
KEPT, RECOMPUTED = CLASSES, 4 * CLASSES  # of float32: exponentials of more than a megabyte are computed twice
OPTIONS = {
    "plain": {},
    "weights": {"class_weight": True, "sample_weight": True, "label_smoothing": 0.1, "z_loss": 1e-3},
    "focal": {"focal_gamma": 2.0, "poly_epsilon": 0.5, "softcap": 4.0, "temperature": 0.5},
    "offset": {"class_offset": True},
}


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of threads of launches, with rows cut wherever some threads would be idle.

    Of its attribute `cuts`, a list, each launch in parts adds the number of rows that are worked on at a time.
    """
    cut = execute.launch_parts

    def counted(piece, at_once, *rest):
        number.cuts.append(at_once)
        cut(piece, at_once, *rest)

    def number(n):
        monkeypatch.setattr(launch, "threads_for", lambda: n)

    number.cuts = []
    for module in (execute, prepared):  # of first calls, and of later ones
        monkeypatch.setattr(module, "launch_parts", counted)
    monkeypatch.setattr(parts, "LAUNCHES", 0)
    monkeypatch.setattr(parts, "RELOADED", 1000)
    return number


def made(options, rows, classes):
    """Options with arrays for those that are to be some."""
    some = {"class_weight": np.linspace(0.5, 2, classes), "sample_weight": np.linspace(1, 2, rows)}
    some["class_offset"] = np.where(np.arange(classes) % 7 == 3, -np.inf, np.linspace(-1, 1, classes))
    return {name: some[name] if value is True else value for name, value in options.items()}


def targets(rows, classes):
    """Labels in the first, the last and other parts, one of which is ignored where there are many rows."""
    found = np.array([0, classes - 1, 2 * PART + 5, PART - 1])[:rows]
    if rows > 2:
        found[1] = -100
    return found


def losses(x, name):
    """Losses and gradients of rows, of which some are their own."""
    rows, classes = x.shape
    options = made(OPTIONS[name], rows, classes)
    target = targets(rows, classes)
    mean = fs.cross_entropy_and_grad(x, target, **options)
    alone = fs.cross_entropy(x, target, reduction="none", **options)
    placed = fs.cross_entropy_and_grad(x, target, out=x.copy(), reduction="sum", **options)
    return mean.loss, mean.grad, alone, placed.loss, placed.grad


def soft(x):
    """Losses and gradients of soft targets."""
    y = np.random.default_rng(5).random(x.shape).astype(x.dtype if x.dtype.itemsize > 2 else np.float32)
    result = fs.cross_entropy_and_grad(x, y, label_smoothing=0.1, reduction="none")
    return result.loss, result.grad


def maps(x):
    """Softmax and what is like it, to new arrays and in place; and the products."""
    placed = x.copy()
    fs.log_softmax(placed, out=placed)
    products = fs.softmax_vjp(x, x[::-1]), fs.log_softmax_vjp(x, x[::-1])
    return fs.softmax(x), fs.log_softmax(x), fs.logsumexp(x), placed, *products


def strided(x):
    """Maps of every second class, and of masked classes."""
    wide = np.repeat(x, 2, axis=-1)[:, ::2]
    mask = np.random.default_rng(6).random(x.shape) < 0.7
    return fs.softmax(wide), fs.log_softmax(wide), fs.softmax(x, where=mask), fs.log_softmax(x, where=mask)


CALLS = {**{name: lambda x, name=name: losses(x, name) for name in OPTIONS}, "soft": soft, "maps": maps}
CALLS["strided"] = strided
SHAPES = {"1": (1, KEPT), "3": (3, KEPT), "recomputed": (1, RECOMPUTED)}
EVERY = [(dtype, name, shape) for dtype in DTYPES for name in CALLS for shape in SHAPES]
USUAL = [("float32", name, "3") for name in CALLS]
USUAL += [("float32", name, "recomputed") for name in ("plain", "maps")] + [("bfloat16", "plain", "1")]


def is_usual(dtype, name, shape):
    return (np.dtype(dtype).name, name, shape) in USUAL


@pytest.mark.parametrize(
    ("dtype", "name", "shape"),
    exhaustive_but([case for case in EVERY if is_usual(*case)], EVERY),
    ids=lambda part: part if isinstance(part, str) else np.dtype(part).name,
)
def test_bits_of_whole_rows(threads, dtype, name, shape):
    x = logits(3, SHAPES[shape], dtype)
    threads(1)
    expected = CALLS[name](x)
    assert not threads.cuts
    for number in (2, 3, 4, 7):
        threads(number)
        for result, whole in zip(CALLS[name](x), expected, strict=True):
            np.testing.assert_array_equal(result, whole, strict=True)
    assert threads.cuts


def test_rows_do_not_depend_on_each_other(threads):
    """Alone they are cut, and beside others they are not, or worked on two at a time."""
    x, target = logits(4, (4, PART * 20), np.float32), np.array([0, 5, PART, 7 * PART])
    threads(4)
    whole, loss = fs.log_softmax(x), fs.cross_entropy(x, target, reduction="none")
    assert not threads.cuts
    threads(3)
    assert parts.AT_ONCE // x.shape[1] == 3
    np.testing.assert_array_equal(fs.log_softmax(x), whole)
    np.testing.assert_array_equal(fs.cross_entropy(x, target, reduction="none"), loss)
    assert threads.cuts == [3, 3]
    for i in range(4):
        np.testing.assert_array_equal(fs.log_softmax(x[i : i + 1]), whole[i : i + 1])
        np.testing.assert_array_equal(fs.cross_entropy(x[i : i + 1], target[i : i + 1], reduction="none"), loss[i])
    assert threads.cuts == [3, 3, *[1] * 8]


@pytest.mark.parametrize("order", ["as it comes", "rising", "falling", "equal"])
def test_values(threads, order):
    """Rising logits have a new maximum in every block, equal ones in the first alone."""
    x = logits(8, (1, RECOMPUTED), np.float32)
    if order == "equal":
        x[...] = 2.5
    elif order != "as it comes":
        x = np.sort(x)[:, :: 1 if order == "rising" else -1].copy()
    threads(2)
    check(fs.softmax, x, actual=fs.softmax(x))
    check(fs.log_softmax, x, actual=fs.log_softmax(x))
    check(fs.logsumexp, x, actual=fs.logsumexp(x), along=None)
    target = np.array([PART + 3])
    result = fs.cross_entropy_and_grad(x, target, label_smoothing=0.1)
    loss, grad = reference.cross_entropy_and_grad(x.astype(float), target, label_smoothing=0.1)
    np.testing.assert_allclose(result.loss, loss, rtol=2e-6)
    np.testing.assert_allclose(result.grad, grad, rtol=2e-5, atol=1e-9)
    assert len(threads.cuts) == 4
    products = fs.softmax_vjp(result.grad, x)
    exact = reference.softmax_vjp(result.grad.astype(float), x.astype(float))
    np.testing.assert_allclose(products, exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("everywhere", [False, True], ids=["one", "all"])
def test_nonfinite(threads, odd, everywhere):
    x = logits(9, (1, KEPT), np.float32)
    x[0, slice(None) if everywhere else 3 * PART + 11] = odd
    threads(1)
    with np.errstate(all="ignore"):
        expected = (*maps(x), *losses(x, "plain"))
    threads(2)
    for result, whole in zip((*maps(x), *losses(x, "plain")), expected, strict=True):
        np.testing.assert_array_equal(result, whole)
    assert threads.cuts


@pytest.mark.parametrize(
    ("rows", "classes", "threads", "at_once"),
    [
        *[(1, 10**7, 1, 0), (1, 10**7, 2, 1), (4, 10**7, 8, 1), (3, 10**7, 2, 1), (5, 10**7, 2, 0), (2, 10**7, 2, 0)],
        *[(1, 131072, 2, 1), (2, 131072, 2, 0), (3, 131072, 2, 0), (4, 131072, 8, 4), (4, 40000, 8, 0)],
        *[(1, 40000, 2, 0), (1024, 32000, 2, 0), (257, 131072, 2, 0), (9, 10**6, 8, 1)],
    ],
)
def test_what_is_cut(rows, classes, threads, at_once):
    assert parts.Parts((), rows, classes, writes=True).at_once(threads) == at_once

"""Statistics of the rows of a linear map on a GPU: by chunks, and those of the logits as the library computes them."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.statistics import NAMES
from fastsoftmax.cuda.kernels.parameters import StatisticIntegers
from fastsoftmax.cuda.linear import backend, plan
from tests.backends import raises
from tests.cuda.host.support import DTYPES, near
from tests.cuda.linear.support import SHAPE, every, on, torch
from tests.linear.support import problem
from tests.linear.test_statistics import same
from tests.standins.arrays import InterfaceArray
from tests.support import labels


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Chunks of 16 rows."""
    monkeypatch.setattr(plan, "BUDGET", 0)
    monkeypatch.setattr(plan, "ROWS", 16)


def rounded(x, weight, bias, dtype, *, cupy):
    """The logits in a dtype as the library has them: CuPy rounds before it adds the bias."""
    z = x.astype(np.float64) @ weight.astype(np.float64).T
    if bias is not None:
        z = (z.astype(dtype).astype(np.float64) if cupy else z) + bias.astype(np.float64)
    return z.astype(dtype).astype(np.float64)


def moved(library, found):
    """Statistics in main memory."""
    named = found._asdict()
    top = named.pop("top_k")
    there = {name: None if array is None else library.host(array) for name, array in named.items()}
    return type(found)(**there, top_k=top and type(top)(*map(library.host, top)))


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("label", [np.int64, np.int32])
def test_they_are_those_of_the_logits(library, driver, name, dtype, label):
    """All of them, chunk by chunk; the logits of all rows are never there."""
    x, weight, _, bias, _ = problem(3, SHAPE, dtype)
    t = labels(np.random.default_rng(1), (50, 9)).astype(label)
    t[[0, 17, 49]] = -100, 8, 3
    options = {"temperature": 0.7, "softcap": 20.0, "k": 4}
    for biased in (bias, None):
        z = rounded(x, weight, biased, dtype, cupy=name == "cupy")
        library.made.clear()
        for _ in range(2):  # prepared, and then found again
            found = fs.linear_row_stats(*on(library, x, weight, t, biased), want=NAMES, **options)
        right = reference.row_stats(z, t, want=NAMES, **options)
        real = np.float64 if dtype == np.float64 else np.float32
        *columns, top = zip(moved(library, found), right, strict=True)
        np.testing.assert_array_equal(top[0].indices, top[1].indices)
        for got, exact in (*columns, (top[0].log_proba, top[1].log_proba)):
            assert got.dtype == (np.asarray(exact).dtype if np.asarray(exact).dtype.kind in "bi" else real)
            near(got, exact, real, 4)
        assert max(shape[0] * shape[1] for shape, _ in library.made if len(shape) == 2) <= max(16 * 16, 50 * 4)
    rows = StatisticIntegers._fields.index("rows")
    assert [one.arguments[rows] for one in driver.launches] == [16, 16, 16, 2] * 4


@every
def test_without_targets_and_by_chunks_of_any_size(library, driver, name):
    x, weight, _, bias, _ = problem(3, SHAPE, np.float32)
    z = rounded(x, weight, bias, np.float32, cupy=False)
    right = reference.row_stats(z, want=("entropy", "argmax"))
    for block_rows in (None, 1, 24, 1000):
        found = fs.linear_row_stats(
            *on(library, x, weight, None, bias), want=("entropy", "argmax"), block_rows=block_rows
        )
        near(library.host(found.entropy), right.entropy, np.float32, 4)
        np.testing.assert_array_equal(library.host(found.argmax), right.argmax)
        assert found.log_prob is None
    assert len(driver.launches) == 4 + 7 + 3 + 1


@every
def test_offsets_of_the_classes(library, driver, name):
    """Over several chunks; calls with and without them are not alike."""
    x, weight, t, bias, _ = problem(3, SHAPE, np.float32)
    offset = np.random.default_rng(4).normal(size=9).astype(np.float32)
    offset[3] = -np.inf
    z, want = rounded(x, weight, bias, np.float32, cupy=name == "cupy"), ("log_prob", "entropy", "argmax", "top_k")
    for by in (offset, None, offset):
        there = None if by is None else library.array(by)
        found = moved(library, fs.linear_row_stats(*on(library, x, weight, t, bias), want=want, class_offset=there))
        right = reference.row_stats(z, t, want=want, class_offset=by)
        near(found.log_prob, right.log_prob, np.float32, 4)
        near(found.entropy, right.entropy, np.float32, 4)
        np.testing.assert_array_equal(found.argmax, right.argmax)
        np.testing.assert_array_equal(found.top_k.indices, right.top_k.indices)


@torch
def test_as_in_main_memory(library, driver, name):
    x, weight, t, bias, _ = problem(3, SHAPE, np.float64)
    found = fs.linear_row_stats(*on(library, x, weight, t, bias), want=NAMES)
    same(moved(library, found), fs.linear_row_stats(x, weight, t, bias, want=NAMES))
    none = fs.linear_row_stats(*on(library, x[:0], weight, t[:0], bias), want=NAMES, k=2)
    assert none.top_k.indices.shape == (0, 2)
    assert none.entropy.shape == (0,)


@torch
def test_bad_labels_and_labels_on_another_stream(library, driver, name):
    """Theirs are NaN, -1 and False; labels are waited for."""
    x, weight, t, _, _ = problem(3, SHAPE, np.float32)
    t[40] = 9
    elsewhere = driver.array(t, kind=InterfaceArray, stream=5)
    found = fs.linear_row_stats(*on(library, x, weight), elsewhere, want=("log_prob", "rank", "correct"))
    log_prob, rank, correct = (library.host(array) for array in (found.log_prob, found.rank, found.correct))
    assert np.flatnonzero(np.isnan(log_prob)).tolist() == [40]
    assert (rank[40], correct[40]) == (-1, False)
    assert [call[0] for call in driver.calls if call[0] == "wait"] == ["wait"]


@torch
def test_a_call_that_looks_the_same_is_prepared(library, driver, name, monkeypatch):
    x, weight, t, bias, _ = problem(3, SHAPE, np.float32)
    fs.linear_row_stats(*on(library, x, weight, t, bias), want="top_k", k=3)
    monkeypatch.setattr(backend, "check", None)
    fs.linear_row_stats(*on(library, x, weight, t, bias), want="top_k", k=3)
    for changed in ({"k": 4}, {"want": "argmax"}, {"temperature": 2.0}, {"block_rows": 8}):
        with pytest.raises(AttributeError, match="NoneType"):
            fs.linear_row_stats(*on(library, x, weight, t, bias), **{"want": "top_k", "k": 3} | changed)


@torch
def test_errors(library, driver, name):
    x, weight, t, bias, _ = problem(3, SHAPE, np.float32)
    given = on(library, x, weight, t, bias)
    function = fs.linear_row_stats
    raises(TypeError, "target must lie on the GPU, as x is a", function, *given[:2], t, want="rank")
    raises(TypeError, "x must lie on the GPU, as weight is a", function, x, given[1], want="entropy")
    raises(
        TypeError,
        "weight must have dtype float32",
        function,
        given[0],
        *on(library, weight.astype(float)),
        want="entropy",
    )
    raises(ValueError, "class indices", function, *given[:2], *on(library, t[:4]), want="rank")
    raises(ValueError, "k must be in [1, 9], got 10", function, *given, want="top_k", k=10)
    raises(ValueError, "block_rows must be >= 1", function, *given, want="entropy", block_rows=0)
    bare = driver.array(x, kind=InterfaceArray)
    raises(TypeError, "x must be an array of PyTorch or CuPy", function, bare, *given[1:], want="entropy")
    assert not driver.launches

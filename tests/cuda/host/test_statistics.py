"""Row statistics on a GPU: arrays of libraries, layouts, options and refusals; kernels are NumPy's, and one is not."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.api.statistics import TopK
from fastsoftmax.core.statistics import NAMES, STATISTICS
from fastsoftmax.cuda import statistics
from fastsoftmax.cuda.arrays import array
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, spread
from tests.standins.arrays import DeviceArray, ExchangedArray, InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS, computed, labels

REALS = [statistic.name for statistic in STATISTICS if statistic.kind == "real"]
TARGET = np.array([0, 6, -100, 3])


def compare(driver, found, x, t, want, **options):
    """Statistics with those of the reference; None for the others."""
    expected = reference.row_stats(x.astype(np.float64), t, want=want, **options)
    for name in NAMES:
        got = getattr(found, name)
        if name not in want:
            assert got is None
            continue
        exact = getattr(expected, name)
        if name == "top_k":
            np.testing.assert_array_equal(driver.host(got.indices), exact.indices)
            got, exact = got.log_proba, exact.log_proba
        got = driver.host(got)
        assert got.shape == np.shape(exact)
        if name in REALS or name == "top_k":
            assert got.dtype == computed(x.dtype)
            near(got, exact, got.dtype, size=10.0)
        else:
            assert got.dtype == np.asarray(exact).dtype
            np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    x = drawn(4, 7, dtype=dtype)
    found = fs.row_stats(library.array(x), library.array(TARGET), want=NAMES)
    assert all(type(getattr(found, name)) is library.type for name in NAMES[:-1])
    assert type(found.top_k) is TopK
    assert all(type(part) is library.type for part in found.top_k)
    compare(library, found, x, TARGET, NAMES)
    compare(library, fs.row_stats(library.array(x), want="entropy"), x, None, ("entropy",))


@pytest.mark.parametrize("kind", [DeviceArray, InterfaceArray, ExchangedArray])
def test_arrays_of_no_library_give_arrays_of_our_own(driver, kind):
    """Of bool too, which others read by the interface and by DLPack."""
    x = drawn(4, 7)
    found = fs.row_stats(driver.array(x, kind=kind), driver.array(TARGET, kind=kind), want=NAMES)
    assert type(found.correct) is array.Array
    compare(driver, found, x, TARGET, NAMES)
    assert found.correct.__cuda_array_interface__["typestr"] == "|b1"
    assert "dltensor" in repr(found.correct.__dlpack__())


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name in Gpu.layouts])
@pytest.mark.parametrize("axis", [0, -1])
def test_layouts(driver, layout, axis):
    x = LAYOUTS[layout](drawn(6, 9))
    t = labels(np.random.default_rng(1), np.moveaxis(x, axis, -1).shape).astype(np.int32)
    want = "log_prob", "correct", "rank"
    found = fs.row_stats(driver.array(x), driver.array(t), want=want, axis=axis)
    compare(driver, found, x, t, want, axis=axis)


def test_rows_of_three_levels_take_several_launches(driver):
    x = spread(drawn(3, 4, 5, 6))
    t = labels(np.random.default_rng(2), x.shape)
    compare(driver, fs.row_stats(driver.array(x), driver.array(t), want=NAMES), x, t, NAMES)
    assert entries(driver) == ["statistics"] * 3


def test_options(driver):
    x, options = drawn(4, 7), {"temperature": 0.7, "softcap": 3.0, "ignore_index": 6}
    t = np.array([0, 6, 1, 3])
    compare(driver, fs.row_stats(driver.array(x), driver.array(t), want=NAMES, **options), x, t, NAMES, **options)


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    fs.row_stats(driver.array(drawn(4, 7)), driver.array(TARGET), want=NAMES)
    monkeypatch.setattr(statistics, "_prepare_statistics", None)
    x, t = drawn(4, 7, seed=1), TARGET[::-1].copy()
    compare(driver, fs.row_stats(driver.array(x), driver.array(t), want=NAMES), x, t, NAMES)
    for changed in ({"want": "argmax"}, {"axis": 0}, {"temperature": 2.0}, {"ignore_index": 3}, {"k": 2}):
        with pytest.raises(TypeError, match="NoneType"):
            fs.row_stats(driver.array(x), driver.array(t), **{"want": NAMES, **changed})


def test_what_another_stream_does_is_waited_for(driver):
    x, t = drawn(4, 7), TARGET
    on = driver.array(x, kind=InterfaceArray, stream=3), driver.array(t, kind=InterfaceArray, stream=4)
    found = fs.row_stats(*on, want=NAMES)
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 3, 4)]
    assert {one.stream for one in driver.launches} == {3}
    assert found.correct.stream == 3


def test_no_rows(driver):
    x, t = np.empty((0, 3), np.float32), np.empty(0, np.int64)
    compare(driver, fs.row_stats(driver.array(x), driver.array(t), want=NAMES, k=2), x, t, NAMES, k=2)
    assert not driver.launches


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "target must hold class indices here, and have shape (2,)", {"target": np.zeros((2, 3))}),
        (TypeError, "target must have dtype int64 or int32 on a GPU", {"target": np.zeros(2, np.int16)}),
        (ValueError, "axis must be in [-2, 2) for logits with 2 dimensions, got 2", {"axis": 2}),
        (ValueError, "'rank' needs a target, got None", {"want": "rank", "target": None}),
        (ValueError, "k must be in [1, 3], got 5", {"want": "top_k"}),
        (TypeError, "k must be an integer in [1, 3]", {"want": "top_k", "k": [2]}),
        (ValueError, "temperature must be in [", {"temperature": 1e-39}),
    ],
)
def test_errors(driver, error, text, options):
    options = {"target": np.array([0, 1]), "want": "log_prob", **options}
    raises(error, text, fs.row_stats, np.zeros((2, 3), np.float32), backend=Gpu(driver), **options)


def test_arguments_that_lie_elsewhere(driver):
    x, t = drawn(2, 3), np.array([0, 1])
    for on in ((driver.array(x), t), (x, driver.array(t))):
        with pytest.raises(TypeError, match="must lie on the GPU"):
            fs.row_stats(*on, want="log_prob")


def test_compiled_kernels(interpreted):
    """By the public function, and not NumPy's for once."""
    x = drawn(40, 10)
    t = labels(np.random.default_rng(3), x.shape)
    compare(interpreted, fs.row_stats(interpreted.array(x), interpreted.array(t), want=NAMES), x, t, NAMES)

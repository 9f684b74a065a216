"""The gradient of statistics on a GPU: arrays of libraries, upstream gradients, outputs and refusals."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import statistics
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, spread
from tests.standins.arrays import InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS, labels

TARGET = np.array([0, 6, -100, 3])
ROWS = np.array([0.5, -1.0, 2.0, 0.25])


def upstreams(kind, dtype=np.float32):
    """One upstream gradient of each sort, on a GPU and as the reference takes them."""
    work = np.float64 if dtype == np.float64 else np.float32
    there = {"log_prob": kind.array(ROWS.astype(work)), "entropy": kind.array(ROWS[::-1].astype(work))}
    return {**there, "log_sum_exp": 0.5}, {"log_prob": ROWS, "entropy": ROWS[::-1], "log_sum_exp": 0.5}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    x = drawn(4, 7, dtype=dtype)
    there, here = upstreams(library, dtype)
    for _ in range(2):  # prepared, and then found again
        found = fs.row_stats_vjp(library.array(x), library.array(TARGET), **there)
        assert type(found) is library.type
        near(library.host(found), reference.row_stats_vjp(x.astype(np.float64), TARGET, **here), dtype)
    found = fs.row_stats_vjp(library.array(x), entropy=there["entropy"])
    near(library.host(found), reference.row_stats_vjp(x.astype(np.float64), entropy=here["entropy"]), dtype)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name in Gpu.layouts])
@pytest.mark.parametrize("axis", [0, -1])
def test_layouts_and_outputs(driver, layout, axis):
    x = LAYOUTS[layout](drawn(6, 9))
    t = labels(np.random.default_rng(1), np.moveaxis(x, axis, -1).shape)
    expected = reference.row_stats_vjp(x.astype(np.float64), t, log_prob=2.0, axis=axis, softcap=3.0, temperature=0.7)
    options = {"log_prob": 2.0, "axis": axis, "softcap": 3.0, "temperature": 0.7}
    near(driver.host(fs.row_stats_vjp(driver.array(x), driver.array(t), **options)), expected)
    out = driver.array(np.zeros_like(x))
    assert fs.row_stats_vjp(driver.array(x), driver.array(t), out=out, **options) is out
    near(driver.host(out), expected)
    if layout != "read-only":
        own = driver.array(x.copy())
        assert fs.row_stats_vjp(own, driver.array(t), out=own, **options) is own
        near(driver.host(own), expected)


def test_rows_of_three_levels_take_several_launches(driver):
    x, out = spread(drawn(3, 4, 5, 6)), driver.array(spread(np.zeros((3, 4, 5, 6), np.float32)))
    t, a = labels(np.random.default_rng(2), x.shape), drawn(3, 4, 5)
    fs.row_stats_vjp(driver.array(x), driver.array(t), log_prob=driver.array(a), out=out)
    near(driver.host(out), reference.row_stats_vjp(x, t, log_prob=a))
    assert entries(driver) == ["derivatives"] * 3


def test_numbers_need_no_preparation(driver, monkeypatch):
    x = drawn(4, 7)
    for up in (1.0, -2, np.float32(0.5), 0.0):
        found = fs.row_stats_vjp(driver.array(x), driver.array(TARGET), log_prob=up, entropy=1.0)
        near(driver.host(found), reference.row_stats_vjp(x, TARGET, log_prob=up, entropy=1.0))
        monkeypatch.setattr(statistics, "_prepare_derivative", None)
    for changed in ({"entropy": None}, {"axis": 0}, {"ignore_index": 3}):
        with pytest.raises(TypeError, match="NoneType"):
            fs.row_stats_vjp(driver.array(x), driver.array(TARGET), **{"log_prob": 1.0, "entropy": 1.0, **changed})


def test_what_another_stream_does_is_waited_for(driver):
    x, t, a = (driver.array(v, kind=InterfaceArray, stream=n) for n, v in enumerate((drawn(4, 7), TARGET, drawn(4)), 3))
    fs.row_stats_vjp(x, t, log_prob=a)
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 3, 4), ("wait", 0, 3, 5)]
    assert {one.stream for one in driver.launches} == {3}


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "one of log_prob, entropy, log_sum_exp must be given", {}),
        (ValueError, "log_prob needs a target, got None", {"log_prob": 1.0, "target": None}),
        (
            ValueError,
            "entropy must have shape (2,), one number a row, or be a scalar, got (3,)",
            {"entropy": [1.0] * 3},
        ),
        (TypeError, "log_sum_exp must have dtype float32", {"log_sum_exp": np.zeros(2)}),
        (ValueError, "out must have the shape of the result", {"entropy": 1.0, "out": np.zeros(3, np.float32)}),
        (ValueError, "target must hold class indices here", {"entropy": 1.0, "target": np.zeros((2, 3))}),
        (ValueError, "entropy must hold numbers up to 3.4e+38", {"entropy": 1e300}),
    ],
)
def test_errors(driver, error, text, options):
    options = {"target": np.array([0, 1]), **options}
    options = {name: np.asarray(v) if isinstance(v, list) else v for name, v in options.items()}
    raises(error, text, fs.row_stats_vjp, np.zeros((2, 3), np.float32), backend=Gpu(driver), **options)


def test_an_output_in_the_way_is_refused(driver):
    """Though a call that looks the same was made before."""
    room, t = np.zeros((12, 7), np.float32), driver.array(TARGET)
    x = driver.array(room[:4])
    fs.row_stats_vjp(x, t, log_prob=1.0, out=driver.array(room[8:]))
    with pytest.raises(ValueError, match="out must not share memory with logits"):
        fs.row_stats_vjp(x, t, log_prob=1.0, out=driver.array(room[3:7]))


def test_compiled_kernels(interpreted):
    """By the public function, and not NumPy's for once."""
    x = drawn(40, 10)
    t, a = labels(np.random.default_rng(3), x.shape), drawn(40)
    on = (interpreted.array(v) for v in (x, t))
    found = fs.row_stats_vjp(*on, log_prob=interpreted.array(a), entropy=0.5)
    near(interpreted.host(found), reference.row_stats_vjp(x, t, log_prob=a, entropy=0.5))

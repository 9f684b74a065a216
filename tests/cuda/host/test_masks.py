"""Masks and offsets of classes on a GPU: libraries, what broadcasts, layouts, refusals; kernels are NumPy's."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import backend as of_losses
from fastsoftmax.cuda import statistics
from tests.backends import raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, of, spread
from tests.standins.arrays import ExchangedArray, InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS, computed

MAPS = [fs.softmax, fs.log_softmax, fs.logsumexp]
T = np.array([0, 6, -100, 3])
WANT = "log_prob", "entropy", "argmax", "rank"


def masked(*shape, seed=0):
    """A mask of a shape, of which the first class of each row is there."""
    where = np.random.default_rng(seed).random(shape) < 0.7
    where[..., 0] = True
    return where


def offsets(classes, dtype=np.float32):
    """An offset for each class, one of which is left out."""
    offset = np.random.default_rng(1).normal(size=classes)
    offset[-2] = -np.inf
    return offset.astype(dtype)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    """Every function that takes them, twice: prepared, and found again."""
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    for seed in range(2):
        x, where, offset = drawn(4, 7, dtype=dtype, seed=seed), masked(4, 7, seed=seed), offsets(7, computed(dtype))
        wide, on, t = x.astype(np.float64), library.array(x), library.array(T)
        mask, by = library.array(where), library.array(offset)
        for function in MAPS:
            near(library.host(function(on, where=mask)), of(function)(wide, where=where), dtype)
        given, there = {"where": where, "class_offset": offset}, {"where": mask, "class_offset": by}
        for one in ({"where"}, {"class_offset"}, {"where", "class_offset"}):
            options, moved = ({n: a for n, a in arrays.items() if n in one} for arrays in (given, there))
            exact = reference.cross_entropy_and_grad(wide, T, **options)
            got = fs.cross_entropy_and_grad(on, t, **moved)
            near(library.host(got.loss), exact.loss, dtype)
            near(library.host(got.grad), exact.grad, dtype)
            near(library.host(fs.cross_entropy(on, t, **moved)), exact.loss, dtype)
            found = fs.row_stats(on, t, want=WANT, **moved)
            right = reference.row_stats(wide, T, want=WANT, **options)
            for name_of in WANT:
                near(library.host(getattr(found, name_of)), getattr(right, name_of), computed(dtype), 10)
            ups = {"log_prob": 1.0, "entropy": 0.5}
            near(
                library.host(fs.row_stats_vjp(on, t, **ups, **moved)),
                of(fs.row_stats_vjp)(wide, T, **ups, **options),
                dtype,
            )


@pytest.mark.parametrize("kind", [InterfaceArray, ExchangedArray])
def test_arrays_of_no_library(driver, kind):
    x, where = drawn(4, 7), masked(4, 7)
    found = fs.softmax(driver.array(x, kind=kind), where=driver.array(where, kind=kind))
    near(driver.host(found), reference.softmax(x, where=where))


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7), (1, 5, 1), (7,), (3, 1, 7), (1, 1, 1)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_masks_that_broadcast(driver, shape, axis):
    x, where = drawn(3, 5, 7), np.random.default_rng(2).random(shape) < 0.8
    for function in MAPS:
        found = function(driver.array(x), axis, where=driver.array(where))
        near(driver.host(found), of(function)(x, axis, where=where))
    t = np.zeros(np.moveaxis(x, axis, -1).shape[:-1], int)
    got = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), axis=axis, where=driver.array(where))
    exact = reference.cross_entropy_and_grad(x, t, axis=axis, where=where)
    near(driver.host(got.loss), exact.loss)
    near(driver.host(got.grad), exact.grad)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("byte-swapped", "rows apart")])
def test_masks_in_other_layouts(driver, layout):
    """Of one byte an element, a mask may lie anywhere."""
    x, where = drawn(6, 9), masked(6, 9)
    on = driver.array(LAYOUTS[layout](where))
    for axis in (0, 1):
        near(driver.host(fs.softmax(driver.array(x), axis, where=on)), reference.softmax(x, axis, where=where))


def test_several_axes(driver):
    """A mask is merged as the logits are."""
    x = drawn(3, 4, 5)
    for shape in ((3, 4, 5), (3, 1, 1), (1, 1, 1)):
        where = masked(*shape)
        for axis in ((1, 2), None, ()):
            for function in MAPS[: 3 if axis else 2]:
                if axis is None and shape == (3, 1, 1):
                    continue
                found = function(driver.array(x), axis, where=driver.array(where))
                near(driver.host(found), of(function)(x, axis, where=where))
    text = (
        "where must lie as x does along the axes (1, 2) on a GPU, where nothing is copied, got shape (5,) with strides"
    )
    raises(ValueError, text, fs.softmax, driver.array(x), (1, 2), where=driver.array(masked(5)))


def test_rows_of_three_levels_take_several_launches(driver):
    """Each with the mask of its own rows; levels are those of logits and mask together."""
    x, t = drawn(3, 4, 5, 7), np.random.default_rng(3).integers(0, 7, (3, 4, 5))
    arrays = driver.array(x), driver.array(t)
    where, offset = masked(3, 1, 5, 7), offsets(7)
    options, moved = {"where": where}, {"where": driver.array(where)}
    near(driver.host(fs.softmax(arrays[0], **moved)), reference.softmax(x, **options))
    assert entries(driver) == ["softmax"] * 3
    options, moved = options | {"class_offset": offset}, moved | {"class_offset": driver.array(offset)}
    got = fs.cross_entropy_and_grad(*arrays, **moved)
    exact = reference.cross_entropy_and_grad(x, t, **options)
    near(driver.host(got.loss), exact.loss)
    near(driver.host(got.grad), exact.grad)
    found = fs.row_stats(*arrays, want="rank", **moved)
    np.testing.assert_array_equal(driver.host(found.rank), reference.row_stats(x, t, want="rank", **options).rank)
    grad = fs.row_stats_vjp(*arrays, log_prob=1.0, **moved)
    near(driver.host(grad), reference.row_stats_vjp(x, t, log_prob=1.0, **options))
    x = spread(x)
    near(driver.host(fs.softmax(driver.array(x), where=moved["where"])), reference.softmax(x, where=where))


def test_upstream_numbers(driver):
    """A number that gradients are multiplied by has its place behind more parameters."""
    x, where = drawn(4, 7), masked(4, 7)
    on = driver.array(x), driver.array(T)
    for up in (2.0, -0.5, 1.0):
        got = fs.cross_entropy_and_grad(*on, where=driver.array(where), grad_output=up)
        near(driver.host(got.grad), up * reference.cross_entropy_and_grad(x, T, where=where).grad)


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    """By shape, strides and dtype of masks and offsets, not by their contents."""
    on, offset = (driver.array(drawn(4, 7)), driver.array(T)), driver.array(offsets(7))
    calls = {
        "_prepare_map": lambda **adjust: fs.softmax(on[0], **adjust),
        "_prepare_loss": lambda **adjust: fs.cross_entropy(*on, class_offset=offset, **adjust),
        "_prepare_statistics": lambda **adjust: fs.row_stats(*on, class_offset=offset, want="rank", **adjust),
        "_prepare_derivative": lambda **adjust: fs.row_stats_vjp(*on, class_offset=offset, log_prob=1.0, **adjust),
    }
    for name, call in calls.items():
        call(where=driver.array(masked(4, 7)))
        monkeypatch.setattr(of_losses if name in ("_prepare_map", "_prepare_loss") else statistics, name, None)
        call(where=driver.array(masked(4, 7, seed=1)))
        for other in (None, driver.array(masked(7)), driver.array(masked(7, 4).T)):
            with pytest.raises(TypeError, match="NoneType"):
                call(where=other)


def test_what_another_stream_does_is_waited_for(driver):
    x, t = driver.array(drawn(4, 7), kind=InterfaceArray, stream=3), driver.array(T, kind=InterfaceArray, stream=3)
    options = {
        "where": driver.array(masked(4, 7), kind=InterfaceArray, stream=4),
        "class_offset": driver.array(offsets(7), kind=InterfaceArray, stream=5),
    }
    for call, streams in (
        (lambda: fs.softmax(x, where=options["where"]), {4}),
        (lambda: fs.cross_entropy(x, t, **options), {4, 5}),
        (lambda: fs.row_stats(x, t, want="rank", **options), {4, 5}),
        (lambda: fs.row_stats_vjp(x, t, log_prob=1.0, **options), {4, 5}),
    ):
        driver.calls.clear()
        call()
        assert {waited for what, _, _, waited in (c for c in driver.calls if c[0] == "wait")} == streams


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (
            TypeError,
            "where must be boolean, True where a class is there, got dtype int8",
            {"where": np.ones((2, 3), "i1")},
        ),
        (
            ValueError,
            "where must broadcast to the shape of the logits, (2, 3), got (3, 2)",
            {"where": np.ones((3, 2), bool)},
        ),
        (
            ValueError,
            "class_offset must have shape (3,), a number for each class, got (2,)",
            {"class_offset": np.zeros(2, "f4")},
        ),
        (TypeError, "class_offset must have dtype float32 on a GPU, got float64", {"class_offset": np.zeros(3)}),
        (ValueError, "class_offset must be C-contiguous on a GPU", {"class_offset": np.zeros(6, "f4")[::2]}),
    ],
)
def test_errors(driver, error, text, options):
    on = driver.array(np.zeros((2, 3), np.float32)), driver.array(np.array([0, 1]))
    moved = {name: driver.array(array) for name, array in options.items()}
    calls = [
        lambda: fs.cross_entropy_and_grad(*on, **moved),
        lambda: fs.row_stats(*on, want="rank", **moved),
        lambda: fs.row_stats_vjp(*on, log_prob=1.0, **moved),
    ]
    if "where" in options:
        calls += [lambda: fs.softmax(on[0], **moved), lambda: fs.logsumexp(on[0], None, **moved)]
    for call in calls:
        raises(error, text, call)


@pytest.mark.parametrize("name", ["where", "class_offset"])
def test_arguments_that_lie_elsewhere(driver, name):
    """Those to adjust by in main memory, or the logits."""
    x, t, by = (
        np.zeros((2, 3), np.float32),
        np.array([0, 1]),
        {"where": np.ones(3, bool), "class_offset": np.zeros(3, "f4")},
    )
    for function, options in ((fs.cross_entropy, {}), (fs.row_stats, {"want": "rank"})):
        raises(
            TypeError,
            f"{name} must lie on the GPU",
            function,
            driver.array(x),
            driver.array(t),
            **options,
            **{name: by[name]},
        )
        on = driver.array(by[name])
        raises(TypeError, f"logits must lie on the GPU, as {name} is", function, x, t, **options, **{name: on})


def test_compiled_kernels(interpreted):
    """By the public functions, and not NumPy's for once."""
    x, where, offset = drawn(40, 10), masked(40, 10), offsets(10)
    there = where & (offset != -np.inf)
    t = there.argmax(axis=-1)
    x[~there] = np.nan
    options = {"where": where, "class_offset": offset}
    moved = {name: interpreted.array(array) for name, array in options.items()}
    got = fs.cross_entropy_and_grad(interpreted.array(x), interpreted.array(t), label_smoothing=0.1, **moved)
    exact = reference.cross_entropy_and_grad(x, t, label_smoothing=0.1, **options)
    near(interpreted.host(got.loss), exact.loss, size=10)
    near(interpreted.host(got.grad), exact.grad)
    found = fs.row_stats(interpreted.array(x), interpreted.array(t), want=("log_prob", "rank"), **moved)
    right = reference.row_stats(x, t, want=("log_prob", "rank"), **options)
    near(interpreted.host(found.log_prob), right.log_prob, size=10)
    np.testing.assert_array_equal(interpreted.host(found.rank), right.rank)

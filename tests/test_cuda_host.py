"""What the host does for arrays on a GPU: values, launches, streams, allocations.

Kernels are NumPy's here (`emulated`), so that each argument of each launch counts: nothing in this file is a result of
a GPU, nor of a GPU's kernel.
"""

import sys

import numpy as np
import pytest
from emulated import Emulated, package
from fake_libraries import LIBRARIES
from ml_dtypes import bfloat16
from stub_arrays import DeviceArray, ExchangedArray, InterfaceArray
from support import INDEX_OPTIONS, SOFT_OPTIONS, labels, names, probabilities

import fastsoftmax as fs
from fastsoftmax import api_cuda, reference
from fastsoftmax.cuda import dlpack, libraries, own, workspace

DTYPES = [np.dtype(t) for t in (np.float16, bfloat16, np.float32, np.float64)]
MAPS = [fs.softmax, fs.log_softmax]
PRODUCTS = [fs.softmax_vjp, fs.log_softmax_vjp]
name = pytest.mark.parametrize("name", LIBRARIES)


@pytest.fixture
def driver(monkeypatch):
    return Emulated(devices=2).install(monkeypatch)


@pytest.fixture
def library(name, monkeypatch, driver):
    return LIBRARIES[name](monkeypatch, driver)


def drawn(*shape, dtype=np.float32, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def near(actual, expected, dtype=np.float32, size=1.0):
    """Within the rounding of what is stored, and of numbers on the way in the computing dtype."""
    error = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 1e-13}[np.dtype(dtype).name]
    actual = np.asarray(actual).astype(np.float64)
    np.testing.assert_allclose(actual, expected, rtol=error, atol=error * size)


def of(function):
    return getattr(reference, function.__name__)


def entries(driver):
    return [launched.entry for launched in driver.launches]


# Libraries: their arrays in, their arrays out, on their streams.


@name
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_function_takes_and_gives_arrays_of_the_same_kind(library, driver, name, dtype):
    if name == "numba" and dtype == bfloat16:
        pytest.skip("Numba has no arrays of bfloat16")
    x, g, t = drawn(4, 7, dtype=dtype), drawn(4, 7, dtype=dtype, seed=1), np.array([0, 6, -100, 3])
    wide = x.astype(np.float64), g.astype(np.float64)
    on = library.array(x), library.array(g), library.array(t)

    def same(result, expected, stored=dtype):
        assert type(result) is library.type
        assert result.values.dtype == stored
        assert result.shape == np.shape(expected)
        near(library.host(result), expected, stored)

    for function in MAPS:
        same(function(on[0]), of(function)(wide[0]))
    same(fs.logsumexp(on[0]), reference.logsumexp(wide[0]))
    for function in PRODUCTS:
        same(function(*on[:2]), of(function)(*wide))
    real = np.float64 if dtype == np.float64 else np.float32
    same(fs.cross_entropy(on[0], on[2]), reference.cross_entropy(wide[0], t), real)
    result, expected = fs.cross_entropy_and_grad(on[0], on[2]), reference.cross_entropy_and_grad(wide[0], t)
    same(result.loss, expected.loss, real)
    same(result.grad, expected.grad)
    assert not {"read", "clear"} & {call[0] for call in driver.calls}


@pytest.mark.parametrize("kind", [DeviceArray, InterfaceArray, ExchangedArray])
def test_arrays_of_no_library_give_arrays_of_our_own(driver, kind):
    x, t = drawn(4, 7), np.array([0, 6, -100, 3])
    loss, grad = fs.cross_entropy_and_grad(driver.array(x, kind=kind), driver.array(t, kind=kind))
    expected = reference.cross_entropy_and_grad(x, t)
    assert type(loss) is type(grad) is own.Array
    assert (loss.shape, grad.shape, grad.dtype, grad.device, grad.stream) == ((), (4, 7), "float32", 0, 1)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    near(driver.host(fs.softmax(grad)), reference.softmax(expected.grad))  # which are arguments in their turn


@name
@pytest.mark.parametrize("device", [0, 1])
def test_the_stream_is_that_of_the_caller(library, driver, name, device):
    """The library's current stream on the array's device, or the array's own; the default stream for JAX."""
    library.streams = {0: 5, 1: 6}
    bound = {"stream": 5 + device} if name == "numba" else {}
    x, t = (library.array(a, device=device, **bound) for a in (drawn(4, 7), np.arange(4)))
    loss, grad = fs.cross_entropy_and_grad(x, t, class_weight=library.array(np.ones(7, np.float32), device=device))
    fs.softmax(grad)
    stream = 1 if name == "jax" else 5 + device
    launched = [(one.device, one.stream) for one in driver.launches]
    assert launched[:3] == [(device, stream)] * 3
    assert grad.number == loss.number == device
    if name not in ("numba", "jax"):  # whose arrays have streams of their own to wait for
        assert not [call for call in driver.calls if call[0] == "wait"]


def test_what_another_stream_does_is_waited_for(driver):
    """By the stream, not by the caller."""
    x = driver.array(drawn(4, 7), kind=InterfaceArray, stream=3)
    t = driver.array(np.arange(4), kind=InterfaceArray, stream=4)
    out = driver.array(drawn(4, 7), kind=ExchangedArray, stream=5)
    loss, _ = fs.cross_entropy_and_grad(x, t, out=out)
    waits = [call for call in driver.calls if call[0] == "wait"]
    assert set(waits) == {("wait", 0, 3, 4), ("wait", 0, 3, 5)}
    assert {one.stream for one in driver.launches} == {3}
    assert loss.stream == 3
    assert loss.__cuda_array_interface__["stream"] == 3


@pytest.mark.parametrize("name", ["torch"])
def test_libraries_may_be_mixed(library, driver, name):
    library.streams = {0: 9}
    x, t = drawn(4, 7), np.arange(4)
    loss = fs.cross_entropy(library.array(x), driver.array(t, kind=InterfaceArray, stream=2))
    near(library.host(loss), reference.cross_entropy(x, t))
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 9, 2)]


@name
def test_with_out_nothing_is_allocated_but_the_loss(library, driver, name):
    if name == "jax":
        pytest.skip("its arrays never change")
    x, g, t = drawn(40, 7), drawn(40, 7, seed=1), np.arange(40) % 7
    on, out = [library.array(a) for a in (x, g, t)], library.array(np.zeros_like(x))
    fs.cross_entropy_and_grad(on[0], on[2], out=out)  # reserves the stream's workspace
    library.made.clear()
    driver.calls.clear()
    assert fs.softmax(on[0], out=out) is out
    near(library.host(out), reference.softmax(x))
    assert fs.softmax_vjp(*on[:2], out=out) is out
    near(library.host(out), reference.softmax_vjp(x, g), size=10)
    assert library.made == []
    loss, grad = fs.cross_entropy_and_grad(on[0], on[2], out=out)
    assert grad is out
    near(library.host(out), reference.cross_entropy_and_grad(x, t).grad)
    assert library.made == [((), np.float32)]
    near(library.host(loss), reference.cross_entropy(x, t))
    assert {call[0] for call in driver.calls} == {"launch"} or not driver.calls


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_in_place(library, driver, name):
    x, t = drawn(4, 7), np.arange(4)
    on = library.array(x.copy())
    loss, grad = fs.cross_entropy_and_grad(on, library.array(t), out=on)
    assert grad is on
    expected = reference.cross_entropy_and_grad(x, t)
    near(library.host(on), expected.grad)
    near(library.host(loss), expected.loss)


# Values: every option, layout and reduction.


def moved(driver, options):
    return {
        key: driver.array(np.asarray(value, np.float32)) if isinstance(value, np.ndarray) else value
        for key, value in options.items()
    }


def weighted(options, shape, dtype=np.float32):
    random = np.random.default_rng(5)
    filled = dict(options)
    for key, size in (("class_weight", shape[-1:]), ("sample_weight", shape[:-1])):
        if filled.get(key):
            filled[key] = np.where(random.uniform(size=size) < 0.2, 0, random.uniform(0.1, 2, size)).astype(dtype)
    return filled


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=names)
def test_options_of_indices(driver, options, reduction):
    x, t = drawn(6, 9), labels(np.random.default_rng(1), (6, 9))
    t[0] = -100
    options = {**weighted(options, x.shape), "reduction": reduction}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), **moved(driver, options))
    expected = reference.cross_entropy_and_grad(x, t, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    loss = fs.cross_entropy(driver.array(x), driver.array(t), **moved(driver, options))
    near(driver.host(loss), expected.loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
@pytest.mark.parametrize(("dtype", "kind"), [("float32", "float32"), ("float16", "float16"), ("float16", "float32")])
def test_options_of_probabilities(driver, options, reduction, dtype, kind):
    x, t = drawn(6, 9, dtype=dtype), probabilities(np.random.default_rng(1), (6, 9), kind)
    options = {**weighted(options, x.shape), "reduction": reduction}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), **moved(driver, options))
    expected = reference.cross_entropy_and_grad(x, t, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad, dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_upstream_gradient_is_a_number(driver, reduction):
    """Which makes no call look different."""
    x, t = drawn(6, 9), np.arange(6)
    for up in (0.5, np.float32(-2), np.array(3.0), 7):
        loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), grad_output=up, reduction=reduction)
        expected = reference.cross_entropy_and_grad(x, t, grad_output=up, reduction=reduction)
        near(driver.host(loss), expected.loss)
        near(driver.host(grad), expected.grad)
    assert len(api_cuda._prepared) == 1


def test_an_upstream_gradient_for_each_row(driver):
    x, t, up = drawn(6, 9), np.arange(6), drawn(6, seed=3)
    options = {"reduction": "none", "label_smoothing": 0.1}
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), grad_output=driver.array(up), **options)
    expected = reference.cross_entropy_and_grad(x, t, grad_output=up, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)


def spread(x):
    """Every second element of every axis, between others."""
    room = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view


LAYOUTS = {
    "C": lambda x: x.copy(),
    "Fortran": lambda x: x.T.copy().T,
    "spread": spread,
    "backwards": lambda x: x[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "transposed": lambda x: x.swapaxes(0, 2).copy().swapaxes(0, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3, 3])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_layouts_and_axes(driver, layout, axis, reduction):
    """More than two levels of rows are several launches."""
    x = LAYOUTS[layout](drawn(3, 4, 5, 6))
    shape = np.moveaxis(x, axis, -1).shape
    t = labels(np.random.default_rng(2), shape)
    weight = np.random.default_rng(3).uniform(0.5, 2, shape[:-1]).astype(np.float32)
    options = {"axis": axis, "reduction": reduction}
    on = driver.array(x), driver.array(t)
    loss, grad = fs.cross_entropy_and_grad(*on, sample_weight=driver.array(weight), **options)
    expected = reference.cross_entropy_and_grad(x, t, sample_weight=weight, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    near(driver.host(fs.logsumexp(on[0], axis)), reference.logsumexp(x, axis))
    near(driver.host(fs.log_softmax(on[0], axis)), reference.log_softmax(x, axis), size=10)
    near(driver.host(fs.softmax_vjp(on[0], grad, axis)), reference.softmax_vjp(x, expected.grad, axis), size=10)
    out = spread(np.zeros_like(x))
    assert driver.host(fs.softmax(on[0], axis, out=driver.array(out))) is not None
    near(out, reference.softmax(x, axis))


def test_outer_levels_are_walked_in_the_order_of_rows(driver):
    x = spread(drawn(3, 4, 5, 6))
    t = labels(np.random.default_rng(2), x.shape)
    loss, _ = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), out=driver.array(spread(x)), reduction="none")
    assert entries(driver) == ["cross_entropy"] * 3
    near(driver.host(loss), reference.cross_entropy(x, t, reduction="none"))
    driver.launches.clear()
    fs.cross_entropy(driver.array(x), driver.array(t))
    assert entries(driver) == ["count", *["cross_entropy"] * 3, "total"]


@pytest.mark.parametrize("axis", [None, (0, 1, 2), (1, 2), (-1, 1), (2,), (0, 1), (1, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_several_axes(driver, axis, keepdims):
    x = drawn(3, 4, 5)
    on = driver.array(x)
    near(driver.host(fs.softmax(on, axis)), reference.softmax(x, axis))
    out = np.zeros_like(x)
    fs.log_softmax(on, axis, out=driver.array(out))
    near(out, reference.log_softmax(x, axis), size=10)
    result = fs.logsumexp(on, axis, keepdims=keepdims)
    expected = reference.logsumexp(x, axis, keepdims=keepdims)
    assert result.shape == np.shape(expected)
    near(driver.host(result), expected)


def test_keepdims_of_one_axis(driver):
    assert fs.logsumexp(driver.array(drawn(3, 4, 5)), 1, keepdims=True).shape == (3, 1, 5)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_no_rows(driver, shape):
    x, t = drawn(*shape), np.zeros(shape[:-1], int)
    on = driver.array(x), driver.array(t)
    assert fs.softmax(on[0]).shape == shape
    assert fs.logsumexp(on[0]).shape == shape[:-1]
    loss, grad = fs.cross_entropy_and_grad(*on)
    assert grad.shape == shape
    assert np.isnan(driver.host(loss))
    assert driver.host(fs.cross_entropy(*on, reduction="sum")) == 0
    assert fs.cross_entropy(*on, reduction="none").shape == shape[:-1]


def test_rows_without_weight(driver):
    """The mean over nothing is NaN; so are its gradients, but for ignored rows."""
    x, t = drawn(3, 4), np.array([-100, 1, 1])
    weight = np.array([1, 0, 1, 1], np.float32)
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), class_weight=driver.array(weight))
    expected = reference.cross_entropy_and_grad(x, t, class_weight=weight)
    np.testing.assert_array_equal(driver.host(loss), expected.loss)
    np.testing.assert_array_equal(driver.host(grad), expected.grad)


# Labels.


@pytest.mark.parametrize("check", [None, False])
def test_bad_labels_are_nan_and_nobody_waits(driver, check):
    x, t = drawn(3, 4), np.array([0, 4, 1])
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), reduction="none", check_targets=check)
    assert np.isnan(driver.host(loss)).tolist() == [False, True, False]
    assert np.isnan(driver.host(grad)).all(axis=1).tolist() == [False, True, False]
    assert not [call for call in driver.calls if call[0] in ("read", "clear")]


@pytest.mark.parametrize("bad", [None, -3])
def test_labels_of_32_bits(driver, bad):
    """As JAX has them, who has no others by default."""
    x, t = drawn(3, 4, 5), labels(np.random.default_rng(0), (3, 4, 5)).astype(np.int32)
    on = driver.array(spread(x[..., ::-1]))
    if bad is None:
        for reduction in ("mean", "none"):
            loss = fs.cross_entropy(on, driver.array(t), reduction=reduction, check_targets=True)
            near(driver.host(loss), reference.cross_entropy(x[..., ::-1], t, reduction=reduction))
        return
    t[1, 2] = bad
    with pytest.raises(ValueError, match=r"got -3 at position \(1, 2\)"):
        fs.cross_entropy(on, driver.array(t), check_targets=True)


def test_many_labels_are_counted_by_several_blocks(driver):
    """Whose sums are added up in the memory where the losses' sums come later."""
    x, t = drawn(100_000, 2), labels(np.random.default_rng(0), (100_000, 2))
    weight = np.array([0.5, 2], np.float32)
    loss = fs.cross_entropy(driver.array(x), driver.array(t), class_weight=driver.array(weight))
    near(driver.host(loss), reference.cross_entropy(x, t, class_weight=weight))
    assert entries(driver) == ["count", "total", "cross_entropy", "total"]
    assert driver.launches[0].grid > 1


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bad", [-1, 4, 2**32 + 1, -(2**63)])
def test_bad_labels_raise_where_it_is_asked_for(driver, reduction, bad):
    """With their value and place, after one wait, and before anything is written."""
    x, t, out = drawn(2, 3, 4), np.array([[0, -100, 1], [2, bad, 3]]), np.full((2, 3, 4), 5, np.float32)
    on = driver.array(x), driver.array(t)
    options = {"reduction": reduction, "out": driver.array(out)}
    with pytest.raises(ValueError, match=rf"\[0, 4\) or ignore_index, got {bad} at position \(1, 1\)"):
        fs.cross_entropy_and_grad(*on, check_targets=True, **options)
    assert (out == 5).all()
    assert entries(driver) == ["count"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_good_labels_are_read_back_once(driver, reduction):
    x, t = drawn(3, 4), np.array([0, -100, 1])
    for _ in range(2):
        driver.calls.clear()
        loss = fs.cross_entropy(driver.array(x), driver.array(t), reduction=reduction, check_targets=True)
        near(driver.host(loss), reference.cross_entropy(x, t, reduction=reduction))
        assert [call[0] for call in driver.calls if call[0] in ("read", "clear")] == ["clear", "read"]


def test_probabilities_have_no_labels_to_check(driver):
    x, t = drawn(3, 4), probabilities(np.random.default_rng(0), (3, 4), np.float32)
    fs.cross_entropy(driver.array(x), driver.array(t), check_targets=True)
    assert "read" not in {call[0] for call in driver.calls}


def test_the_cpu_checks_labels_whatever_is_said():
    for check in (None, True, False):
        with pytest.raises(ValueError, match="got 9 at row 0"):
            fs.cross_entropy(drawn(1, 3), np.array([9]), check_targets=check)


# Launches.


def test_the_arguments_of_a_launch(driver):
    x, t = drawn(2, 3, 8).transpose(1, 0, 2), np.zeros((3, 2), int)
    on, to = (driver.array(a) for a in (x, t))
    out = driver.array(np.zeros((3, 2, 8), np.float32))
    fs.cross_entropy_and_grad(on, to, out=out, grad_output=0.5, ignore_index=-7, z_loss=0.25, reduction="sum")
    rows, total = driver.launches
    room = workspace.workspace(0, 1).address
    p = package_params().Integers(*rows.arguments[:24])
    assert p == package_params().Integers(
        x=on.address, out=out.address, target=to.address, partial=room + 16, ignore_index=-7, rows=6, inner=2,
        classes=8, x_outer=32, x_inner=96, x_step=4, out_outer=64, out_inner=32, out_step=4,
    )  # fmt: skip
    assert rows.arguments[24:] == (0.5, 1, 0, 0.25, 0, 0, 1)
    assert total.arguments[:3] == (room + 16, rows.grid, 0)
    assert (rows.shared, total.grid) == (0, 1)


def package_params():
    from fastsoftmax.cuda import params

    return params


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    x, t = drawn(4, 7), np.arange(4)
    fs.cross_entropy_and_grad(driver.array(x), driver.array(t))
    monkeypatch.setattr(api_cuda, "_prepare_loss", None)
    other, labels_ = drawn(4, 7, seed=9), np.arange(4)[::-1].copy()
    loss, grad = fs.cross_entropy_and_grad(driver.array(other), driver.array(labels_))
    expected = reference.cross_entropy_and_grad(other, labels_)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    for changed in ({"reduction": "sum"}, {"axis": 1}, {"label_smoothing": 0.1}):
        with pytest.raises(TypeError, match="NoneType"):
            fs.cross_entropy_and_grad(driver.array(other), driver.array(labels_), **changed)
    with pytest.raises(TypeError, match="NoneType"):  # another alignment
        fs.cross_entropy_and_grad(driver.array(other.copy(), offset=4), driver.array(labels_))


def test_streams_have_workspaces_of_their_own(driver, monkeypatch):
    """The driver would notice memory that two of them write to without waiting; it goes by whole reservations."""
    monkeypatch.setattr(workspace, "SLAB", workspace.LEAST)
    x, t = drawn(4, 7), np.arange(4)
    for stream in (3, 4, 3):
        fs.cross_entropy(driver.array(x.copy(), stream=stream), driver.array(t.copy(), stream=stream))
    assert set(workspace._known) == {(0, 3), (0, 4)}
    first, second = (one.address for one in workspace._known.values())
    assert abs(first - second) >= workspace.LEAST


@pytest.mark.parametrize("name", ["torch"])
def test_a_call_that_was_made_before_may_be_captured_on_another_stream(library, driver, name, monkeypatch):
    """Nothing is allocated, loaded or waited for, but the library's own arrays are made."""
    x, t = library.array(drawn(4, 7)), library.array(np.arange(4))
    fs.cross_entropy_and_grad(x, t)
    driver.calls.clear()
    for function in ("load", "reserve", "allocate", "clear", "read", "wait", "facts"):
        monkeypatch.setattr(package, function, None)
    library.streams = {0: 77}
    driver.order.wait(77, 0)
    loss, _ = fs.cross_entropy_and_grad(x, t)
    assert driver.launches[-1].stream == 77
    near(library.host(loss), reference.cross_entropy(drawn(4, 7), np.arange(4)))


def test_a_slab_serves_many_streams_and_then_another_does(driver):
    places = [workspace.workspace(0, stream).reserve(10) for stream in range(2, 20)]
    assert len(set(places)) == 18
    assert [call for call in driver.calls if call[0] == "reserve"] == [("reserve", 0, workspace.SLAB)] * 2
    assert all(abs(a - b) >= workspace.LEAST for a in places for b in places if a != b)


def test_a_workspace_grows_and_keeps_what_it_had(driver):
    room = workspace.workspace(0, 3)
    first = room.reserve(100)
    assert room.reserve(200) == first
    second = room.reserve(100_000)
    assert second != first
    assert room.size >= 100_000 * 8 + workspace.HEADER
    driver.buffer(first)


def test_the_launches_of_two_threads_do_not_mix(driver, monkeypatch):
    """Nobody launches while another call on the stream is half way through."""
    x, t = driver.array(drawn(4, 7), stream=3), driver.array(np.arange(4), stream=3)
    held = []
    launch = package.launch
    lock = workspace.workspace(0, 3).lock
    monkeypatch.setattr(package, "launch", lambda *a: (held.append(lock.locked()), launch(*a)))
    fs.cross_entropy(x, t)
    assert held == [True] * 3
    assert not lock.locked()


# Arrays of our own.


def test_an_array_of_our_own_says_where_it_is(driver):
    made = own.Array((2, 3), "float32", 1, 5)
    about = made.__cuda_array_interface__
    assert about == {
        "shape": (2, 3), "strides": None, "typestr": "<f4", "data": (made.pointer, False), "version": 3, "stream": 5
    }  # fmt: skip
    assert made.__dlpack_device__() == (2, 1)
    assert repr(made) == "<fastsoftmax.cuda array of float32, shape (2, 3), on GPU 1>"
    assert driver.allocations == [(1, 24, 5)]


def test_an_array_of_our_own_is_exchanged(driver):
    """Its consumer's stream waits for its own."""
    made = own.Array((2, 3), "bfloat16", 1, 5)
    found = dlpack.read(made.__dlpack__(stream=8))
    assert found == dlpack.Described(made.pointer, (2, 3), (6, 2), "bfloat16", 1)
    assert ("wait", 1, 8, 5) in driver.calls
    driver.calls.clear()
    made.__dlpack__(stream=5)
    made.__dlpack__(stream=-1)
    assert not driver.calls
    made.__dlpack__()
    assert driver.calls == [("wait", 1, 1, 5)]
    assert not hasattr(made, "__cuda_array_interface__")


def test_capsules_keep_memory_until_they_are_used(driver):
    before = len(dlpack._exported)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    described = dlpack.Described(values.ctypes.data, (2, 3), (12, 4), "float32", 0)
    capsule = dlpack.export(described, values, device_type=1)
    assert len(dlpack._exported) == before + 1
    torch = pytest.importorskip("torch")
    tensor = torch.utils.dlpack.from_dlpack(capsule)
    assert tensor.tolist() == values.tolist()
    del capsule
    assert len(dlpack._exported) == before + 1
    del tensor
    assert len(dlpack._exported) == before


def test_capsules_that_nobody_uses_are_given_back(driver):
    before = len(dlpack._exported)
    capsule = dlpack.export(dlpack.Described(0, (), (), "float64", 0), None)
    assert len(dlpack._exported) == before + 1
    del capsule
    assert len(dlpack._exported) == before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.int32])
def test_capsules_of_numpy_are_read(dtype):
    x = np.zeros((4, 6), dtype)[::2, 1::3]
    described = dlpack.read(x.__dlpack__())
    assert described == dlpack.Described(x.ctypes.data, x.shape, x.strides, np.dtype(dtype).name, 0)


# The libraries themselves, as far as they are installed and without a GPU.


def test_torch_has_what_is_asked_of_it():
    torch = pytest.importorskip("torch")
    kind = libraries.Torch()
    for dtype in ("float16", "bfloat16", "float32", "float64", "int64"):
        x = torch.zeros((4, 6), dtype=getattr(torch, dtype))[:, ::2]
        peeked, address = kind.peek(x, 0)
        assert address == x.data_ptr() == kind.address(x)
        assert kind.look(x, peeked) == libraries.Look((4, 3), (6 * x.itemsize, 2 * x.itemsize), dtype, -1)
        hash(peeked)
        assert kind.like(x, 0).shape == x.shape
        new = kind.new(x, (2,), "float32", 0)
        assert (new.dtype, new.device, tuple(new.shape)) == (torch.float32, x.device, (2,))
    assert "detach" in kind.refused(torch.zeros(1, requires_grad=True), "x")
    assert kind.peek(torch.zeros(1), 0)[0] != kind.peek(torch.zeros(1, requires_grad=True), 0)[0]
    assert kind.stream(torch.zeros(1)) == 0


def test_numbas_arrays_have_what_is_asked_of_them():
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

    assert hasattr(DeviceNDArray, "device_ctypes_pointer")
    assert DeviceNDArray.__module__.startswith("numba.")


def test_nothing_is_imported_for_arrays_in_main_memory():
    code = """
import sys, numpy as np, fastsoftmax as fs
fs.softmax([1.0, 2.0]); fs.cross_entropy(np.zeros((2, 3)), [0, 1], class_weight=[1, 1, 1.0])
print(sorted(m for m in sys.modules if m.startswith(("fastsoftmax.cuda", "fastsoftmax.check_cuda", "numba.cuda"))))
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=100)
    assert done.stdout.strip() == "[]"
    assert package is sys.modules["fastsoftmax.cuda.package"]

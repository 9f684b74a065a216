"""What the host does for a call on a GPU: the arguments of launches, what is prepared, workspaces, captures.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.dtypes import FLOAT32
from fastsoftmax.core.options import Numbers
from fastsoftmax.cuda import backend, launches, plan, prepared, workspace
from fastsoftmax.cuda.kernels import parameters, recipes
from tests.cuda.host.support import drawn, entries, near, spread
from tests.standins.numpy_kernels import compiler
from tests.support import labels


def test_the_arguments_of_a_launch(driver):
    x, t = drawn(2, 3, 8).transpose(1, 0, 2), np.zeros((3, 2), int)
    on, to = (driver.array(a) for a in (x, t))
    out = driver.array(np.zeros((3, 2, 8), np.float32))
    fs.cross_entropy_and_grad(on, to, out=out, grad_output=0.5, ignore_index=-7, z_loss=0.25, reduction="sum")
    rows, total = driver.launches
    room = workspace.workspace(0, 1).address
    p = parameters.Integers(*rows.arguments[:24])
    assert p == parameters.Integers(
        x=on.address, out=out.address, target=to.address, partial=room + 16, ignore_index=-7, rows=6, inner=2,
        classes=8, x_outer=32, x_inner=96, x_step=4, out_outer=64, out_inner=32, out_step=4,
    )  # fmt: skip
    assert rows.arguments[24:] == Numbers(scale=0.5, z_loss=0.25)
    assert total.arguments[:3] == (room + 16, rows.grid, 0)
    assert (rows.shared, total.grid) == (0, 1)


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    x, t = drawn(4, 7), np.arange(4)
    fs.cross_entropy_and_grad(driver.array(x), driver.array(t))
    monkeypatch.setattr(backend, "_prepare_loss", None)
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
        monkeypatch.setattr(compiler, function, None)
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
    launch = compiler.launch
    lock = workspace.workspace(0, 3).lock
    monkeypatch.setattr(compiler, "launch", lambda *a: (held.append(lock.locked()), launch(*a)))
    fs.cross_entropy(x, t)
    assert held == [True] * 3
    assert not lock.locked()


@pytest.mark.parametrize("function", ["softmax", "cross_entropy_and_grad"])
def test_code_is_loaded_once_whatever_the_grid(driver, monkeypatch, function):
    """And is never unloaded, as a captured graph may launch it: who loads it again finds what was there before."""
    loads, load = [], compiler.load
    monkeypatch.setattr(compiler, "load", lambda compiled, *rest: loads.append(compiled) or load(compiled, *rest))
    grids = set()
    for rows in (*range(1, 4000, 63), 100_000):
        x = driver.array(np.zeros((rows, 8), np.float32))
        getattr(fs, function)(x, *[driver.array(np.zeros(rows, int))] * (function != "softmax"))
        grids.add(next(one.grid for one in driver.launches[::-1] if one.entry == function.removesuffix("_and_grad")))
    assert len(grids) > 30
    built = [compiled.recipe for compiled in loads]
    assert len(set(built)) == len(built)
    assert sorted(recipe.name for recipe in built) == (
        ["softmax"] if function == "softmax" else sorted(KERNELS_OF_A_MEAN)
    )


KERNELS_OF_A_MEAN = ["count", "cross_entropy", "total", "total"]  # one total of float64 counts, one of float32 losses


def test_shared_memory_is_asked_for_once_for_rows_of_all_lengths(driver, monkeypatch):
    loads, load = [], compiler.load
    monkeypatch.setattr(compiler, "load", lambda *all_: loads.append(all_) or load(*all_))
    for classes in (200_000, 250_000, 300_000):
        fs.softmax(driver.array(np.zeros((1, classes), np.float32)))
    asked = [one.shared for one in driver.launches]
    assert len(set(asked)) == 3
    assert all(shared > 48 * 1024 for shared in asked)
    assert [shared for _, _, shared in loads] == [driver.about.shared - plan.RESERVED]


def test_two_threads_load_a_kernel_once(driver, monkeypatch):
    """The second one waits for what the first one loads."""
    recipe, load, loads = recipes.total_recipe(FLOAT32), compiler.load, []
    began, second = threading.Event(), threading.Event()

    def slow(*arguments):
        began.set()
        second.wait()
        loads.append(load(*arguments))
        return loads[-1]

    compiled = recipes.compiled

    def reached(*arguments):
        if began.is_set():
            second.set()
        return compiled(*arguments)

    monkeypatch.setattr(compiler, "load", slow)
    monkeypatch.setattr(recipes, "compiled", reached)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(launches.loaded, recipe, 0)
        began.wait()
        other = pool.submit(launches.loaded, recipe, 0)
        assert first.result() is other.result() is loads[0]
    assert len(loads) == 1
    assert launches.loaded(recipe, 1) is not loads[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_upstream_gradient_is_a_number(driver, reduction):
    """Which makes no call look different."""
    x, t = drawn(6, 9), np.arange(6)
    for up in (0.5, np.float32(-2), np.array(3.0), 7):
        loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), grad_output=up, reduction=reduction)
        expected = reference.cross_entropy_and_grad(x, t, grad_output=up, reduction=reduction)
        near(driver.host(loss), expected.loss)
        near(driver.host(grad), expected.grad)
    assert len(prepared.calls) == 1


def test_outer_levels_are_walked_in_the_order_of_rows(driver):
    x = spread(drawn(3, 4, 5, 6))
    t = labels(np.random.default_rng(2), x.shape)
    loss, _ = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), out=driver.array(spread(x)), reduction="none")
    assert entries(driver) == ["cross_entropy"] * 3
    near(driver.host(loss), reference.cross_entropy(x, t, reduction="none"))
    driver.launches.clear()
    fs.cross_entropy(driver.array(x), driver.array(t))
    assert entries(driver) == ["count", *["cross_entropy"] * 3, "total"]

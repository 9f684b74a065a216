"""Linear passes on a GPU: chunks, memory, streams, and the compiled kernels.

Kernels are NumPy's, and so are the libraries' products (tests/standins): nothing here is a result of a GPU.
"""

import numpy as np
import pytest
from ml_dtypes import bfloat16

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import workspace
from fastsoftmax.cuda.linear import backend, chunks, plan
from fastsoftmax.cuda.toolkit import compiler
from tests.cuda.host.support import near
from tests.cuda.linear.support import SHAPE, as_reference, every, on, torch
from tests.linear.support import ALL, problem
from tests.standins.libraries import LIBRARIES


def test_the_rows_of_a_chunk():
    """A pure function of shapes: at least 2048 rows, 512 MB of logits, and never more rows than there are."""
    rows = plan.chunk_rows
    assert rows(10**6, 1 << 20, 4) == 2048
    assert rows(2000, 1 << 20, 4) == 2000
    assert rows(10**6, 65_536, 4) == rows(10**6, 131_072, 2) == 2048
    assert rows(10**6, 65_535, 4) == rows(10**6, 61_681, 4) == 2048
    assert rows(10**6, 61_680, 4) == 2176
    assert rows(10**6, 1000, 2) == (1 << 29) // 2000 // 128 * 128
    assert rows(10**6, 10, 4, 100) == 104
    assert rows(50, 10, 4, 100) == 50
    assert rows(0, 10, 4) == rows(0, 10, 4, 5) == 1
    assert [plan.row_pitch(k, 2) for k in (1, 8, 9)] == [8, 8, 16]
    assert [plan.row_pitch(k, 8) for k in (1, 2, 3)] == [2, 2, 4]


@every
def test_a_small_budget_makes_chunks(library, driver, name, monkeypatch):
    """Two kinds of launches, which are prepared once; the mean is of all rows."""
    monkeypatch.setattr(plan, "BUDGET", 1 << 15)
    monkeypatch.setattr(plan, "ROWS", 256)
    *given, options = problem(5, (1000, 5, 9), np.float32, {"class_weight": True, "sample_weight": True})
    as_reference(library, given, options)
    rows = (1 << 15) // 36 // 128 * 128  # 896, and 104 in the last one
    entries = [launched.entry for launched in driver.launches]
    assert entries == ["count", *["cross_entropy", "total"] * 2, "total"]
    assert library.made[-1] == ((rows, {"torch": 12, "cupy": 9}[name]), np.float32)
    monkeypatch.setattr(backend, "LinearCall", None)
    as_reference(library, given, options)


@every
@pytest.mark.parametrize("dtype", [bfloat16, np.float32])
def test_what_is_allocated(library, driver, name, dtype):
    """The logits of a chunk, gradients, the loss; a float32 gradient for half types, and what CuPy cannot add to."""
    kind, half = np.dtype(dtype), dtype == bfloat16
    *given, _ = problem(0, SHAPE, dtype)
    arrays = on(library, *given)
    pitch = 9 if name == "cupy" else 16 if half else 12

    def made(function, **options):
        library.made.clear()
        function(*arrays, **options)
        return library.made

    loss, whole, part = ((), np.float32), ((50, pitch), kind), ((16, pitch), kind)
    grads, total, sums = [((50, 7), kind), ((9, 7), kind), ((9,), kind)], ((9, 7), np.float32), ((9,), np.float32)
    assert made(fs.linear_cross_entropy) == [loss, whole]
    assert made(fs.linear_cross_entropy, block_rows=16) == [loss, part]
    assert made(fs.linear_cross_entropy_and_grad, wrt=ALL) == [*grads, loss, *[sums] * half, whole]
    more = [total, sums, sums] if half else [total, sums] if name == "cupy" else [sums]
    assert made(fs.linear_cross_entropy_and_grad, wrt=ALL, block_rows=16) == [*grads, loss, *more, part]
    assert made(fs.linear_cross_entropy_and_grad, wrt="x", block_rows=16) == [grads[0], loss, part]
    assert not driver.allocations


@every
def test_accumulation_in_float32(library, name, monkeypatch):
    """Of chunks that all add the same to a gradient: in bfloat16 the sum would stand still at 256 of 300 parts."""
    rows, dtype = 2400, bfloat16
    x, weight, target = np.ones((rows, 2), dtype), np.zeros((4, 2), dtype), np.zeros(rows, int)
    given, options = (x, weight, target, np.zeros(4, dtype)), {"reduction": "sum", "block_rows": 8}
    as_reference(library, given, {}, wrt=("weight", "bias"), **options)
    monkeypatch.setattr(chunks, "computed", lambda dtype: dtype)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        as_reference(library, given, {}, wrt=("weight", "bias"), **options)


@every
@pytest.mark.parametrize("device", [0, 1])
def test_everything_goes_to_the_callers_stream(library, driver, name, device):
    """Kernels and products, on the device of the arrays."""
    library.streams = {0: 5, 1: 6}
    *given, _ = problem(0, SHAPE, bfloat16)
    x, weight, target, bias = on(library, *given, device=device)
    fs.linear_cross_entropy_and_grad(x, weight, target, bias, wrt=ALL, block_rows=16)
    fs.linear_predict(x, weight, bias)
    fs.linear_predict_proba(x, weight)
    fs.linear_top_k(x, weight, bias, k=3)
    fs.linear_hessian_product(x, weight, bias, weight, bias)
    assert {(one.device, one.stream) for one in driver.launches} == {(device, 5 + device)}
    assert {work[1:] for work in library.work} == {(device, 5 + device)}
    assert not [call for call in driver.calls if call[0] in ("wait", "read", "clear")]


@every
def test_sums_have_room(library, driver, name, monkeypatch):
    """Eight bytes for each chunk, and for each block of one: not more with more rows, as graphs may hold it."""
    monkeypatch.setattr(workspace, "LEAST", 64)
    monkeypatch.setattr(workspace, "SLAB", 64)
    *given, options = problem(14, SHAPE, np.float32)
    as_reference(library, given, options, block_rows=8)
    grids = [one.grid for one in driver.launches if one.entry == "cross_entropy"]
    assert len(grids) == 7
    assert [call[2] for call in driver.calls if call[0] == "reserve"] == [16 + 8 * (7 + max(grids))]


@every
def test_the_launches_of_two_threads_do_not_mix(library, name, monkeypatch):
    """Nobody launches, or multiplies into sums, while another pass on the stream is half way through."""
    library.streams = {0: 3}
    *given, options = problem(15, SHAPE, np.float32)
    lock, held = workspace.workspace(0, 3).lock, []
    for owner, function in ((compiler, "launch"), (library, "operate")):
        of = getattr(owner, function)
        monkeypatch.setattr(owner, function, lambda *a, of=of: (held.append(lock.locked()), of(*a))[1])
    as_reference(library, given, options, block_rows=16)
    fs.linear_top_k(*on(library, given[0], given[1]), k=2)
    assert len(held) > 15
    assert all(held)
    assert not lock.locked()


@torch
def test_what_another_stream_does_is_waited_for(library, driver, name):
    from tests.standins.arrays import InterfaceArray

    library.streams = {0: 9}
    *given, _ = problem(0, SHAPE, np.float32)
    x, weight, target, bias = given
    labels = driver.array(target, kind=InterfaceArray, stream=2)
    loss = fs.linear_cross_entropy(*on(library, x, weight), labels, library.array(bias))
    near(library.host(loss), reference.linear_cross_entropy(x, weight, target, bias), size=5)
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 9, 2)]


@every
def test_a_loss_alone_makes_no_gradients(library, driver, name):
    *given, _ = problem(0, SHAPE, np.float32)
    options = {"block_rows": 16, "reduction": "none"}
    loss = fs.linear_cross_entropy(*on(library, *given), **options)
    right = reference.linear_cross_entropy(*given, reduction="none")
    near(library.host(loss), right, size=10)
    assert {what for what, *_ in library.work} == {"torch": {"addmm"}, "cupy": {"dot", "add"}}[name]
    assert [one.entry for one in driver.launches] == ["cross_entropy"] * 4
    assert all(one.arguments[2] == 0 for one in driver.launches)  # no output
    result = fs.linear_cross_entropy_and_grad(*on(library, *given), wrt=(), **options)
    near(library.host(result.loss), right, size=10)
    assert result[1:] == (None, None, None)


@every
@pytest.mark.parametrize("wrt", ["x", "weight", "bias", ("x", "bias"), ["weight", "x"]])
def test_gradients_that_are_asked_for(library, name, wrt):
    *given, options = problem(6, SHAPE, np.float16)
    as_reference(library, given, options, wrt=(wrt,) if isinstance(wrt, str) else wrt, block_rows=16)
    given[3] = None
    as_reference(library, given, options, wrt=(wrt,) if isinstance(wrt, str) else wrt, block_rows=16)


# The kernels themselves, interpreted from their PTX.


def test_chunks_run_the_compiled_kernels(interpreted, monkeypatch):
    """In place, on rows whose ends are no whole vectors, and with fewer rows at last."""
    driver, library = interpreted, LIBRARIES["torch"](monkeypatch, interpreted)
    *given, options = problem(16, (21, 5, 35), bfloat16)
    as_reference(library, given, options, block_rows=8)
    rows = [one for one in driver.launches if len(one.arguments) > 20]
    assert [one.arguments[12] for one in rows] == [8, 8, 5]
    assert {one.arguments[0] for one in rows} == {rows[0].arguments[2]}
    logits = [one.traffic[driver.buffer(one.arguments[0]).name] for one in rows]
    floor = 21 * 35 * 2
    assert floor <= sum(used.loaded for used in logits) <= 1.02 * floor
    assert floor <= sum(used.stored for used in logits) <= 1.02 * floor

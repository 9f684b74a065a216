"""Linear passes on a GPU: values, chunks, memory, streams.

Kernels are NumPy's here (`emulated`), and so are the libraries' products (`fake_libraries`): nothing in this file is a
result of a GPU.
"""

import numpy as np
import pytest
from fake_libraries import LIBRARIES
from ml_dtypes import bfloat16
from support import INDEX_OPTIONS, SOFT_OPTIONS, names
from support_host import DTYPES, near
from support_linear import ALL, problem

import fastsoftmax as fs
from fastsoftmax import linear_cuda, plan_linear, reference, run_linear_cuda
from fastsoftmax.cuda import package, workspace

SHAPE = 50, 7, 9  # rows, features, classes
every = pytest.mark.parametrize("name", ["torch", "cupy"])
torch = pytest.mark.parametrize("name", ["torch"])


def on(library, *arrays, **options):
    return [None if a is None else library.array(a, **options) for a in arrays]


def moved(library, options, real=np.float32):
    return {k: library.array(v.astype(real)) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def as_reference(library, dtype, given, options, *, size=1.0, wrt=ALL, **more):
    """Loss and gradients of a pass on a GPU against float64; what they are is handed back."""
    real = np.float64 if dtype == np.float64 else np.float32
    result = fs.linear_cross_entropy_and_grad(*on(library, *given), wrt=wrt, **moved(library, options, real), **more)
    more = {k: v for k, v in more.items() if k not in ("block_rows", "check_targets", "out")}
    wide = [a if a is None or a.dtype.kind == "i" else a.astype(np.float64) for a in given]
    right = reference.linear_cross_entropy_and_grad(*wide, wrt=wrt, **options, **more)
    assert type(result.loss) is library.type
    assert result.loss.values.dtype == real
    near(library.host(result.loss), right.loss, dtype, size)
    for which, like in (("x", given[0]), ("weight", given[1]), ("bias", given[3])):
        found, expected = getattr(result, f"grad_{which}"), getattr(right, f"grad_{which}")
        assert (found is None) == (expected is None)
        if found is not None:
            assert type(found) is library.type
            assert (found.values.dtype, found.shape) == (dtype, like.shape)
            near(library.host(found), expected, dtype, size)
    return result


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_values_over_several_chunks(library, name, dtype, soft):
    """The last one is smaller; ignored rows are in all of them."""
    *given, options = problem(0, SHAPE, dtype, soft=soft)
    given[2] = given[2] if not soft else given[2].astype(dtype if dtype == np.float64 else np.float32)
    for block in (16, None, 1):
        result = as_reference(library, dtype, given, options, block_rows=block, size=0.5)
        assert library.host(result.grad_x).shape == (50, 7)


@torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=names)
def test_options_of_indices(library, name, options, reduction):
    *given, options = problem(1, SHAPE, np.float32, options)
    as_reference(library, np.float32, given, options, block_rows=16, reduction=reduction, size=20)


@torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
def test_options_of_probabilities(library, name, options, reduction):
    *given, options = problem(1, SHAPE, np.float32, options, soft=True)
    as_reference(library, np.float32, given, options, block_rows=16, reduction=reduction, size=20)


@torch
def test_upstream_gradients(library, name):
    """A number makes no call look different; an array has a number for each row of each chunk."""
    *given, options = problem(2, SHAPE, np.float32)
    for up in (0.5, np.float32(-2), 7):
        as_reference(library, np.float32, given, options, block_rows=16, grad_output=up, size=10)
    assert len(linear_cuda._prepared) == 1
    up = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    wide = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in given]
    right = reference.linear_cross_entropy_and_grad(*wide, wrt=ALL, reduction="none", grad_output=up)
    result = fs.linear_cross_entropy_and_grad(
        *on(library, *given), wrt=ALL, reduction="none", grad_output=library.array(up), block_rows=16
    )
    for found, expected in zip(result, right, strict=True):
        near(library.host(found), expected, size=20)


@torch
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_weights_of_rows_of_half_types(library, name, reduction):
    """Are of float32, as losses are: four bytes a row, where logits have two."""
    *given, options = problem(12, SHAPE, np.float16, {"sample_weight": True})
    as_reference(library, np.float16, given, options, block_rows=16, reduction=reduction, size=20)


@torch
def test_where_targets_begin_is_part_of_what_a_call_looks_like(library, name):
    """Kernels are chosen by the address modulo 16."""
    x, weight, target, bias, _ = problem(13, SHAPE, np.float32, soft=True)
    for offset in (0, 4, 0):
        arrays = *on(library, x, weight), library.array(target.copy(), offset=offset), library.array(bias)
        loss = fs.linear_cross_entropy(*arrays, block_rows=16)
        near(library.host(loss), reference.linear_cross_entropy(x, weight, target, bias), size=5)
    assert len(linear_cuda._prepared) == 2


@torch
def test_labels_of_32_bits(library, name):
    *given, options = problem(3, SHAPE, np.float32)
    given[2] = given[2].astype(np.int32)
    as_reference(library, np.float32, given, options, block_rows=16)


@every
def test_layouts(library, name):
    """Features and weights of any strides, soft targets too: of odd rows, so that chunks might begin anywhere."""
    x, weight, target, bias, options = problem(4, (50, 7, 9), np.float32, soft=True)
    wide = np.zeros((50, 18), np.float32)
    wide[:, ::2] = target
    given = [x.T.copy().T, weight.T.copy().T, wide[:, ::2], np.repeat(bias, 2)[::2]]
    as_reference(library, np.float32, given, options, block_rows=9)


def test_the_rows_of_a_chunk():
    """A pure function of shapes: at least 2048 rows, 512 MB of logits, and never more rows than there are."""
    rows = plan_linear.gpu_rows
    assert rows(10**6, 1 << 20, 4) == 2048
    assert rows(2000, 1 << 20, 4) == 2000
    assert rows(10**6, 65_536, 4) == rows(10**6, 131_072, 2) == 2048
    assert rows(10**6, 65_535, 4) == rows(10**6, 61_681, 4) == 2048
    assert rows(10**6, 61_680, 4) == 2176
    assert rows(10**6, 1000, 2) == (1 << 29) // 2000 // 128 * 128
    assert rows(10**6, 10, 4, 100) == 104
    assert rows(50, 10, 4, 100) == 50
    assert rows(0, 10, 4) == rows(0, 10, 4, 5) == 1
    assert [plan_linear.gpu_pitch(k, 2) for k in (1, 8, 9)] == [8, 8, 16]
    assert [plan_linear.gpu_pitch(k, 8) for k in (1, 2, 3)] == [2, 2, 4]


@every
def test_a_small_budget_makes_chunks(library, driver, name, monkeypatch):
    """Two kinds of launches, which are prepared once; the mean is of all rows."""
    monkeypatch.setattr(plan_linear, "GPU_BUDGET", 1 << 15)
    monkeypatch.setattr(plan_linear, "GPU_ROWS", 256)
    *given, options = problem(5, (1000, 5, 9), np.float32, {"class_weight": True, "sample_weight": True})
    as_reference(library, np.float32, given, options)
    rows = (1 << 15) // 36 // 128 * 128  # 896, and 104 in the last one
    entries = [launched.entry for launched in driver.launches]
    assert entries == ["count", *["cross_entropy"] * 2, "total"]
    assert library.made[-1] == ((rows, {"torch": 12, "cupy": 9}[name]), np.float32)
    monkeypatch.setattr(linear_cuda, "LinearCall", None)
    as_reference(library, np.float32, given, options)


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
    """Of chunks that all add the same to a gradient: in bfloat16 the sum would stand still at 256 of 500 parts."""
    rows, dtype = 4000, bfloat16
    x, weight, target = np.ones((rows, 2), dtype), np.zeros((4, 2), dtype), np.zeros(rows, int)
    given, options = (x, weight, target, np.zeros(4, dtype)), {"reduction": "sum", "block_rows": 8}
    as_reference(library, dtype, given, {}, wrt=("weight", "bias"), **options)
    monkeypatch.setattr(run_linear_cuda, "computed", lambda dtype: dtype)
    monkeypatch.setattr(linear_cuda, "_prepared", {})
    half = run_linear_cuda.LinearCall

    def in_half(about):
        call = half(about)
        call.dtype, call.size = "float32", 4
        return call

    monkeypatch.setattr(linear_cuda, "LinearCall", in_half)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        as_reference(library, dtype, given, {}, wrt=("weight", "bias"), **options)


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
    assert {(one.device, one.stream) for one in driver.launches} == {(device, 5 + device)}
    assert {work[1:] for work in library.work} == {(device, 5 + device)}
    assert not [call for call in driver.calls if call[0] in ("wait", "read", "clear")]


@every
def test_sums_have_room(library, driver, name, monkeypatch):
    """Eight bytes for each block of each chunk."""
    monkeypatch.setattr(workspace, "LEAST", 64)
    monkeypatch.setattr(workspace, "SLAB", 64)
    *given, options = problem(14, SHAPE, np.float32)
    as_reference(library, np.float32, given, options, block_rows=8)
    blocks = sum(one.grid for one in driver.launches if one.entry == "cross_entropy")
    assert [call[2] for call in driver.calls if call[0] == "reserve"] == [16 + 8 * blocks]


@every
def test_the_launches_of_two_threads_do_not_mix(library, name, monkeypatch):
    """Nobody launches, or multiplies into sums, while another pass on the stream is half way through."""
    library.streams = {0: 3}
    *given, options = problem(15, SHAPE, np.float32)
    lock, held = workspace.workspace(0, 3).lock, []
    for owner, function in ((package, "launch"), (library, "operate")):
        of = getattr(owner, function)
        monkeypatch.setattr(owner, function, lambda *a, of=of: (held.append(lock.locked()), of(*a))[1])
    as_reference(library, np.float32, given, options, block_rows=16)
    assert len(held) > 10
    assert all(held)
    assert not lock.locked()


@torch
def test_what_another_stream_does_is_waited_for(library, driver, name):
    from stub_arrays import InterfaceArray

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
    as_reference(library, np.float16, given, options, wrt=(wrt,) if isinstance(wrt, str) else wrt, block_rows=16)
    given[3] = None
    as_reference(library, np.float16, given, options, wrt=(wrt,) if isinstance(wrt, str) else wrt, block_rows=16)


# Outputs.


@every
@pytest.mark.parametrize("dtype", [np.float32, bfloat16])
def test_outputs(library, name, dtype):
    """Given arrays are what comes back; the features' gradient may go where the features are."""
    *given, _ = problem(7, SHAPE, dtype)
    arrays = on(library, *(a.copy() for a in given))
    out = {"weight": library.array(np.full((9, 7), np.nan, dtype)), "bias": library.array(np.full(9, np.nan, dtype))}
    out["x"] = arrays[0]
    wide = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in given]
    right = reference.linear_cross_entropy_and_grad(*wide, wrt=ALL)
    for _ in range(2):  # the second time, a call that was prepared
        arrays[0].values[...] = given[0]
        result = fs.linear_cross_entropy_and_grad(*arrays, wrt=ALL, out=out, block_rows=16)
        assert result[1:] == (out["x"], out["weight"], out["bias"])
        for found, expected in zip(result, right, strict=True):
            near(library.host(found), expected, dtype, 0.5)


# Labels.


@every
@pytest.mark.parametrize("check", [None, False])
def test_bad_labels_are_nan(library, driver, name, check):
    """In their own row's loss and gradient, and in all that is summed over rows."""
    *given, _ = problem(8, SHAPE, np.float32)
    given[2][20] = 9
    result = fs.linear_cross_entropy_and_grad(
        *on(library, *given), wrt=ALL, reduction="none", block_rows=16, check_targets=check
    )
    assert np.isnan(library.host(result.loss)).nonzero()[0].tolist() == [20]
    assert np.isnan(library.host(result.grad_x)).any(axis=1).nonzero()[0].tolist() == [20]
    assert np.isnan(library.host(result.grad_weight)).all()
    assert not [call for call in driver.calls if call[0] in ("read", "clear")]


@every
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_bad_labels_raise_where_it_is_asked_for(library, driver, name, reduction):
    """After one wait, and before anything is computed."""
    *given, _ = problem(8, SHAPE, np.float32)
    given[2][40] = -3
    options = {"reduction": reduction, "block_rows": 16, "check_targets": True}
    for function in (fs.linear_cross_entropy, fs.linear_cross_entropy_and_grad):
        with pytest.raises(ValueError, match=r"\[0, 9\) or ignore_index, got -3 at row 40"):
            function(*on(library, *given), **options)
    assert [one.entry for one in driver.launches] == ["count"] * 2
    assert not library.work
    given[2][40] = 3
    as_reference(library, np.float32, given, {}, size=10, **options)


# Edges.


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ignored_rows_with_nan(library, name, dtype):
    """They have loss and gradient 0, whatever their features; the weights' gradient meets 0 times NaN, as is said."""
    *given, _ = problem(11, SHAPE, dtype)
    given[2][7] = -100
    clean = [a.copy() for a in given]
    given[0][7, 3] = np.nan
    result = fs.linear_cross_entropy_and_grad(*on(library, *given), wrt=ALL, block_rows=16)
    wide = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in clean]
    right = reference.linear_cross_entropy_and_grad(*wide, wrt=ALL)
    near(library.host(result.loss), right.loss, dtype, 5)
    near(library.host(result.grad_x), right.grad_x, dtype)
    near(library.host(result.grad_bias), right.grad_bias, dtype)
    found = library.host(result.grad_weight)
    assert np.isnan(found[:, 3]).all()
    near(np.delete(found, 3, 1), np.delete(right.grad_weight, 3, 1), dtype, 5)


@every
def test_no_rows(library, name):
    arrays = on(library, *(np.zeros(s, np.float32) for s in ((0, 7), (9, 7))), np.zeros(0, int), np.zeros(9, "f4"))
    result = fs.linear_cross_entropy_and_grad(*arrays, wrt=ALL)
    assert np.isnan(library.host(result.loss))
    assert result.grad_x.shape == (0, 7)
    out = {name: library.array(np.full(shape, np.nan, np.float32)) for name, shape in (("weight", (9, 7)), ("bias", 9))}
    for grads in (result, fs.linear_cross_entropy_and_grad(*arrays, out=out)):
        assert not library.host(grads.grad_weight).any()
        assert not library.host(grads.grad_bias).any()
    assert library.host(fs.linear_cross_entropy(*arrays, reduction="sum")) == 0
    assert fs.linear_predict(arrays[0], arrays[1]).shape == (0,)
    assert fs.linear_predict_proba(arrays[0], arrays[1]).shape == (0, 9)


@every
def test_no_features(library, name):
    *given, options = problem(9, (5, 0, 3), np.float32)
    as_reference(library, np.float32, given, options)


# Predictions.


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_predictions(library, driver, name, dtype, biased, monkeypatch):
    """Classes chunk by chunk; probabilities all at once, in place of their logits."""
    monkeypatch.setattr(plan_linear, "GPU_BUDGET", 0)
    monkeypatch.setattr(plan_linear, "GPU_ROWS", 16)
    x, weight, _, bias, _ = problem(10, SHAPE, dtype)
    given = x, weight, bias if biased else None
    arrays, wide = on(library, *given), [None if a is None else a.astype(np.float64) for a in given]
    z = wide[0] @ wide[1].T + (0 if bias is None or not biased else wide[2])
    z = z.astype(dtype).astype(np.float64)  # half types have equal logits now and then
    found = fs.linear_predict(*arrays)
    assert (type(found), found.values.dtype) == (library.type, np.int64)
    np.testing.assert_array_equal(library.host(found), z.argmax(axis=1))
    library.made.clear()
    proba = fs.linear_predict_proba(*arrays)
    assert library.made == [((50, 9), dtype)]
    assert (type(proba), proba.values.dtype) == (library.type, dtype)
    right = reference.softmax(z)
    near(library.host(proba), right, dtype)
    out = library.array(np.full((50, 9), np.nan, dtype))
    for _ in range(2):
        assert fs.linear_predict_proba(*arrays, out=out) is out
        near(library.host(out), right, dtype)
    assert [one.entry for one in driver.launches] == ["softmax"] * 3


# The kernels themselves, interpreted from their PTX.


def test_chunks_run_the_compiled_kernels(interpreted, monkeypatch):
    """In place, on rows whose ends are no whole vectors, and with fewer rows at last."""
    driver, library = interpreted, LIBRARIES["torch"](monkeypatch, interpreted)
    *given, options = problem(16, (21, 5, 35), bfloat16)
    as_reference(library, bfloat16, given, options, block_rows=8)
    rows = [one for one in driver.launches if len(one.arguments) > 20]
    assert [one.arguments[12] for one in rows] == [8, 8, 5]
    assert {one.arguments[0] for one in rows} == {rows[0].arguments[2]}
    logits = [one.traffic[driver.buffer(one.arguments[0]).name] for one in rows]
    floor = 21 * 35 * 2
    assert floor <= sum(used.loaded for used in logits) <= 1.02 * floor
    assert floor <= sum(used.stored for used in logits) <= 1.02 * floor


# PyTorch itself, as far as it goes without a GPU.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_multiplies_as_it_is_asked_to(dtype):
    """Into rows that lie apart, on top of what is there, and in float32 where sums are."""
    torch = pytest.importorskip("torch")
    from fastsoftmax.cuda.matrices import Torch

    m, kind, random = Torch(), getattr(torch, dtype), torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=random, dtype=torch.float64).to(kind)  # noqa: E731
    x, weight, bias, room = draw(6, 5), draw(7, 5), draw(7), torch.full((6, 8), 3.0, dtype=kind)
    z, close = room[:, :7], {"rtol": 2e-2, "atol": 2e-2}
    for b in (None, bias):
        m.logits(x, weight, b, z)
        right = x.double() @ weight.double().T + (0 if b is None else b.double())
        torch.testing.assert_close(z.double(), right, **close)
    assert (room[:, 7] == 3).all()
    grad_x, total, wide = torch.zeros((6, 5), dtype=kind), draw(7, 5), torch.zeros(7, dtype=torch.float32)
    m.product(z[:4], weight, grad_x[2:])
    torch.testing.assert_close(grad_x[2:].double(), z[:4].double() @ weight.double(), rtol=5e-2, atol=5e-2)
    before = total.double().clone()
    m.add_product(z.T, x, total)
    torch.testing.assert_close(total.double(), before + z.double().T @ x.double(), rtol=5e-2, atol=5e-2)
    if dtype != "float64":
        m.columns(z, wide)
        torch.testing.assert_close(wide.double(), z.double().sum(0), rtol=1e-6, atol=1e-6)
        m.add(bias, wide)
        torch.testing.assert_close(wide.double(), z.double().sum(0) + bias.double(), rtol=1e-6, atol=1e-6)
        m.copy(wide, bias)
        assert torch.equal(bias, wide.to(kind))
    classes = torch.zeros(8, dtype=torch.int64)
    m.largest(z, classes[1:7])
    assert classes.tolist() == [0, *right.to(kind).argmax(1).tolist(), 0]
    m.zero(total)
    assert not total.any()

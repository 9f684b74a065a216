"""Where arrays lie: strides, alignment, arrays larger than memory, and memory that arrays share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax.cpu.addresses import address
from tests.pairs import exhaustive_but
from tests.support import DTYPES, LAYOUTS, check, labels, logits, seeds

MAPS = [fs.softmax, fs.log_softmax]


def by_name(function):
    return function.__name__


@st.composite
def strided(draw, dtypes):
    """A view of two to four dimensions with any strides: sliced, reversed, transposed, broadcast."""
    shape = [*draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)), draw(st.sampled_from([3, 10, 60]))]
    steps = [draw(st.sampled_from([1, 2, -1, -3])) for _ in shape]
    room = logits(draw(seeds), [n * abs(s) for n, s in zip(shape, steps, strict=True)], draw(st.sampled_from(dtypes)))
    view = room[tuple(slice(None, None, s) for s in steps)]
    view = view.transpose(draw(st.permutations(range(view.ndim))))
    if draw(st.booleans()):
        view = np.broadcast_to(view[:1], (5, *view.shape[1:]))
    return view


AMONG = [(DTYPES[2:3],), (DTYPES,)]
by_dtypes = pytest.mark.parametrize("among", exhaustive_but(AMONG[:1], AMONG), ids=["float32", "all"])


@by_dtypes
@given(st.data(), st.sampled_from([*MAPS, fs.logsumexp]))
def test_maps_of_any_strides(backend, among, data, function):
    x = data.draw(strided(among))
    before = x.copy()
    result = backend.call(function, x)
    check(function, x, actual=result, along=None if function is fs.logsumexp else -1)
    if function in MAPS:
        out = np.empty(x.shape[::-1], x.dtype).T
        np.testing.assert_array_equal(backend.call(function, x, out=out), result)
    np.testing.assert_array_equal(x, before)


@by_dtypes
@given(st.data(), seeds, st.sampled_from(["mean", "none"]))
def test_losses_of_any_strides(backend, among, data, seed, reduction):
    """Losses and gradients do not depend on where logits lie, but for rounding."""
    x = data.draw(strided(among))
    random = np.random.default_rng(seed)
    target, options = labels(random, x.shape), {"reduction": reduction}
    if backend.gpu:  # where they are advanced from launch to launch
        options["sample_weight"] = random.uniform(0.5, 2, x.shape[:-1])
    result = backend.call(fs.cross_entropy_and_grad, x, target, **options)
    plain = backend.call(fs.cross_entropy_and_grad, x.copy(order="C"), target, **options)
    np.testing.assert_allclose(result.loss, plain.loss, rtol=2e-6, atol=1e-6)
    low = 5e-3 if x.dtype.itemsize == 2 else 1e-6
    np.testing.assert_allclose(
        result.grad.astype(np.float64),
        plain.grad.astype(np.float64),
        rtol=2e-2 if x.dtype.itemsize == 2 else 1e-5,
        atol=low,
    )


UNALIGNED = [(dtype, classes) for dtype in DTYPES for classes in (10, 300)]


@pytest.mark.parametrize(
    ("dtype", "classes"),
    exhaustive_but([case for case in UNALIGNED if case[1] == 10 or case[0] == np.float32], UNALIGNED),
)
def test_unaligned_gradient(dtype, classes):
    """`out` one byte off is written to, one element at a time if need be, and nothing beside it is."""
    x = logits(0, (7, classes), dtype)
    target = labels(np.random.default_rng(0), x.shape)
    expected = fs.cross_entropy_and_grad(x, target).grad
    room = np.full(x.nbytes + 65, 0xAA, np.uint8)
    out = room[1 : 1 + x.nbytes].view(dtype).reshape(x.shape)
    fs.cross_entropy_and_grad(x, target, out=out)
    np.testing.assert_array_equal(out, expected)
    assert (room[1 + x.nbytes :] == 0xAA).all()
    assert room[0] == 0xAA


GAPS = [(layout, classes) for layout in ("every second", "rows apart") for classes in (3, 10, 50, 333)]


@pytest.mark.parametrize(("layout", "classes"), exhaustive_but([*GAPS[::3], GAPS[5]], GAPS))
def test_nothing_is_written_between_the_elements(backend, classes, layout):
    x = logits(0, (19, classes), np.float32)
    out = LAYOUTS[layout](np.zeros_like(x))
    room = out.base
    inside = np.zeros(room.shape, bool)
    first = inside[1:, 1:] if layout == "every second" else inside
    np.lib.stride_tricks.as_strided(first, out.shape, [s // 4 for s in out.strides])[...] = True
    before = room.copy()
    backend.call(fs.softmax, x, out=out)
    np.testing.assert_array_equal(room[~inside], before[~inside])


# Past 2**31 elements: large on paper, small in memory.


@pytest.mark.parametrize("classes", [48, 1000, 1 << 20])
def test_more_than_two_billion_elements(classes):
    """Rows of stride 0: one row in memory, seen more than 2**31 / K times."""
    row = logits(0, (1, classes), np.float32)
    rows = (1 << 31) // classes + 2
    x = np.broadcast_to(row, (rows, classes))
    assert x.size > 1 << 31
    lse = fs.logsumexp(x)
    assert lse.shape == (rows,)
    assert (lse == lse[0]).all()
    check(fs.logsumexp, row, actual=lse[:1], along=None)
    if classes > 48:  # as many labels as rows take memory
        loss = fs.cross_entropy(x, np.full(rows, classes - 1), reduction="none")
        assert (loss == loss[0]).all()


def test_strides_past_two_billion_bytes():
    """Rows more than 2**31 bytes apart, in memory of which only those rows are ever touched."""
    room = np.empty((3, 1 << 30), np.float32)  # the pages in between are never given out
    x = room[:, :100]
    x[...] = logits(0, (3, 100), np.float32)
    check(fs.softmax, x, actual=fs.softmax(x))
    loss, grad = fs.cross_entropy_and_grad(x, [1, 2, 3], out=x)
    assert np.isfinite(loss)
    assert grad is x
    assert abs(float(grad.sum())) < 1e-6


# Memory that operands share.


@pytest.mark.parametrize("function", MAPS, ids=by_name)
@pytest.mark.parametrize("classes", [10, 300])
def test_out_overlaps_the_input(function, classes):
    """Shifted by elements or rows, reversed, transposed: as if `out` were elsewhere."""
    for x_index, out_index in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[::-1], np.s_[:]),
        (np.s_[:, ::-1], np.s_[:]),
    ):
        room = logits(0, (40, classes), np.float32)
        expected = function(room[x_index])
        function(room[x_index], out=room[out_index])
        np.testing.assert_array_equal(room[out_index], expected)
    square = logits(0, (classes, classes), np.float32)
    expected = function(square.T)
    function(square.T, out=square)
    np.testing.assert_array_equal(square, expected)


@pytest.mark.parametrize("classes", [10, 300])
def test_gradient_overlaps_an_operand(classes):
    random = np.random.default_rng(0)
    for x_index, out_index in ((np.s_[:-1], np.s_[1:]), (np.s_[::-1], np.s_[:]), (np.s_[:, 1:], np.s_[:, :-1])):
        room = logits(0, (40, classes), np.float32)
        target = labels(random, room[x_index].shape)
        expected = fs.cross_entropy_and_grad(room[x_index], target)
        result = fs.cross_entropy_and_grad(room[x_index], target, out=room[out_index])
        assert result.loss == expected.loss
        np.testing.assert_array_equal(room[out_index], expected.grad)
    x, q = logits(0, (40, classes), np.float32), random.uniform(size=(40, classes)).astype(np.float32)
    expected = fs.cross_entropy_and_grad(x, q)
    result = fs.cross_entropy_and_grad(x, q, out=q)  # onto the soft targets
    np.testing.assert_array_equal(q, expected.grad)
    assert result.loss == expected.loss


@pytest.mark.parametrize("options", [{}, {"softcap": 4.0, "label_smoothing": 0.1}], ids=str)
def test_gradient_onto_another_view_of_the_logits(options):
    """In place, though `out` is another object; merged, in pieces and along another axis."""
    for index, axis in ((np.s_[:], -1), (np.s_[::2, ::2], -1), (np.s_[:], 0)):
        room = logits(0, (6, 8, 10, 300) if axis == -1 else (300, 40), np.float32)
        x = room[index]
        target = labels(np.random.default_rng(0), np.moveaxis(x, axis, -1).shape)
        expected = fs.cross_entropy_and_grad(x, target, axis=axis, **options)
        result = fs.cross_entropy_and_grad(x, target, axis=axis, out=room[index], **options)
        assert result.loss == expected.loss
        np.testing.assert_array_equal(x, expected.grad)
        x = room[index]
        probabilities_ = fs.softmax(x, axis)
        np.testing.assert_array_equal(fs.softmax(x, axis, out=room[index]), probabilities_)


@pytest.mark.parametrize("classes", [10, 300])
def test_gradient_overlaps_the_labels(classes):
    room = np.zeros(40 * classes * 8, np.uint8)
    out, target = room.view(np.float64).reshape(40, classes), room[: 40 * 8].view(np.int64)
    target[:] = np.arange(40) % 10
    x, labels_ = logits(0, (40, classes), np.float64), target.copy()
    expected = fs.cross_entropy_and_grad(x, labels_)
    result = fs.cross_entropy_and_grad(x, target, out=out)
    np.testing.assert_array_equal(out, expected.grad)
    assert result.loss == expected.loss


@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "grad_output"])
@pytest.mark.parametrize("classes", [10, 300])
def test_gradient_overlaps_weights(name, classes):
    """Weights that are views of what is overwritten."""
    x = np.abs(logits(0, (40, classes), np.float64)) + 0.1
    target = labels(np.random.default_rng(0), x.shape)
    view = x[0] if name == "class_weight" else x[:, 0]
    expected = fs.cross_entropy_and_grad(x, target, reduction="none", **{name: view.copy()})
    result = fs.cross_entropy_and_grad(x, target, reduction="none", out=x, **{name: view})
    np.testing.assert_array_equal(x, expected.grad)
    np.testing.assert_array_equal(result.loss, expected.loss)


def test_product_overlaps_its_operands():
    room = fs.softmax(logits(0, (40, 60), np.float32))
    g = logits(1, (39, 60), np.float32)
    expected = fs.softmax_vjp(room[1:], g)
    fs.softmax_vjp(room[1:], g, out=room[:-1])
    np.testing.assert_array_equal(room[:-1], expected)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_subclasses_come_out_as_arrays():
    """Results are plain arrays; a matrix is two-dimensional anyway."""
    x = logits(0, (4, 10), np.float64)
    result = fs.softmax(np.asmatrix(x))
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, fs.softmax(x))


@pytest.mark.parametrize("classes", [10, 300])
def test_memory_maps(classes, tmp_path):
    x = logits(0, (30, classes), np.float32)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    np.testing.assert_array_equal(fs.softmax(mapped), fs.softmax(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_addresses(dtype):
    """Read from the array's struct, they are those that NumPy tells."""
    x = np.zeros((5, 6), dtype)
    views = [x, x.T, x[::-1], x[2:, 3:], x[:0], x[0, 0, ...], LAYOUTS["read-only"](x), np.broadcast_to(x[:1], (9, 6))]
    for view in views:
        assert address(view) == view.__array_interface__["data"][0]
    assert address(None) == 0


@pytest.mark.parametrize("dtype", exhaustive_but(DTYPES[2:], DTYPES), ids=str)
def test_large_results_begin_a_cache_line(dtype):
    x = logits(0, (700, 1000), dtype)
    for result in (fs.softmax(x), fs.cross_entropy_and_grad(x, np.zeros(700, int)).grad):
        assert address(result) % 64 == 0
        assert result.flags.c_contiguous
        assert result.flags.writeable
    check(fs.softmax, x, actual=fs.softmax(x))

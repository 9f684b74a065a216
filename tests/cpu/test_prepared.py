"""Calls that look like an earlier one are prepared: they must check and compute what the first one did."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.core import memo
from fastsoftmax.cpu import backend
from tests.pairs import exhaustive_but, pairwise

RNG = np.random.default_rng(11)
FIRST = RNG.bit_generator.state
LAYOUTS = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1],
    "every other": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
}


@pytest.fixture(autouse=True)
def _nothing_known():
    memo.clear()
    RNG.bit_generator.state = FIRST  # whichever tests ran before


def operands(rows=37, classes=11, dtype=np.float32):
    return RNG.standard_normal((rows, classes)).astype(dtype) * 3, RNG.integers(0, classes, rows)


def unprepared(function, *arguments, **options):
    """What a first call gives."""
    memo.clear()
    found = function(*arguments, **options)
    memo.clear()
    return found


def prepared(function, *arguments, **options):
    """What a later call gives that was prepared by one with the same looks."""
    function(*arguments, **options)
    ((_, ready),) = backend._prepared.items()
    assert ready is not None
    return function(*arguments, **options)


def equal(found, expected):
    """The same bits, layout and type."""
    if isinstance(expected, tuple):
        assert type(found) is type(expected)
        for a, b in zip(found, expected, strict=True):
            equal(a, b)
        return
    assert type(found) is type(expected)
    assert found.strides == expected.strides
    np.testing.assert_array_equal(found, expected, strict=True)


def is_usual(dtype, layout, axis):
    """What is prepared depends on where arrays lie; other dtypes have other kernels, as equal columns do."""
    return (layout, axis) == ("C", -1) or (dtype == np.float32 and (layout, axis) != ("broadcast", 0))


DTYPES = (np.float16, np.float32, np.float64)
MAPS = list(product(DTYPES, LAYOUTS, (-1, 0)))


@pytest.mark.parametrize(("dtype", "layout", "axis"), exhaustive_but([case for case in MAPS if is_usual(*case)], MAPS))
def test_maps(dtype, layout, axis):
    x = LAYOUTS[layout](operands(dtype=dtype)[0])
    g = LAYOUTS[layout](operands(dtype=dtype)[0])
    for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
        expected = unprepared(function, x, axis=axis)
        equal(prepared(function, x, axis=axis), expected)
        memo.clear()
    expected = unprepared(fs.softmax_vjp, x, g, axis=axis)
    equal(prepared(fs.softmax_vjp, x, g, axis=axis), expected)


OPTIONS = {
    "plain": {},
    "none": {"reduction": "none"},
    "sum": {"reduction": "sum"},
    "ignored": {"ignore_index": 0},
    "z_loss": {"reduction": "sum", "z_loss": 0.1},
}
PLACES = tuple(LAYOUTS), (1, 11, 100, 3000)
USUAL = [*pairwise(tuple(OPTIONS)[:4], *PLACES), ("z_loss", "C", 11)]  # which has kernels of its own in each place


@pytest.mark.parametrize(("name", "layout", "classes"), exhaustive_but(USUAL, list(product(OPTIONS, *PLACES))))
def test_losses(name, layout, classes):
    options = OPTIONS[name]
    x, labels = operands(classes=classes, rows=9 if classes > 100 else 37)
    x = LAYOUTS[layout](x)
    for function in (fs.cross_entropy, fs.cross_entropy_and_grad):
        expected = unprepared(function, x, labels, **options)
        equal(prepared(function, x, labels, **options), expected)
        memo.clear()


def test_other_axes_and_soft_targets():
    x = RNG.standard_normal((3, 7, 5)).astype(np.float32)
    q = fs.softmax(RNG.standard_normal((3, 7, 5)).astype(np.float32), axis=1)
    labels = RNG.integers(0, 7, (3, 5))
    for target in (q, labels):
        expected = unprepared(fs.cross_entropy_and_grad, x, target, axis=1)
        equal(prepared(fs.cross_entropy_and_grad, x, target, axis=1), expected)
        memo.clear()


def test_contents_count_at_every_call():
    """Labels, and the number of those that are ignored."""
    x, labels = operands()
    prepared(fs.cross_entropy_and_grad, x, labels, ignore_index=3)
    others = np.where(np.arange(37) % 2, 3, labels)
    equal(
        fs.cross_entropy_and_grad(x, others, ignore_index=3),
        unprepared(fs.cross_entropy_and_grad, x, others, ignore_index=3),
    )
    prepared(fs.cross_entropy_and_grad, x, labels)
    none = np.full(37, -100)
    with np.errstate(all="raise"):
        loss, grad = fs.cross_entropy_and_grad(x, none)
    assert np.isnan(loss)
    assert not grad.any()


@pytest.mark.parametrize("where", [0, 7, 8, 35, 36])
@pytest.mark.parametrize("bad", [11, -1, 2**40, -(2**63)])
def test_bad_labels_after_good_ones(bad, where):
    x, labels = operands()
    out = np.full_like(x, 7)
    prepared(fs.cross_entropy_and_grad, x, labels, out=out)
    out[...] = 7
    labels[where] = bad
    with pytest.raises(ValueError, match=rf"got {bad} at row {where};"):
        fs.cross_entropy_and_grad(x, labels, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("where", [0, 300, 1023])
def test_labels_by_vector_and_one_by_one(where):
    """Every length to the next vector, and every number of labels that count."""
    for rows in range(where + 1, where + 10):
        x, labels = np.zeros((rows, 2)), np.zeros(rows, np.int64)
        labels[where] = -7
        prepared(fs.cross_entropy, x, labels, ignore_index=-7, reduction="sum")
        loss = fs.cross_entropy(x, labels, ignore_index=-7, reduction="sum")
        assert loss == pytest.approx((rows - 1) * np.log(2), rel=1e-14)
        memo.clear()
        with pytest.raises(ValueError, match=f"got -7 at row {where};"):
            fs.cross_entropy(x, labels)


def test_labels_that_are_read_only_or_not_aligned():
    x, labels = operands()
    room = np.zeros(37 * 8 + 1, np.uint8)
    odd = room[1:].view(np.int64)
    odd[...] = labels
    labels.flags.writeable = False
    expected = unprepared(fs.cross_entropy, x, odd)
    for target in (odd, labels, odd):
        equal(fs.cross_entropy(x, target), expected)


def test_memory_that_is_shared_after_memory_that_was_not():
    """The same looks, other places: what is read must be what was there before the call."""
    room = np.zeros(600, np.float32)
    x, apart = room[:400].reshape(40, 10), np.empty((40, 10), np.float32)
    values = RNG.standard_normal((40, 10)).astype(np.float32)
    x[...] = values
    expected = prepared(fs.softmax, x, out=apart).copy()
    shifted = room[10:410].reshape(40, 10)
    fs.softmax(x, out=shifted)
    np.testing.assert_array_equal(shifted, expected)
    x[...] = values
    view = x[...]
    fs.softmax(x, out=view)
    np.testing.assert_array_equal(view, expected)
    x[...] = values
    equal(prepared(fs.softmax, x.copy(), out=apart), expected)
    equal(fs.softmax(x, out=x), expected)
    x[...] = values
    fs.softmax(x, out=x)
    np.testing.assert_array_equal(x, expected)


def test_outputs_that_reach_into_rows_that_are_read_backwards():
    """They begin before the logits, and end among them."""
    room, apart = np.zeros((9, 300), np.float32), np.empty((8, 300), np.float32)
    x = room[1:][::-1]
    x[...] = RNG.standard_normal(x.shape)
    expected = prepared(fs.softmax, x, out=apart).copy()
    fs.softmax(x, out=room[:8])
    np.testing.assert_array_equal(room[:8], expected)


def test_gradients_onto_labels_and_targets():
    x, labels = operands(rows=10, classes=2, dtype=np.float64)
    memory = np.zeros((10, 2))
    expected = prepared(fs.cross_entropy_and_grad, x, labels, out=memory).grad.copy()
    target = memory.reshape(-1)[:10].view(np.int64)
    target[...] = labels
    equal(fs.cross_entropy_and_grad(x, target, out=memory).grad, expected)
    memo.clear()
    q = fs.softmax(x + 1)
    expected = unprepared(fs.cross_entropy_and_grad, x, q).grad
    for _ in range(2):
        target = q.copy()
        equal(fs.cross_entropy_and_grad(x, target, out=target).grad, expected)
    expected = unprepared(fs.softmax_vjp, x, q)
    for _ in range(3):
        target = q.copy()
        equal(fs.softmax_vjp(x, target, out=target), expected)


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ({"ignore_index": 1}, {"ignore_index": 1.0}, TypeError),
        ({"axis": 1}, {"axis": 1.0}, TypeError),
        ({"label_smoothing": 0}, {"label_smoothing": 0j}, TypeError),
        ({"reduction": "sum"}, {"reduction": ["sum"]}, ValueError),
    ],
)
def test_equal_values_of_wrong_types(right, wrong, error):
    x, labels = operands()
    prepared(fs.cross_entropy, x, labels, **right)
    with pytest.raises(error):
        fs.cross_entropy(x, labels, **wrong)


def test_outputs_are_checked_at_every_call():
    x, _ = operands()
    out = np.empty_like(x)
    prepared(fs.softmax, x, out=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        fs.softmax(x, out=out)
    with pytest.raises(ValueError, match="shape"):
        fs.softmax(x, out=np.empty((37, 12), np.float32))
    with pytest.raises(TypeError, match="dtype"):
        fs.softmax(x, out=np.empty((37, 11)))


def test_threads_have_parameters_of_their_own():
    """Calls of one kind from eight threads, each with its own contents."""
    many = [operands() for _ in range(8)]
    expected = [unprepared(fs.cross_entropy_and_grad, *one) for one in many]
    prepared(fs.cross_entropy_and_grad, *many[0])

    def repeated(one):
        return [fs.cross_entropy_and_grad(*one) for _ in range(300)]

    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(repeated, many), expected, strict=True):
            for one in found:
                equal(one, wanted)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(backend._prepared, "most", 5)
    for n in range(1, 12):
        fs.softmax(np.zeros(n))
        assert len(backend._prepared) <= 5


#: Of one chunk a thread, in parts, of some chunks, of many partial losses; in registers, rows and blocks.
SHARED = [
    ((2, 40000), "C"),
    ((1, 140000), "C"),
    ((20000, 5), "C"),
    ((300, 400), "C"),
    ((70000, 10), "C"),
    ((300, 600), "F"),
]


@pytest.mark.parametrize(("shape", "order"), exhaustive_but([SHARED[0], SHARED[1], SHARED[4]], SHARED))
def test_calls_that_threads_share(shape, order, monkeypatch):
    """What is prepared is all that comes before the launch: nothing is checked again by Python."""
    x, labels = operands(*shape)
    x = np.array(x, order=order)
    calls = [
        *(lambda f=f, out=out: f(x, out=out) for f in (fs.softmax, fs.log_softmax) for out in (None, np.empty_like(x))),
        *(lambda out=out: fs.cross_entropy_and_grad(x, labels, out=out) for out in (None, np.empty_like(x))),
        lambda: fs.logsumexp(x),
        lambda: fs.softmax_vjp(x, x),
        *(lambda r=r: fs.cross_entropy(x, labels, reduction=r) for r in ("mean", "sum", "none")),
    ]
    expected = [copied(unprepared(call)) for call in calls]
    for call in calls:
        call()
    with monkeypatch.context() as patch:
        for name in ("_rows", "_loss"):
            patch.setattr(backend, name, None)
        for call, wanted in zip(calls, expected, strict=True):
            equal(call(), wanted)


def copied(found):
    """What a later call does not write to."""
    return type(found)(*map(copied, found)) if isinstance(found, tuple) else found.copy()


def test_shared_calls_look_at_every_label():
    x, labels = operands(70000, 3)
    out = np.full_like(x, 7)
    expected = prepared(fs.cross_entropy_and_grad, x, labels, out=out).grad.copy()
    labels[69999] = 3
    out[...] = 7
    with pytest.raises(ValueError, match=r"got 3 at row 69999;"):
        fs.cross_entropy_and_grad(x, labels, out=out)
    assert (out == 7).all()
    labels[...] = -100
    with np.errstate(all="raise"):
        assert np.isnan(fs.cross_entropy(x, labels))
    target = out.reshape(-1)[-140000:].view(np.int64)  # the gradient overwrites what rows are yet to read
    labels = operands(70000, 3)[1]
    target[...] = labels
    equal(fs.cross_entropy_and_grad(x, target, out=out).grad, unprepared(fs.cross_entropy_and_grad, x, labels).grad)
    assert expected.shape == out.shape


def test_shared_losses_that_single_numbers_cannot_hold():
    """They are infinite, and NumPy has nothing to say of it."""
    x = np.full((70000, 2), 3e38, np.float32) * np.array([1, -1], np.float32)
    with np.errstate(all="raise"):
        for _ in range(2):
            assert fs.cross_entropy(x, np.ones(70000, np.int64), reduction="sum") == np.inf


def test_many_labels_are_checked_by_threads():
    """A launch of its own, as where weights are summed."""
    x = np.zeros((1 << 17, 2), np.float32)
    fs.cross_entropy(x, np.zeros(1 << 17, np.int64))
    assert list(backend._prepared.values()) == [None]


@pytest.mark.parametrize("dtype", ["int32", "uint8", ">i4"])
def test_labels_of_fewer_bytes(dtype):
    """Their calls are prepared as those of int64 labels are, which they have the bits of; errors name the same row."""
    x, t = operands()
    expected = unprepared(fs.cross_entropy_and_grad, x, t)
    equal(prepared(fs.cross_entropy_and_grad, x, t.astype(dtype)), expected)
    t[3] = 100
    for _ in range(2):
        with pytest.raises(ValueError, match="got 100 at row 3"):
            fs.cross_entropy_and_grad(x, t.astype(dtype))

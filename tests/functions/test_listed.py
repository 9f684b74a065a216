"""kl_divergence from a teacher that lists some classes: the reference, torch, differences; digits of the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.api.statistics import TopK
from fastsoftmax.core.divergence import TAILS, Listed
from fastsoftmax.cpu import derived
from tests.backends import raises
from tests.pairs import exhaustive_but
from tests.support import LAYOUTS, assert_exact, both, by_least_places, logits, row_counts, seeds, steepness

#: All that is defined: every tail forward, and two in other directions.
KINDS = [(tail, "forward") for tail in TAILS] + [("renormalize", 0.4), ("bucket", "reverse"), ("bucket", 0.3)]


def listed(seed, shape, k, dtype=np.float64, scale=3.0):
    """k classes of each row in random order, and their log-probabilities."""
    y = reference.log_softmax(logits(seed, shape, np.float64, scale))
    indices = np.argsort(np.random.default_rng(seed).random(shape), axis=-1)[..., :k]
    return indices, np.take_along_axis(y, indices, -1).astype(dtype)


def compare(found, x, pair, **options):
    """Both results with the reference's, within what it loses in the dtype; terms are of the size of the logits."""
    exact, naive = both(fs.kl_divergence_and_grad, x, pair, dtype=x.dtype, **options)
    scale = 1 + np.max(steepness(x, {}), initial=0.0) + np.abs(pair[1]).max(initial=0.0)
    weight = np.max(options.get("sample_weight", 1.0)) * np.max(np.abs(options.get("grad_output", 1.0)))
    assert_exact(found.loss, exact.loss, naive.loss, along=None, size=scale * weight * len(x))
    assert_exact(found.grad, exact.grad, naive.grad, size=scale * weight)


@by_least_places
@given(seeds, row_counts, st.data())
def test_values(places, seed, rows, data):
    """Rows of every layout, dtype and length, and some or all of their classes in arrays of other dtypes."""
    dtype, classes, layout, other = data.draw(places)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    k, tail = data.draw(st.integers(1, min(classes, 40)) | st.just(classes)), data.draw(st.sampled_from(TAILS[1:]))
    indices, log_prob = listed(seed + 1, x.shape, k, np.float32)
    pair = indices.astype(data.draw(st.sampled_from([np.int64, np.int16, np.uint64]))), LAYOUTS[other](log_prob)
    before = x.copy(), pair[0].copy(), pair[1].copy()
    found = fs.kl_divergence_and_grad(x, pair, tail=tail, temperature=2.0, reduction="sum")
    compare(found, x, pair, tail=tail, temperature=2.0, reduction="sum")
    assert found.grad.dtype == x.dtype.newbyteorder("=")
    for array, copy in zip((x, *pair), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("tail", "direction", "classes"),
    exhaustive_but(
        [(*kind, (1000, 10)[i % 2]) for i, kind in enumerate(KINDS)],
        [(*kind, classes) for kind in KINDS for classes in (10, 1000)],
    ),
)
def test_kinds(tail, direction, classes):
    """Each tail and direction, with weights, upstream gradients and a temperature."""
    x, pair = logits(1, (30, classes), np.dtype(np.float32)), listed(2, (30, classes), 7)
    given = {"tail": tail, "direction": direction, "temperature": 1.5}
    random = np.random.default_rng(1)
    for options in (
        {"reduction": "none", "grad_output": random.normal(size=30)},
        {"sample_weight": random.uniform(0, 2, 30)},
    ):
        found = fs.kl_divergence_and_grad(x, pair, **given, **options)
        compare(found, x, pair, **given, **options)


@pytest.mark.parametrize("classes", exhaustive_but([5], [5, 40]))
@pytest.mark.parametrize(("tail", "direction"), exhaustive_but([KINDS[0], KINDS[4]], KINDS))
@given(seed=seeds)
def test_gradients_are_derivatives(tail, direction, classes, seed):
    """Differences of the divergence itself."""
    x, pair, h = logits(seed, (2, classes), np.float64, 1.0), listed(seed + 1, (2, classes), 3, scale=1.0), 2.0**-17
    options = {"tail": tail, "direction": direction, "temperature": 0.7, "reduction": "sum"}
    numeric = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[at] = h
        more, less = (fs.kl_divergence(z, pair, **options) for z in (x + step, x - step))
        numeric[at] = (more - less) / (2 * h)
    grad = fs.kl_divergence_and_grad(x, pair, **options).grad
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


def test_as_torch_has_it():
    """kl_div of the listed classes' log-probabilities, and of the others' together."""
    torch = pytest.importorskip("torch")
    x, (indices, log_prob) = logits(1, (6, 20), np.float64), listed(2, (6, 20), 4)
    z, q, at = torch.tensor(x, requires_grad=True), torch.tensor(log_prob), torch.tensor(indices)
    log_p = (z / 0.7).log_softmax(1)
    rest = log_p.scatter(1, at, -torch.inf).logsumexp(1, keepdim=True)
    more = torch.log1p(-q.exp().sum(1, keepdim=True))
    student, teacher = torch.cat([log_p.gather(1, at), rest], 1), torch.cat([q, more], 1)
    for tail, direction in KINDS[:3]:
        pair = {
            "ignore": (student[:, :-1], q),
            "renormalize": (student[:, :-1], q.log_softmax(1)),
            "bucket": (student, teacher),
        }[tail]
        loss = torch.nn.functional.kl_div(*pair, reduction="batchmean", log_target=True)
        z.grad = None
        loss.backward(retain_graph=True)
        options = {"tail": tail, "direction": direction, "temperature": 0.7}
        found = fs.kl_divergence_and_grad(x, (indices, log_prob), **options)
        np.testing.assert_allclose(found.loss, loss.item(), rtol=1e-12)
        np.testing.assert_allclose(found.grad, z.grad, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("classes", exhaustive_but([1000, 150_000], [10, 1000, 150_000]))
def test_what_is_left_of_the_student_keeps_its_digits(classes):
    """The others' 1e-20 of a sure student is no difference from 1; without a common offset, or with one."""
    x = np.full((2, classes), -46.0, np.float32)
    x[0, 3], x[1] = 0.0, x[1] + 2.0**20
    x[1, 3] = 2.0**20
    pair = np.full((2, 1), 3), np.log([[0.75], [0.75]])
    rest = np.log(classes - 1) - 46.0
    found = fs.kl_divergence_and_grad(x, pair, tail="bucket", reduction="none")
    np.testing.assert_allclose(found.loss, 0.75 * np.log(0.75) + 0.25 * (np.log(0.25) - rest), rtol=1e-6)
    np.testing.assert_allclose(found.grad[:, 3], 0.25, rtol=1e-6)
    np.testing.assert_allclose(found.grad[:, 4], -0.25 / (classes - 1), rtol=1e-5)
    small = fs.kl_divergence_and_grad(x, (pair[0], np.zeros((2, 1))), tail="renormalize", reduction="none")
    np.testing.assert_allclose(small.loss, np.exp(rest), rtol=1e-5)


@pytest.mark.parametrize("direction", exhaustive_but(["reverse"], ["forward", "reverse", 0.5]))
@given(seed=seeds)
def test_it_is_never_negative(direction, seed):
    """Of a teacher that is the student; with an ignored tail a divergence may be."""
    x = logits(seed, (5, 1000), np.float32)
    indices, _ = listed(seed, x.shape, 20)
    log_prob = np.take_along_axis(reference.log_softmax(x), indices, -1)
    same = fs.kl_divergence(x, (indices, log_prob), tail="bucket", direction=direction, reduction="none")
    assert ((same >= 0) & (same < 1e-9)).all()
    found = fs.kl_divergence_and_grad(x, (indices, log_prob - 1), tail="ignore", reduction="none")
    assert (found.loss < 0).all()


@pytest.mark.parametrize("classes", exhaustive_but([1000], [4, 1000]))
def test_impossible_classes(classes):
    """The listed are all that a student has, or none of it; rows that are NaN."""
    x, indices, log_prob = np.zeros((6, classes), np.float32), np.tile([2, 0], (6, 1)), np.log(np.full((6, 2), 0.25))
    x[0, 1], x[0, 3:] = -np.inf, -np.inf  # the teacher has a half that is elsewhere
    x[1, 0] = -np.inf
    x[2, [0, 2]] = -np.inf
    x[3, 0], x[4, 1], x[5] = np.nan, np.inf, -np.inf
    found = fs.kl_divergence_and_grad(x, (indices, log_prob), tail="bucket", reduction="none")
    np.testing.assert_array_equal(found.loss, [np.inf] * 3 + [np.nan] * 3)
    assert np.isnan(found.grad[3:]).all()
    np.testing.assert_array_equal(found.grad[0, :4], [0.25, 0, 0.25, 0])
    log_prob[:2] = np.log(0.5), -np.inf
    found = fs.kl_divergence_and_grad(x[:2], (indices[:2], log_prob[:2]), tail="renormalize", reduction="none")
    np.testing.assert_allclose(found.loss, np.log([2, classes - 1]), rtol=1e-6)
    np.testing.assert_array_equal(found.grad[0, :4], [0.5, 0, -0.5, 0])


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 1000]))
@pytest.mark.parametrize("tail", TAILS)
def test_all_classes_are_a_dense_teacher(tail, classes):
    x, (indices, log_prob) = logits(0, (7, classes), np.float32), listed(1, (7, classes), classes)
    dense = np.empty_like(log_prob)
    np.put_along_axis(dense, indices, log_prob, -1)
    found = fs.kl_divergence_and_grad(x, (indices, log_prob), tail=tail, temperature=2.0)
    expected = fs.kl_divergence_and_grad(x, dense, teacher_is="log_prob", temperature=2.0)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    np.testing.assert_allclose(found.grad, expected.grad, rtol=1e-5, atol=1e-8)


def test_out_axes_and_no_rows():
    """Along any axis, on several levels of rows, in place, of what `row_stats` gives, and of no rows."""
    x = logits(0, (4, 5, 6, 7), np.float32)[::2, :, ::-1]
    pair = TopK(*(np.moveaxis(array, -1, 1) for array in listed(1, (2, 6, 7, 5), 2)))
    weight = np.random.default_rng(2).random((2, 6, 7))
    expected = reference.kl_divergence_and_grad(x, pair, tail="bucket", axis=1, sample_weight=weight)
    own = x.copy()
    found = fs.kl_divergence_and_grad(own, pair, tail="bucket", axis=1, sample_weight=weight, out=own)
    assert found.grad is own
    np.testing.assert_allclose(own, expected.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    options = {"tail": "ignore", "axis": 1, "reduction": "none", "sample_weight": weight}
    each = fs.kl_divergence_and_grad(x, pair, **options).loss
    np.testing.assert_allclose(each, reference.kl_divergence(x, pair, **options), rtol=1e-4, atol=1e-6)
    assert np.isnan(fs.kl_divergence(np.empty((0, 3)), (np.empty((0, 2), int), np.empty((0, 2))), tail="bucket"))
    integers = fs.kl_divergence([[6, 4, 2]], ([[0]], [[0.0]]), tail="renormalize", temperature=2.0)
    assert integers.dtype == np.float64
    np.testing.assert_allclose(integers, np.log1p(np.exp(-1) + np.exp(-2)), rtol=1e-14)


def test_temperatures_that_are_computed_in_double():
    x, pair = logits(0, (3, 5), np.float32), listed(1, (3, 5), 2)
    found = fs.kl_divergence_and_grad(x, pair, tail="ignore", temperature=2.0**70)
    expected = reference.kl_divergence_and_grad(x, pair, tail="ignore", temperature=2.0**70)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    np.testing.assert_allclose(found.grad, expected.grad, rtol=1e-5)


def test_indices_are_the_calls_own():
    """Kernels do not see what another thread writes to them once they are checked."""
    indices, log_prob = map(np.ascontiguousarray, listed(0, (3, 9), 2))
    assert indices.dtype == np.int64
    checked = derived.listed(Listed(indices, log_prob, "bucket"), np.zeros((3, 9)), 1)
    assert not np.shares_memory(checked.indices, indices)


PAIR = [[0, 1], [2, 0]], [[-1.0, -2.0], [-0.5, -3.0]]


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "tail must be None or one of 'ignore', 'renormalize', 'bucket', got 'drop'", {"tail": "drop"}),
        (TypeError, "teacher must be a pair (indices, log_prob) with tail='bucket'", {"teacher": np.zeros((2, 3))}),
        (ValueError, "got (2, 2, 2); pass tail with a pair (indices, log_prob)", {"tail": None}),
        (ValueError, "teacher_is must be left out with tail='bucket'", {"teacher_is": "prob"}),
        (ValueError, "direction must be 'forward' with tail='ignore'", {"tail": "ignore", "direction": 0.5}),
        (ValueError, "pass tail='bucket'", {"tail": "renormalize", "direction": "reverse"}),
        (
            ValueError,
            "but for 1 to 3 listed classes along axis 1, got (2, 4)",
            {"teacher": (np.zeros((2, 4), int),) * 2},
        ),
        (ValueError, "along axis 1, got (2, 0)", {"teacher": (np.zeros((2, 0), int),) * 2}),
        (ValueError, "along axis 1, got (2,)", {"teacher": (np.zeros(2, int),) * 2}),
        (ValueError, "along axis 1, got (3, 2)", {"teacher": (np.zeros((3, 2), int),) * 2}),
        (ValueError, "log_prob must have the shape of indices, (2, 2), got (2, 1)", {"teacher": (PAIR[0], [[0], [0]])}),
        (TypeError, "indices must have an integer dtype, got float64", {"teacher": (PAIR[1], PAIR[1])}),
        (
            ValueError,
            "in [0, 3), got -1 in row (1,); row_stats gives -1 for rows that it ignores: leave them out",
            {"teacher": ([[0, 1], [2, -1]], PAIR[1])},
        ),
        (ValueError, "in [0, 3), got 3 in row (0,)", {"teacher": ([[0, 3], [2, 1]], PAIR[1])}),
        (ValueError, "each class once in a row, got 2 twice in row (1,)", {"teacher": ([[0, 1], [2, 2]], PAIR[1])}),
    ],
)
def test_errors(error, text, options):
    options = {"teacher": PAIR, "tail": "bucket", **options}
    for function in (fs.kl_divergence, fs.kl_divergence_and_grad):
        with pytest.raises(error) as caught:
            function(np.zeros((2, 3)), **options)
        assert text in str(caught.value)


def test_classes_that_row_stats_puts_last(backend):
    """Along another axis they are to be moved there, as the error says."""
    x, y = logits(1, (4, 7, 5), np.float32), logits(2, (4, 7, 5), np.float32)
    top = backend.call(fs.row_stats, y, want="top_k", k=3, axis=1).top_k
    text = (
        "along axis 1, got (4, 5, 3); row_stats puts them last: pass np.moveaxis(indices, -1, 1), and log_prob likewise"
    )
    raises(ValueError, text, fs.kl_divergence, x, tuple(top), tail="bucket", axis=1, backend=backend)
    moved = tuple(np.ascontiguousarray(np.moveaxis(part, -1, 1)) for part in top)
    exact = reference.kl_divergence(x, moved, tail="bucket", axis=1)
    if not backend.gpu:  # where the classes lie last
        np.testing.assert_allclose(fs.kl_divergence(x, moved, tail="bucket", axis=1), exact, rtol=1e-5)

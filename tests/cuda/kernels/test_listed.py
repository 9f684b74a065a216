"""The GPU kernel of divergences from a teacher that lists classes, executed by the interpreter of its PTX.  No GPU."""

import re

import numpy as np
import pytest

from fastsoftmax import kl_divergence_and_grad, reference
from fastsoftmax.core.divergence import TAILS, direction_of, divergence_options
from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.core.options import Flags, flags_of, numbers_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import ListedIntegers
from fastsoftmax.cuda.plan import listed_plan
from tests.cuda.kernels.build import GPUS
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR
from tests.cuda.kernels.machine_code import taken_apart
from tests.cuda.kernels.support import H200, Lie, Placed, strides
from tests.functions.test_listed import KINDS, listed
from tests.interpreter import ptx
from tests.interpreter.memory import Race
from tests.interpreter.mutants import without_barriers
from tests.pairs import exhaustive_but
from tests.support import assert_exact, both, computed, logits, steepness

inf, nan = np.inf, np.nan


def listed_of(x, pair, *, tail="bucket", direction="forward", temperature=1.0, sample_weight=None, scale=1.0,
              denominator=None, grad=True, lie=None, in_place=False, grid=None, rough=False, ptx_of=None):  # fmt: skip
    """(divergences of rows, their partial sums, the gradient, the plan, the traffic)."""
    (n, classes), work, lie, placed, (indices, log_prob) = x.shape, computed(x.dtype), lie or Lie(), Placed(), pair
    (side, beta), o = direction_of(direction), divergence_options(temperature, "none")
    address, layout, get = placed.rows(x, "x", lie, written=in_place)
    to, to_layout = address, layout
    if grad and not in_place:
        to, to_layout, get = placed.rows(np.zeros_like(x), "out", lie, written=True)
    factors = sample_weight is not None
    flags = flags_of(o, hard=False, weighted=False, factors=factors, grad=grad)._replace(soft=False)
    made = listed_plan(n, classes, x.itemsize, H200)
    made = made._replace(grid=grid or made.grid)
    rows, partial = np.full(n, 7, work), np.full(made.grid, 7.0)
    weights = placed.vector(sample_weight, work, "sample_weight")
    integers = ListedIntegers(
        *(address, 0, to if grad else 0),
        placed.vector(indices, indices.dtype, "indices"),
        placed.vector(log_prob, log_prob.dtype, "log_prob"),
        *(weights, weights),
        placed.memory.add(rows, "rows"),
        placed.memory.add(partial, "partial"),
        placed.vector(None if denominator is None else [denominator], np.float64, "denominator"),
        *(0, indices.shape[1], n, lie.ways(n, classes)[2], classes),
        *(*strides(layout), 0, 0, 0, *strides(to_layout if grad else None)),
    )
    variant = side, TAILS.index(tail), storage_of(log_prob.dtype)
    recipe = recipes.recipe("listed", made, storage_of(x.dtype), None, variant, flags, indices.itemsize)
    numbers = *numbers_of(o, classes)._replace(scale=scale), beta
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, (9, 0)))
    arguments = *integers, *map(work.type, numbers)
    done = ptx.launch(ptx.program(text), placed.memory, made.grid, made.threads, arguments, 0, 1, rough=rough)
    return rows, partial.sum(), get() if grad else None, made, done.traffic


def compare(rows, grad, x, pair, *, scale=1.0, ulps=8, **options):
    """Both with the reference's, within what it loses in the dtype and what an ulp of a logit changes."""
    pair = pair[0].astype(np.int64), pair[1].astype(np.float64)
    exact, naive = both(kl_divergence_and_grad, x, pair, dtype=x.dtype, reduction="none", **options)
    weight = options.get("sample_weight")
    weight = np.ones(len(x)) if weight is None else weight
    size = 1 + steepness(x, {}) / min(options.get("temperature", 1.0), 1.0)
    size = (size + np.where(np.isfinite(pair[1]), np.abs(pair[1]), 0).max(-1, keepdims=True)) * weight[:, None]
    assert_exact(rows[:, None], exact.loss[:, None], naive.loss[:, None], ulps=ulps, size=size)
    if grad is not None:
        assert_exact(grad, exact.grad * scale, naive.grad * scale, ulps=ulps, size=size * abs(scale))


#: Dtypes, classes, listed classes and how rows lie: a warp, a block of several, and one with several windows.
CASES = [
    (FLOAT32, 10, 3, {}), (BFLOAT16, 1000, 7, {"lie": Lie(offset=2, extra=1)}), (FLOAT64, 300, 300, {}),
    (FLOAT32, 8192 + 300, 600, {}), (FLOAT16, 515, 40, {"lie": MAJOR}),
]  # fmt: skip


def drawn(dtype, classes, k, rows=5, label=np.int64):
    x, (indices, log_prob) = logits(1, (rows, classes), dtype), listed(2, (rows, classes), k, np.float32)
    x[1] = x[1] + np.float32(100).astype(dtype)
    x[2, indices[2, 0]] = -inf
    log_prob[3, 0] = -inf
    return x, (indices.astype(label), log_prob.astype(computed(dtype)))


@pytest.mark.parametrize(
    ("case", "tail", "direction"),
    exhaustive_but([(i % 5, *kind) for i, kind in enumerate(KINDS)], [(i, *kind) for i in range(5) for kind in KINDS]),
)
def test_values(case, tail, direction):
    """Of rows of every length and layout; the gradient may take the student's place."""
    dtype, classes, k, how = CASES[case]
    x, pair = drawn(dtype, classes, k, label=(np.int32, np.int64)[case % 2])
    given = {"tail": tail, "direction": direction}
    rows, total, grad, _, traffic = listed_of(x, pair, **given, **how)
    compare(rows, grad, x, pair, **given)
    finite = np.isfinite(rows).all()
    np.testing.assert_allclose(total, rows.astype(np.longdouble).sum() if finite else rows.sum(), rtol=1e-14)
    assert traffic["x"].loaded <= 2 * x.nbytes + 5 * pair[0].size * x.itemsize
    assert traffic["out"].stored == x.nbytes
    inside = listed_of(x, pair, in_place=True, **given, **how)
    np.testing.assert_array_equal(inside[2].astype(np.float64), grad.astype(np.float64))
    np.testing.assert_array_equal(inside[0], rows)
    np.testing.assert_array_equal(listed_of(x, pair, grad=False, **given, **how)[0], rows)


@pytest.mark.parametrize(("tail", "direction"), exhaustive_but([KINDS[1], KINDS[5]], KINDS))
def test_factors_and_temperature(tail, direction):
    """A weight of each row, a factor of all of them, and the divisor of a mean; more rows than blocks."""
    x, pair = drawn(FLOAT32, 10, 3)
    weight = np.random.default_rng(3).uniform(0, 2, len(x)).astype("f")
    given = {"tail": tail, "direction": direction, "temperature": 0.7, "sample_weight": weight}
    rows, _, grad, _, _ = listed_of(x, pair, **given, denominator=4.0, scale=-3.0, grid=2)
    compare(rows, grad, x, pair, **given, scale=-0.75)


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 1000, 8500]))
@pytest.mark.parametrize("tail", TAILS)
def test_lists_that_are_not_sound(tail, classes):
    """Of indices out of range, or twice in a row, nothing is read or written; such rows are NaN, and no others."""
    x, (indices, log_prob) = drawn(FLOAT32, classes, 4, rows=9)
    expected = listed_of(x, (indices, log_prob), tail=tail)
    for row, value in ((0, -1), (2, classes), (3, 2**32), (4, -(2**63)), (5, 2**63 - 1), (7, indices[7, 1])):
        indices[row, 3] = value
    found = listed_of(x, (indices, log_prob), tail=tail, in_place=True)
    sound = [1, 6, 8]
    for before, after in ((expected[0], found[0]), (expected[2], found[2])):
        np.testing.assert_array_equal(before[sound], after[sound])
        assert np.isnan(np.delete(after, sound, 0)).all()


@pytest.mark.parametrize("classes", exhaustive_but([1000], [10, 1000, 20_000]))
def test_digits_of_what_is_left(classes):
    """The others' 1e-20 of a sure student is no difference from 1, nor what a teacher leaves near 1."""
    x = np.full((2, classes), -46.0, np.float32)
    x[0, 3], x[1] = 0.0, x[1] + 2.0**20
    x[1, 3] = 2.0**20
    indices, rest = np.full((2, 1), 3), np.log(classes - 1) - 46.0
    rows, _, grad, _, _ = listed_of(x, (indices, np.log([[0.75]] * 2).astype("f")))
    np.testing.assert_allclose(rows, 0.75 * np.log(0.75) + 0.25 * (np.log(0.25) - rest), rtol=1e-6)
    np.testing.assert_allclose(grad[:, 3], 0.25, rtol=1e-6)
    np.testing.assert_allclose(grad[:, 4], -0.25 / (classes - 1), rtol=1e-5)
    rows = listed_of(x, (indices, np.zeros((2, 1), "f")), tail="renormalize")[0]
    np.testing.assert_allclose(rows, np.exp(rest), rtol=1e-5)
    little = np.float32(-(2.0**-20))
    grad = listed_of(np.zeros((1, 4), "f"), (np.zeros((1, 1), int), np.full((1, 1), little)))[2]
    np.testing.assert_allclose(grad[0, 1:], 0.25 + np.expm1(np.float64(little)) / 3, rtol=1e-6)
    far = np.full((2, 2), -200.0, np.float32)  # whose sum is 0 in float32, until it is normalised
    rows = listed_of(np.zeros((2, 2), "f"), (np.tile([0, 1], (2, 1)), far), tail="renormalize")[0]
    np.testing.assert_allclose(rows, 0, atol=1e-6)


@pytest.mark.parametrize("direction", exhaustive_but(["reverse"], ["forward", "reverse", 0.5]))
def test_it_is_never_negative(direction):
    """Of a teacher that is the student, even with approximate instructions as wrong as a GPU's may be."""
    x = logits(3, (4, 300), np.float32)
    indices, _ = listed(4, x.shape, 20)
    pair = indices, np.take_along_axis(reference.log_softmax(x), indices, -1).astype(np.float32)
    for rough in (False, True):
        rows = listed_of(x, pair, direction=direction, rough=rough, grad=False)[0]
        assert ((rows >= 0) & (rows < 1e-6)).all()


@pytest.mark.parametrize("classes", exhaustive_but([10], [10, 1000]))
def test_impossible_classes(classes):
    """The listed are all that a student has, or none of it; rows that are NaN; all classes are listed."""
    x, indices, log_prob = np.zeros((6, classes), "f"), np.tile([2, 0], (6, 1)), np.log(np.full((6, 2), 0.25, "f"))
    x[0, 1], x[0, 3:] = -inf, -inf  # the teacher has a half that is elsewhere
    x[1, 0], x[2, [0, 2]] = -inf, -inf
    x[3, 0], x[4, 1], x[5] = nan, inf, -inf
    rows, _, grad, _, _ = listed_of(x, (indices, log_prob))
    np.testing.assert_array_equal(rows, [inf] * 3 + [nan] * 3)
    assert np.isnan(grad[3:]).all()
    np.testing.assert_array_equal(grad[0, :4], [0.25, 0, 0.25, 0])
    every = np.tile(np.arange(classes), (2, 1)), np.full((2, classes), np.log(0.5 / classes), np.float32)
    np.testing.assert_allclose(listed_of(np.zeros((2, classes), "f"), every)[0], 0.5 * np.log(0.5) + 0.5, rtol=1e-5)


@pytest.mark.parametrize(
    "capability", exhaustive_but([((9, 0),)], [(each,) for each in GPUS]), ids=lambda c: f"sm_{c[0]}{c[1]}"
)
@pytest.mark.parametrize("dtype", exhaustive_but([FLOAT32], [BFLOAT16, FLOAT32, FLOAT64]), ids=str)
@pytest.mark.parametrize("classes", [100, 100_000])
def test_machine_code(dtype, classes, capability):
    """Nothing is spilled or left in local memory, and as many threads have registers as the grid is laid out for."""
    made, kind = listed_plan(1 << 20, classes, dtype.itemsize, GPUS[capability]), storage_of(dtype)
    variant, flags = (
        (direction_of(0.5)[0], TAILS.index("renormalize"), kind),
        Flags(grad=True, temper=True, factors=True),
    )
    code = taken_apart(recipes.compiled(recipes.recipe("listed", made, kind, None, variant, flags), capability).code)
    assert (code.stack, code.local, code.count("LDL|STL")) == (0, 0, 0)
    assert code.shared < 48 << 10
    assert -(-code.registers // 8) * 8 * made.threads * made.resident <= 65536


def test_each_barrier_is_needed():
    """Without any one of them threads race, of marks that are stored; the interpreter looks at no atomic's order."""
    x, pair = drawn(FLOAT32, 8500, 600)

    def launched(change):
        stored = re.compile(r"(?:atom|red)\.shared\.max\.s32\s+(?:%r\d+, )?(\[[^]]+\], \S+;)")

        def text(compiled):
            made, count = stored.subn(r"st.shared.u32 \1", compiled.ptx)
            assert count
            return change(made)

        return listed_of(x, pair, grid=1, ptx_of=text)

    texts = []
    launched(lambda text: texts.append(text) or text)
    broken = [text for _, text in without_barriers(texts[0])]
    assert len(broken) >= 12
    for text in broken:
        with pytest.raises(Race):
            launched(lambda _, text=text: text)

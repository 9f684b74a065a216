"""The GPU kernels of losses against the reference in higher precision, executed by the interpreter of their PTX.

That shows what they compute, and what they read and write; it is no result of a GPU.
"""

import numpy as np
import ptx
import pytest
import support_cuda  # noqa: F401  skips where numba-cuda is not installed
from support import INDEX_OPTIONS, SOFT_OPTIONS, filled, labels, logits, names, probabilities
from support_kernels import A100, H200, KINDS, Lie, Placed, assert_as_reference, loss_of, options_of

from fastsoftmax.cuda import kernels
from fastsoftmax.cuda.params import Integers
from fastsoftmax.plan_cuda import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP, Layout, plan
from fastsoftmax.spec import FLOAT32 as SINGLE

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (KINDS[k] for k in range(4))
TINY = (2, 1024, False)  # a GPU without shared memory to speak of
MAJOR = Lie(major=True)
#: dtype, classes, form, layout, GPU
FORMS = [
    (FLOAT32, 1, PART_WARP, Lie(), H200),
    (FLOAT32, 10, PART_WARP, Lie(), H200),
    (FLOAT32, 33, PART_WARP, Lie(), H200),
    (FLOAT32, 101, WARP, Lie(), H200),
    (FLOAT32, 1028, BLOCK, Lie(), H200),
    (FLOAT32, 5001, BLOCK, Lie(offset=3), H200),
    (FLOAT32, 17001, CLUSTER, Lie(), H200),
    (FLOAT32, 33001, SHARED, Lie(), A100),
    (FLOAT32, 33001, ONLINE, Lie(), TINY),
    (FLOAT32, 20, PART_WARP, MAJOR, H200),
    (FLOAT32, 50, SCALAR, MAJOR, H200),
    (BFLOAT16, 7, PART_WARP, Lie(), H200),
    (BFLOAT16, 515, WARP, Lie(), H200),
    (BFLOAT16, 5003, BLOCK, Lie(), H200),
    (BFLOAT16, 33005, CLUSTER, Lie(), H200),
    (BFLOAT16, 65701, SHARED, Lie(offset=1), A100),
    (BFLOAT16, 65701, ONLINE, Lie(), TINY),
    (BFLOAT16, 50, SCALAR, MAJOR, H200),
    (FLOAT16, 21, PART_WARP, Lie(), H200),
    (FLOAT16, 3000, BLOCK, Lie(), H200),
    (FLOAT64, 6, PART_WARP, Lie(), H200),
    (FLOAT64, 131, WARP, Lie(), H200),
    (FLOAT64, 1001, BLOCK, Lie(), H200),
    (FLOAT64, 16500, ONLINE, Lie(), TINY),
]
form_ids = [f"{dtype}-{classes}-{form}" for dtype, classes, form, _, _ in FORMS]
ALL = [
    form_ids.index(f"float32-{name}") for name in ("10-1", "101-2", "5001-3", "17001-5", "33001-4", "33001-6", "50-0")
]
EACH = [FORMS[k] for k in ALL]
each_ids = [form_ids[k] for k in ALL]


def checked(dtype, classes, form, lie, facts, options, *, rows=5, soft=False, **how):
    """Loss and gradient of random logits against the reference."""
    random = np.random.default_rng(classes)
    x = logits(classes, (rows, classes), dtype)
    options = filled(options, random, x.shape)
    target = probabilities(random, x.shape, dtype) if soft else labels(random, x.shape)
    result = loss_of(x, target, options, lie=lie, facts=facts, **how)
    assert result.plan.form == form
    assert_as_reference(x, target, options, result)
    return x, result


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), FORMS, ids=form_ids)
def test_loss_and_gradient(dtype, classes, form, lie, facts):
    x, result = checked(dtype, classes, form, lie, facts, {}, rows=3 if classes > 10000 else 37)
    read, written = result.moved("x")[0], result.moved("out")[1]
    assert written == x.nbytes
    assert result.moved("out")[0] == result.moved("x")[1] == 0
    if form in (SCALAR, ONLINE):
        assert read <= 2 * x.nbytes
    else:  # where a row is kept in shared memory its ends are read twice
        assert x.nbytes <= read <= x.nbytes * (1.001 if form == SHARED else 1)


@pytest.mark.parametrize("options", INDEX_OPTIONS[1:], ids=names)
def test_options(options):
    checked(FLOAT32, 101, WARP, Lie(), H200, options, rows=20)


@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
def test_soft_options(options):
    checked(FLOAT32, 101, WARP, Lie(), H200, options, rows=20, soft=True)


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), EACH[::2], ids=each_ids[::2])
def test_all_options_in_each_form(dtype, classes, form, lie, facts):
    checked(dtype, classes, form, lie, facts, INDEX_OPTIONS[-1], rows=3)


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), EACH[1::2], ids=each_ids[1::2])
def test_soft_targets_in_each_form(dtype, classes, form, lie, facts):
    checked(dtype, classes, form, lie, facts, SOFT_OPTIONS[-1], rows=3, soft=True)


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT64], ids=str)
def test_options_in_other_dtypes(dtype):
    checked(dtype, 22, PART_WARP, Lie(), H200, INDEX_OPTIONS[-1])
    checked(dtype, 22, PART_WARP, Lie(), H200, SOFT_OPTIONS[-1], soft=True)


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), EACH, ids=each_ids)
def test_special_values(dtype, classes, form, lie, facts):
    """Infinities, NaN, common offsets, confident rows; each poisons its own row only, and no row that is ignored."""
    inf, nan = np.inf, np.nan
    x = logits(5, (12, classes), dtype)
    target = np.arange(12) % classes
    x[0, : classes // 2] = -inf
    x[1] = -inf
    x[2, target[2]] = -inf
    x[3, classes - 1] = inf
    x[4, classes // 2] = nan
    x[5, target[5]] = nan
    x[6], target[6] = nan, -100
    x[7, 1], target[7] = inf, -100
    x[8] += 1e4
    x[9] = -300.0
    x[9, target[9]] = 300.0
    x[10, target[10]] = x[10].max() + 20
    x[11] = 3.0
    result = loss_of(x, target, {}, lie=lie, facts=facts)
    assert result.plan.form == form
    assert_as_reference(x, target, {}, result)
    assert np.isnan(result.rows[[1, 3, 4, 5]]).all()
    assert result.rows[2] == inf
    assert not result.out[6:8].any()


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), EACH, ids=each_ids)
def test_labels_out_of_range(dtype, classes, form, lie, facts):
    """NaN in their rows, nothing read out of bounds, and the last such row is reported."""
    x = logits(2, (9, classes), dtype)
    wrong = np.array([-1, classes, 1 << 31, (1 << 32) + 1, -(1 << 63), 0, classes - 1, -100, 1 << 40])
    used = np.isin(np.arange(9), (5, 6))
    result = loss_of(x, wrong, {}, lie=lie, facts=facts)
    nothing = wrong == -100
    assert np.isnan(result.rows[~used & ~nothing]).all()
    assert np.isnan(result.out[~used & ~nothing]).all()
    assert result.bad == 9
    right = np.where(used | nothing, wrong, -100)
    expected = loss_of(x, right, {}, lie=lie, facts=facts)
    assert expected.bad == 0
    for a, b in ((result.rows, expected.rows), (result.out, expected.out)):
        np.testing.assert_array_equal(a[used | nothing], b[used | nothing])


@pytest.mark.parametrize("ignore_index", [0, 3, 9, 10, 255, -7])
def test_ignore_index_may_be_a_class_or_no_class(ignore_index):
    random = np.random.default_rng(1)
    x = logits(1, (30, 10), FLOAT32)
    options = {"class_weight": random.uniform(0.5, 2, 10), "ignore_index": ignore_index}
    target = labels(random, x.shape, ignore_index=ignore_index)
    assert_as_reference(x, target, options, loss_of(x, target, options))


def test_labels_of_four_bytes():
    x, target = logits(1, (9, 10), FLOAT32), np.array([0, 9, -100, 3, 4, -1, 10, 5, 6])
    narrow, wide = (loss_of(x, target, {}, label=size) for size in (4, 8))
    np.testing.assert_array_equal(narrow.rows, wide.rows)
    np.testing.assert_array_equal(narrow.out, wide.out)
    assert narrow.bad == wide.bad == 7


LIES = [
    *(Lie(offset=k) for k in range(1, 4)),
    Lie(extra=1),
    Lie(extra=4, offset=2),
    Lie(step=2),
    Lie(backwards=True, extra=3),
    Lie(inner=4, apart=5),
    Lie(inner=3, apart=4, offset=1),
]


@pytest.mark.parametrize("lie", LIES, ids=str)
@pytest.mark.parametrize("classes", [101, 1028])
def test_layouts(lie, classes):
    """Any start, any distance of rows, of classes: the same bits, whoever holds which element."""
    x, result = checked(FLOAT32, classes, BLOCK if classes > 1000 else WARP, lie, H200, {})
    if lie.step == 1:
        assert result.plan.vector == 4
    assert result.moved("x") == (x.nbytes, 0)


@pytest.mark.parametrize(("offset", "vector"), [(1, 1), (2, 2), (4, 4)])
def test_operands_out_of_step(offset, vector):
    """Accesses are as wide as both operands allow."""
    x, result = checked(FLOAT32, 1028, BLOCK, Lie(offset=offset), H200, {}, out_lie=Lie(extra=4))
    assert result.plan.vector == vector
    assert set(result.traffic["out"].stores) <= {4 * vector, 4}
    assert result.moved("x") == (x.nbytes, 0)


@pytest.mark.parametrize(("dtype", "classes", "form", "lie", "facts"), EACH, ids=each_ids)
def test_in_place(dtype, classes, form, lie, facts):
    """The logits' own memory takes the gradient: no thread reads what another one may have overwritten."""
    separate, inside = (checked(dtype, classes, form, lie, facts, {}, in_place=k)[1] for k in (False, True))
    np.testing.assert_array_equal(separate.out, inside.out)
    np.testing.assert_array_equal(separate.rows, inside.rows)


@pytest.mark.parametrize("classes", [10, 101, 5001])
def test_loss_alone(classes):
    random = np.random.default_rng(3)
    x, target = logits(3, (7, classes), FLOAT32), labels(random, (7, classes))
    alone, both = loss_of(x, target, {}, grad=False), loss_of(x, target, {})
    np.testing.assert_array_equal(alone.rows, both.rows)
    assert alone.total == both.total
    assert alone.out is None


def test_denominator():
    """A mean's gradients are divided by one number in memory; by 0 they are NaN, except for ignored rows."""
    x, target = logits(3, (7, 10), FLOAT32), np.array([1, 2, -100, 3, 4, 5, 6])
    plain, halved, nothing = (loss_of(x, target, {}, denominator=d) for d in (None, 4.0, 0.0))
    np.testing.assert_array_equal(halved.out, plain.out / 4)
    assert not nothing.out[2].any()
    assert np.isnan(np.delete(nothing.out, 2, axis=0)).all()
    np.testing.assert_array_equal(nothing.rows, plain.rows)


def test_scale():
    x, target = logits(3, (7, 10), FLOAT32), np.arange(7)
    numbers = options_of(10)[1]._replace(scale=-0.5)
    scaled = loss_of(x, target, {}, numbers=numbers)
    assert_as_reference(x, target, {}, scaled, scale=-0.5)


def test_factors_are_optional_one_by_one():
    x, target, factor = logits(3, (7, 10), FLOAT32), np.arange(7), np.linspace(-1, 2, 7)
    flags = {"sample_weight": factor}
    both, plain = loss_of(x, target, flags), loss_of(x, target, {})
    only_loss, only_grad = (
        loss_of(x, target, flags, without="grad_factor"),
        loss_of(x, target, flags, without="loss_factor"),
    )
    np.testing.assert_array_equal(only_loss.rows, both.rows)
    np.testing.assert_array_equal(only_loss.out, plain.out)
    np.testing.assert_array_equal(only_grad.rows, plain.rows)
    np.testing.assert_array_equal(only_grad.out, both.out)


def test_more_rows_than_blocks():
    """Blocks come back for more rows; their sums of losses are exact to the last bit but a few."""
    random = np.random.default_rng(8)
    x = logits(8, (1500, 10), FLOAT32)
    result = loss_of(x, labels(random, x.shape), {}, change={"grid": 3})
    assert_as_reference(x, labels(np.random.default_rng(8), x.shape), {}, result)


@pytest.mark.parametrize(("classes", "rows"), [(10, 6), (5001, 3)])
def test_rows_far_apart(classes, rows):
    """Offsets beyond 32 bits: rows 3 GB apart."""
    x, target = logits(4, (rows, classes), FLOAT32), np.arange(rows)
    way, memory, placed = 3 << 30, ptx.Memory(), Placed()
    start = 1 << 45
    copies = [row.copy() for row in x]
    outs = [np.zeros_like(row) for row in x]
    for k in range(rows):
        memory.add(copies[k], f"x{k}", at=start + k * way)
        memory.add(outs[k], f"out{k}", at=2 * start + k * way)
    placed.memory = memory
    made = plan(rows, classes, (Layout(4, start, 0, way, 4), Layout(4, 2 * start, 0, way, 4)), H200)
    losses = np.zeros(rows, np.float32)
    flags, numbers = options_of(classes)
    recipe = kernels.recipe("cross_entropy", made, SINGLE, flags=flags._replace(grad=True))
    integers = Integers(
        x=start, out=2 * start, target=placed.vector(target, np.int64, "target"), result=memory.add(losses, "losses"),
        rows=rows, inner=rows, classes=classes, x_inner=way, x_step=4, out_inner=way, out_step=4,
    )  # fmt: skip
    program = ptx.program(kernels.compiled(recipe, (9, 0)).ptx)
    ptx.launch(program, memory, made.grid, made.threads, (*integers, *map(np.float32, numbers)))
    expected = loss_of(x, target, {})
    np.testing.assert_array_equal(losses, expected.rows)
    np.testing.assert_array_equal(np.stack(outs), expected.out)

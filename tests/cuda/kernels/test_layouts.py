"""The GPU kernels on operands of any layout, also far apart in memory, executed by the interpreter of their PTX."""

import numpy as np
import pytest

from fastsoftmax.core.dtypes import FLOAT32 as SINGLE
from fastsoftmax.core.options import Flags
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import Integers
from fastsoftmax.cuda.plan import BLOCK, SCALAR, WARP, Layout, plan
from tests.cuda.kernels.forms import EACH, FLOAT32, NAMES, Case
from tests.cuda.kernels.support import H200, Lie, Placed, assert_as_reference, loss_of, options_of, run
from tests.interpreter import ptx
from tests.pairs import exhaustive_but
from tests.support import labels, logits

LIES = [
    *(Lie(offset=k) for k in range(1, 4)),
    Lie(extra=1),
    Lie(extra=4, offset=2),
    Lie(backwards=True, extra=3),
    Lie(inner=4, apart=5),
    Lie(inner=3, apart=4, offset=1),
]
APART = [Lie(step=2), Lie(step=-1), Lie(step=-3, extra=2, offset=1), Lie(step=2, inner=3, apart=7)]
SMALL = {case.form: case for case in EACH}


def checked(case, lie, *, rows=5, **how):
    """Loss and gradient of random logits against the reference."""
    x, target, options = case.drawn(rows)
    result = loss_of(x, target, options, **{**case.how, "lie": lie}, **how)
    assert result.plan.form == case.form
    assert_as_reference(x, target, options, result)
    return x, result


@pytest.mark.parametrize("lie", LIES, ids=str)
@pytest.mark.parametrize("form", [WARP, BLOCK], ids=lambda form: NAMES[form])
def test_layouts(lie, form):
    """Any start, any distance of rows: all but the ends of a row goes by whole vectors, whoever holds which element."""
    x, result = checked(SMALL[form], lie, rows=7)
    assert result.plan.vector == 4
    assert result.moved("x") == (x.nbytes, 0)


@pytest.mark.parametrize("lie", APART, ids=str)
def test_classes_apart_or_backwards(lie):
    x, result = checked(Case(FLOAT32, 201, WARP), lie, rows=7)
    assert result.plan.vector == 1
    assert result.moved("x") == (x.nbytes, 0)


@pytest.mark.parametrize(("offset", "vector"), exhaustive_but([(2, 2)], [(1, 1), (2, 2), (4, 4)]))
def test_operands_out_of_step(offset, vector):
    """Accesses are as wide as both operands allow."""
    x, result = checked(Case(FLOAT32, 1028, BLOCK), Lie(offset=offset), out_lie=Lie(extra=4))
    assert result.plan.vector == vector
    assert set(result.traffic["out"].stores) <= {4 * vector, 4}
    assert result.moved("x") == (x.nbytes, 0)


def test_one_row_many_times():
    """Logits of stride 0, as broadcasting makes them."""
    x, case = np.repeat(logits(1, (1, 1001), FLOAT32), 6, axis=0), SMALL[WARP]
    target = labels(np.random.default_rng(1), x.shape)
    result = loss_of(x, target, {}, lie=Lie(again=True), out_lie=Lie(extra=3), facts=case.facts)
    assert result.plan.form == WARP
    assert_as_reference(x, target, {}, result)


# Offsets beyond 32 bits.

WAY, START = 3 << 30, 1 << 45  # bytes from row to row, or from class to class; the first address


def far(values, name, memory, start, way):
    """Lines of a matrix `way` bytes apart, as arrays that a kernel changes."""
    lines = [line.copy() for line in values]
    for k, line in enumerate(lines):
        memory.add(line, f"{name}{k}", at=start + k * way)
    return lines


def integers_of(placed, target, losses, **more):
    """The integers of a loss kernel."""
    target = placed.vector(target, np.int64, "target")
    return Integers(target=target, result=placed.memory.add(losses, "losses"), **more)


@pytest.mark.parametrize("case", [SMALL[form] for form in (WARP, BLOCK)], ids=lambda case: case.name)
def test_rows_far_apart(case):
    x, target, _ = case.drawn(4)
    placed, losses = Placed(), np.zeros(4, np.float32)
    far(x, "x", placed.memory, START + 12, WAY)
    outs = far(np.zeros_like(x), "out", placed.memory, 2 * START + 12, WAY)
    made = plan(4, case.classes, (Layout(4, START + 12, 0, WAY, 4), Layout(4, 2 * START + 12, 0, WAY, 4)), H200)
    assert made.form == case.form
    launched(
        made, placed,
        integers_of(
            placed, target, losses, x=START + 12, out=2 * START + 12, rows=4, inner=4, classes=case.classes,
            x_inner=WAY, x_step=4, out_inner=WAY, out_step=4,
        ),
    )  # fmt: skip
    expected = loss_of(x, target, {}, lie=Lie(offset=3, extra=3))  # rows that begin alike
    np.testing.assert_array_equal(losses, expected.rows)
    np.testing.assert_array_equal(np.stack(outs), expected.out)


def launched(made, placed, integers, *, name="cross_entropy", flags=None, only=None, races=True):
    """A launch of a float32 kernel by its plan."""
    flags = flags or (Flags(hard=True, grad=True) if name == "cross_entropy" else Flags())
    recipe = recipes.recipe(name, made, SINGLE, flags=flags)
    program = ptx.program(recipes.compiled(recipe, (9, 0)).ptx)
    numbers = map(np.float32, options_of(made.items)[1])
    ptx.launch(program, placed.memory, made.grid, made.threads, (*integers, *numbers), only=only, races=races)


def test_classes_far_apart():
    """Rows side by side, and 3 GB from class to class: a matrix that is transposed."""
    x, target, _ = SMALL[SCALAR].drawn(6)
    classes = x.shape[1]
    placed, losses = Placed(), np.zeros(6, np.float32)
    far(x.T, "x", placed.memory, START, WAY)
    outs = far(np.zeros_like(x.T), "out", placed.memory, 4 * START, WAY)
    made = plan(6, classes, (Layout(4, START, 0, 4, WAY), Layout(4, 4 * START, 0, 4, WAY)), H200)
    assert made.form == SCALAR
    launched(
        made, placed,
        integers_of(
            placed, target, losses, x=START, out=4 * START, rows=6, inner=6, classes=classes,
            x_inner=4, x_step=WAY, out_inner=4, out_step=WAY,
        ),
    )  # fmt: skip
    expected = loss_of(x, target, {}, lie=Lie(major=True))
    np.testing.assert_array_equal(losses, expected.rows)
    np.testing.assert_array_equal(np.stack(outs).T, expected.out)


def test_the_last_of_as_many_rows_as_a_launch_has():
    """Two thousand million of them: the labels of the last ones lie 16 GB behind the first."""
    rows, last = (1 << 31) - 1, 3
    x, target, _ = SMALL[WARP].drawn(last)
    size = x[0].nbytes
    memory, placed, losses, partial = ptx.Memory(), Placed(), np.zeros(last, np.float32), np.zeros(1)
    placed.memory, ends = memory, np.zeros_like(x)
    first, begin = rows - last, START + 4
    memory.add(x[:1].copy(), "x of the first row", at=begin)  # which threads without a row look at
    memory.add(np.zeros(1, np.int64), "target of the first row", at=3 * START)
    memory.add(x, "x", at=begin + first * size)
    memory.add(ends, "out", at=2 * START + 4 + first * size)
    memory.add(target.astype(np.int64), "target", at=3 * START + 8 * first)
    memory.add(losses, "losses", at=4 * START + 4 * first)
    made = plan(rows, x.shape[1], (Layout(4, begin, 0, size, 4), Layout(4, 2 * START + 4, 0, size, 4)), H200)
    made = made._replace(grid=-(-rows // made.rows))
    memory.add(partial, "partial", at=5 * START + 8 * (made.grid - 1))
    integers = Integers(
        x=begin, out=2 * START + 4, target=3 * START, result=4 * START, partial=5 * START, ignore_index=-100,
        rows=rows, inner=rows, classes=x.shape[1], x_inner=size, x_step=4, out_inner=size, out_step=4,
    )  # fmt: skip
    launched(made, placed, integers, only=range(made.grid - 1, made.grid), races=False)
    expected = loss_of(x, target, {}, lie=Lie(offset=1))
    np.testing.assert_array_equal(losses, expected.rows)
    np.testing.assert_array_equal(ends, expected.out)
    assert partial[0] == expected.total


def test_products_of_rows_far_apart():
    y, g = (np.abs(logits(k, (3, 1001), FLOAT32)) for k in (1, 2))
    placed = Placed()
    for k, (values, name) in enumerate(((y, "y"), (g, "grad"))):
        far(values, name, placed.memory, (k + 1) * START, WAY)
    outs = far(np.zeros_like(y), "out", placed.memory, 3 * START, WAY)
    expected = run("vjp", y, y=g, lie=Lie(extra=3), wants_rows=False)
    layouts = tuple(Layout(4, k * START, 0, WAY, 4) for k in (1, 2, 3))
    made = expected.plan._replace(grid=plan(3, 1001, layouts, H200).grid)
    ways = {f"{name}_{what}": way for name in ("x", "y", "out") for what, way in (("inner", WAY), ("step", 4))}
    integers = Integers(x=START, y=2 * START, out=3 * START, rows=3, inner=3, classes=1001, **ways)
    launched(made, placed, integers, name="vjp")
    np.testing.assert_array_equal(np.stack(outs), expected.out)

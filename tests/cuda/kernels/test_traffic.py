"""What the GPU kernels of losses read and write.

Counted by the interpreter of PTX: bytes that threads ask for, and sectors of 32 bytes that warps ask for.  No GPU.
"""

import numpy as np
import pytest

from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SHARED, WARP
from tests.cuda.kernels.forms import BFLOAT16, EACH, FLOAT32, FLOAT64, OTHERS, Case
from tests.cuda.kernels.support import A100, Lie, loss_of
from tests.pairs import exhaustive_but
from tests.support import labels, logits

#: One of each form that holds its rows, peeled and not.
HELD = [
    *(case for case in EACH if case.form in (PART_WARP, WARP, CLUSTER)),
    Case(FLOAT32, 4096, BLOCK),
    *(case for case in OTHERS if (case.dtype, case.classes) in ((BFLOAT16, 515), (BFLOAT16, 5003), (FLOAT64, 1001))),
]
PART, LONG, CLUSTERED, ALIGNED, HALF_WARP, HALF_BLOCK, DOUBLE = HELD
STAGED, STREAMED = (case for case in EACH if case.form in (SHARED, ONLINE))
USUAL = [PART, LONG, ALIGNED, STREAMED]
held = pytest.mark.parametrize("case", exhaustive_but(USUAL, HELD), ids=lambda case: case.name)
LIMIT = 1.02  # of the bytes that must be moved


def drawn(case):
    n = 40 if case.classes < 100 else 9 if case.classes < 2000 else 3
    return logits(case.classes, (n, case.classes), case.dtype), labels(np.random.default_rng(0), (n, case.classes))


def moved(result, *names):
    """Bytes that threads have read and written, of some operands."""
    return sum(sum(result.moved(name)) for name in names)


@held
@pytest.mark.parametrize("in_place", [False, True])
def test_a_row_that_is_held_is_read_once_and_written_once(case, in_place):
    x, target = drawn(case)
    result = loss_of(x, target, {}, **case.how, in_place=in_place)
    assert result.plan.form == case.form
    assert moved(result, "x", "out") <= LIMIT * 2 * x.nbytes
    assert result.moved("x")[0] == x.nbytes  # and not a byte less: none is left out


@pytest.mark.parametrize(
    "case",
    exhaustive_but(USUAL, [PART, HALF_WARP, DOUBLE, CLUSTERED, STAGED, STREAMED]),
    ids=lambda case: case.name,
)
def test_without_a_gradient_nothing_is_written_but_losses(case):
    """And they are the same to the last bit."""
    x, target = drawn(case)
    result, both = (loss_of(x, target, {}, **case.how, grad=grad) for grad in (False, True))
    assert result.plan.form == case.form
    assert moved(result, "x") <= (1 if case.form == ONLINE else LIMIT) * x.nbytes
    stored = {name: traffic.stored for name, traffic in result.traffic.items() if traffic.stored}
    assert stored == {"rows": result.rows.nbytes, "partial": 8 * result.plan.grid}
    np.testing.assert_array_equal(result.rows, both.rows)
    assert result.total == both.total
    assert result.out is None


def test_a_row_that_is_not_held_is_read_twice():
    x, target = logits(1, (2, 70001), FLOAT32), labels(np.random.default_rng(0), (2, 70001))
    result = loss_of(x, target, {}, facts=A100)
    assert result.plan.form == ONLINE
    assert result.moved("x")[0] <= LIMIT * 2 * x.nbytes
    assert result.moved("out") == (0, x.nbytes)


def test_a_row_in_shared_memory_is_read_once():
    """Its ends, of less than a vector each, twice."""
    x, target = drawn(STAGED)
    result = loss_of(x, target, {}, **STAGED.how)
    assert result.plan.form == SHARED
    assert moved(result, "x", "out") <= LIMIT * 2 * x.nbytes


@pytest.mark.parametrize(
    "case", exhaustive_but(USUAL, [ALIGNED, Case(BFLOAT16, 2048, WARP)]), ids=lambda case: case.name
)
def test_the_sectors_of_aligned_rows(case):
    """What neighbouring threads ask for lies side by side, and labels and losses are next to nothing."""
    n = 8
    x = logits(case.classes, (n, case.classes), case.dtype)
    result = loss_of(x, labels(np.random.default_rng(0), x.shape), {})
    assert result.plan.form == case.form
    sectors = {name: traffic.load_sectors + traffic.store_sectors for name, traffic in result.traffic.items()}
    assert 32 * (sectors["x"] + sectors["out"]) == 2 * x.nbytes
    assert 32 * sum(sectors.values()) <= LIMIT * 2 * x.nbytes


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("case", exhaustive_but(USUAL, [LONG, HALF_BLOCK]), ids=lambda case: case.name)
def test_all_but_a_head_and_a_tail_goes_by_16_bytes(case, offset):
    x, target = drawn(case)
    result = loss_of(x, target, {}, lie=Lie(offset=offset))
    size = case.dtype.itemsize
    vector = 16 // size
    for accesses in (result.traffic["x"].loads, result.traffic["out"].stores):
        assert set(accesses) == {16, size}
        assert accesses[size] <= len(x) * 2 * (vector - 1)
        assert 16 * accesses[16] + size * accesses[size] == x.nbytes

"""What the GPU kernels read and write, and that kernels which are wrong in one place do not pass the tests.

Counted by the interpreter of PTX: bytes that threads ask for, and sectors of 32 bytes that warps ask for.  No GPU.
"""

import numpy as np
import ptx
import ptx_mutants
import pytest
import support_cuda  # noqa: F401  skips where numba-cuda is not installed
from support import labels, logits
from support_kernels import A100, KINDS, Lie, assert_as_reference, loss_of, run

from fastsoftmax.plan_cuda import BLOCK, CLUSTER, ONLINE, PART_WARP, WARP

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (KINDS[k] for k in range(4))
#: (dtype, rows, classes, form): one of each form that holds its rows, peeled and not.
HELD = [
    (FLOAT32, 40, 10, PART_WARP),
    (FLOAT32, 9, 1001, WARP),
    (BFLOAT16, 9, 515, WARP),
    (FLOAT32, 5, 4096, BLOCK),
    (BFLOAT16, 5, 5003, BLOCK),
    (FLOAT64, 5, 1001, BLOCK),
    (FLOAT32, 2, 60000, CLUSTER),
]
held = pytest.mark.parametrize(
    ("dtype", "n", "classes", "form"), HELD, ids=[f"{dtype}-{classes}" for dtype, _, classes, _ in HELD]
)
LIMIT = 1.02  # of the bytes that must be moved


def moved(result, *names):
    """Bytes that threads have read and written, of some operands."""
    return sum(sum(result.moved(name)) for name in names)


@held
@pytest.mark.parametrize("in_place", [False, True])
def test_a_row_that_is_held_is_read_once_and_written_once(dtype, n, classes, form, in_place):
    x, target = logits(classes, (n, classes), dtype), labels(np.random.default_rng(0), (n, classes))
    result = loss_of(x, target, {}, in_place=in_place)
    assert result.plan.form == form
    assert moved(result, "x", "out") <= LIMIT * 2 * x.nbytes
    assert result.moved("x")[0] == x.nbytes  # and not a byte less: none is left out


@held
def test_without_a_gradient_nothing_is_written_but_losses(dtype, n, classes, form):
    x, target = logits(classes, (n, classes), dtype), labels(np.random.default_rng(0), (n, classes))
    result = loss_of(x, target, {}, grad=False)
    assert result.plan.form == form
    assert moved(result, "x") <= LIMIT * x.nbytes
    stored = {name: traffic.stored for name, traffic in result.traffic.items() if traffic.stored}
    assert stored == {"rows": result.rows.nbytes, "partial": 8 * result.plan.grid}


def test_a_row_that_is_not_held_is_read_twice():
    x, target = logits(1, (2, 70001), FLOAT32), labels(np.random.default_rng(0), (2, 70001))
    result = loss_of(x, target, {}, facts=A100)
    assert result.plan.form == ONLINE
    assert result.moved("x")[0] <= LIMIT * 2 * x.nbytes
    assert result.moved("out") == (0, x.nbytes)


@pytest.mark.parametrize(("dtype", "classes"), [(FLOAT32, 4096), (BFLOAT16, 8192)])
def test_the_sectors_of_aligned_rows(dtype, classes):
    """What neighbouring threads ask for lies side by side, and labels and losses are next to nothing."""
    n = 8
    x, target = logits(classes, (n, classes), dtype), labels(np.random.default_rng(0), (n, classes))
    result = loss_of(x, target, {})
    sectors = {name: traffic.load_sectors + traffic.store_sectors for name, traffic in result.traffic.items()}
    assert 32 * (sectors["x"] + sectors["out"]) == 2 * x.nbytes
    assert 32 * sum(sectors.values()) <= LIMIT * 2 * x.nbytes


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize(("dtype", "n", "classes"), [(FLOAT32, 9, 1001), (BFLOAT16, 5, 5003)])
def test_all_but_a_head_and_a_tail_goes_by_16_bytes(dtype, n, classes, offset):
    x, target = logits(classes, (n, classes), dtype), labels(np.random.default_rng(0), (n, classes))
    result = loss_of(x, target, {}, lie=Lie(offset=offset))
    vector = 16 // dtype.itemsize
    for accesses in (result.traffic["x"].loads, result.traffic["out"].stores):
        assert set(accesses) == {16, dtype.itemsize}
        assert accesses[dtype.itemsize] <= n * 2 * (vector - 1)
        assert 16 * accesses[16] + dtype.itemsize * accesses[dtype.itemsize] == x.nbytes


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_the_traffic_of_maps(variant):
    x = logits(3, (9, 1001), FLOAT32)
    result = run("softmax", x, variant=variant)
    assert result.moved("x") == (x.nbytes, 0)
    assert result.moved("out") == ((0, x.nbytes) if variant < 2 else (0, 0))


def spread(dtype, n, classes):
    """Every second row has a logit so large that no other one will do as the shift of the exponentials."""
    random = np.random.default_rng(classes)
    x = random.standard_normal((n, classes))
    x[np.arange(0, n, 2), random.integers(0, classes, (n + 1) // 2)] += 2000 if dtype == FLOAT64 else 200
    target = random.integers(0, classes, n)
    target[0] = classes - 1
    return x.astype(dtype), target


def survivors(mutants, dtype, n, classes, **how):
    """What was changed where neither values nor checks of memory told it."""
    x, target = spread(dtype, n, classes)
    left, count = [], 0
    texts = []
    right = loss_of(x, target, {}, ptx_of=lambda compiled: texts.append(compiled.ptx) or compiled.ptx, **how)
    assert_as_reference(x, target, {}, right)
    for what, text in mutants(texts[0]):
        count += 1
        try:
            wrong = loss_of(x, target, {}, ptx_of=lambda _, text=text: text, **how)
            assert_as_reference(x, target, {}, wrong)
            left.append(what)
        except (ptx.PtxError, AssertionError):
            pass
    return left, count


MUTANTS = {
    "barriers": (ptx_mutants.without_barriers, 1),
    "guards": (ptx_mutants.with_inverted_guards, 5),
    "shuffles": (ptx_mutants.with_other_shuffles, 5),
}


@pytest.mark.parametrize("kind", MUTANTS)
@pytest.mark.parametrize(
    ("dtype", "n", "classes", "how"),
    [
        (FLOAT32, 200, 10, {"change": {"grid": 1}}),  # several rows a thread, whose sum has something to compensate
        (FLOAT32, 20, 1001, {"change": {"grid": 1}}),
        (BFLOAT16, 12, 5003, {"change": {"grid": 3}}),
        (FLOAT32, 8, 60000, {}),
        (FLOAT32, 8, 70001, {"facts": A100}),
    ],
    ids=["part of a warp", "warp", "block", "cluster", "online"],
)
def test_kernels_that_are_wrong_in_one_place_fail(kind, dtype, n, classes, how):
    mutants, least = MUTANTS[kind]
    left, count = survivors(mutants, dtype, n, classes, **how)
    assert count >= least
    assert not left

"""The plan of GPU kernels at every border between forms: a pure function, tested without a GPU or its packages."""

import pytest

from fastsoftmax.core.options import Flags
from fastsoftmax.cuda.plan import (
    BLOCK,
    CLUSTER,
    ONLINE,
    PART_WARP,
    RESERVED,
    SCALAR,
    SHARED,
    WARP,
    Burden,
    Layout,
    burden_of,
    count_blocks,
    plan,
    vectors,
)

H200 = (132, 232448, True)
A100 = (108, 166912, False)
MANY = 1 << 20  # rows


def rows_of(classes, itemsize, *, extra=0, offset=0, copies=2):
    """Layouts of arrays with contiguous classes: rows `extra` elements apart, `offset` past an aligned start."""
    return (Layout(itemsize, 256 + offset * itemsize, 0, (classes + extra) * itemsize, itemsize),) * copies


def planned(classes, itemsize, facts=H200, rows=MANY, **layout):
    return plan(rows, classes, rows_of(classes, itemsize, **layout), facts)


@pytest.mark.parametrize(
    ("itemsize", "classes", "form", "group", "items", "vector"),
    [
        (4, 1, PART_WARP, 1, 1, 1),
        (4, 2, PART_WARP, 1, 1, 2),
        (4, 3, PART_WARP, 4, 1, 1),
        (4, 4, PART_WARP, 1, 1, 4),
        (4, 5, PART_WARP, 4, 2, 1),
        (4, 10, PART_WARP, 4, 2, 2),
        (4, 32, PART_WARP, 8, 1, 4),
        (4, 63, PART_WARP, 16, 4, 1),
        (4, 65, WARP, 32, 1, 4),
        (4, 128, PART_WARP, 16, 2, 4),
        (4, 256, PART_WARP, 16, 4, 4),
        (4, 260, WARP, 32, 3, 4),
        (4, 1024, WARP, 32, 8, 4),
        (4, 1028, BLOCK, 128, 3, 4),
        (4, 2048, BLOCK, 128, 4, 4),
        (4, 2052, BLOCK, 256, 3, 4),
        (4, 8192, BLOCK, 512, 4, 4),
        (4, 8196, BLOCK, 512, 5, 4),
        (4, 16384, BLOCK, 512, 8, 4),
        (2, 512, PART_WARP, 16, 4, 8),
        (2, 520, WARP, 32, 3, 8),
        (2, 2048, WARP, 32, 8, 8),
        (2, 2056, BLOCK, 128, 3, 8),
        (2, 32768, BLOCK, 512, 8, 8),
        (8, 512, WARP, 32, 8, 2),
        (8, 514, BLOCK, 128, 3, 2),
        (8, 8192, BLOCK, 512, 8, 2),
    ],
)
def test_who_holds_a_row(itemsize, classes, form, group, items, vector):
    for facts in (H200, A100):
        made = planned(classes, itemsize, facts)
        assert (made.form, made.group, made.items, made.vector) == (form, group, items, vector)
        assert made.threads == max(128, group)
        assert made.rows * made.group == made.threads
        assert (made.cluster, made.shared) == (1, 0)


@pytest.mark.parametrize(
    ("classes", "form", "threads", "items", "cluster"),
    [
        (16388, CLUSTER, 512, 5, 2),
        (32768, CLUSTER, 512, 8, 2),
        (32772, CLUSTER, 512, 5, 4),
        (131072, CLUSTER, 512, 8, 8),
    ],
)
def test_long_rows_with_clusters(classes, form, threads, items, cluster):
    made = planned(classes, 4)
    assert (made.form, made.threads, made.items, made.cluster) == (form, threads, items, cluster)
    assert made.grid % made.cluster == made.shared == 0


MOST_STAGED = 28 * 512 * 8 * 4  # classes of float32: 28 rounds of 512 vectors fit into the shared memory of each block


@pytest.mark.parametrize(("classes", "rounds"), [(131076, 9), (147456, 9), (147460, 10), (MOST_STAGED, 28)])
def test_longer_rows_in_the_shared_memory_of_clusters(classes, rounds):
    """A block keeps whole rounds of all its threads, and a row is read once still."""
    made = planned(classes, 4)
    assert (made.form, made.threads, made.items, made.cluster) == (CLUSTER, 512, 4, 8)
    assert made.shared == rounds * 512 * 16
    assert made.shared + RESERVED <= H200[1]
    assert planned(2 * classes, 2)._replace(vector=4, grid=0) == made._replace(grid=0)


def test_rows_that_no_cluster_holds():
    made = planned(MOST_STAGED + 4, 4)
    assert (made.form, made.threads, made.items, made.cluster, made.shared) == (ONLINE, 512, 4, 1, 0)
    small = plan(MANY, 131076, rows_of(131076, 4), (2, 8192, True))
    assert (small.form, small.cluster) == (ONLINE, 1)


LARGEST = (A100[1] - RESERVED) // 16 * 4  # classes of float32 that fit into shared memory


@pytest.mark.parametrize(
    ("classes", "form", "threads", "items"),
    [
        (16384, BLOCK, 512, 8),
        (16388, SHARED, 512, 4),
        (LARGEST, SHARED, 512, 4),
        (LARGEST + 4, ONLINE, 512, 4),
    ],
)
def test_long_rows_without_clusters(classes, form, threads, items):
    made = planned(classes, 4, A100)
    assert (made.form, made.threads, made.items, made.cluster) == (form, threads, items, 1)
    assert made.shared == (classes * 4 if form == SHARED else 0)
    assert made.shared <= A100[1]


def test_shared_memory_holds_narrow_vectors():
    """A half alone takes a word there."""
    strided = (Layout(2, 0, 0, 1 << 20, 4),)
    made = plan(4, 40000, strided, A100)
    assert (made.form, made.vector, made.shared) == (SHARED, 1, 160000)
    assert plan(4, 41217, strided, A100).form == ONLINE


def test_vectors():
    """(whole, peeled): what divides every address, stride and the row's length; what all operands' phases share."""
    assert vectors(rows_of(1000, 4), 1000) == (4, 4)
    assert vectors(rows_of(1001, 4), 1001) == (1, 4)
    assert vectors(rows_of(1002, 4), 1002) == (2, 4)
    assert vectors(rows_of(1000, 2), 1000) == (8, 8)
    assert vectors(rows_of(1000, 8), 1000) == (2, 2)
    assert vectors(rows_of(1000, 4, offset=1), 1000) == (1, 4)
    assert vectors(rows_of(1000, 4, extra=2), 1000) == (2, 4)
    x, out = rows_of(1000, 4, offset=1, copies=1), rows_of(1000, 4, copies=1)
    assert vectors(x + out, 1000) == (1, 1)
    assert vectors(rows_of(1000, 4, offset=2, copies=1) + out, 1000) == (2, 2)
    assert vectors(rows_of(1000, 4, extra=1, copies=1) + out, 1000) == (1, 1)
    assert vectors((Layout(4, 0, 0, 8000, 8),), 1000) == (1, 1)
    assert vectors((Layout(4, 0, 0, -4000, 4),), 1000) == (4, 4)
    # Operands of different sizes agree in elements: 8 of bfloat16 are two accesses of float32.
    assert vectors(rows_of(1000, 2, copies=1) + rows_of(1000, 4, copies=1), 1000) == (8, 8)
    assert vectors(rows_of(1000, 2, copies=1) + rows_of(1000, 4, offset=4, copies=1), 1000) == (4, 4)


def test_rows_are_peeled_where_that_widens_accesses():
    assert planned(1000, 4).peeled is False
    for layout in ({"offset": 1}, {"extra": 1}):
        made = planned(1000, 4, **layout)
        assert (made.form, made.vector, made.items, made.peeled) == (WARP, 4, 8, True)
    assert planned(1001, 2).peeled is True
    narrow = plan(MANY, 1000, rows_of(1000, 4, offset=1, copies=1) + rows_of(1000, 4, copies=1), H200)
    assert (narrow.form, narrow.vector, narrow.peeled) == (BLOCK, 1, False)


def test_rows_side_by_side():
    """Class-major input: a thread a row, which it keeps while there are few classes."""
    side = (Layout(4, 0, 0, 4, 4 * MANY),) * 2
    made = plan(MANY, 32, side, H200)
    assert (made.form, made.group, made.items, made.vector) == (PART_WARP, 1, 32, 1)
    made = plan(MANY, 33, side, H200)
    assert (made.form, made.group, made.items, made.vector) == (SCALAR, 1, 8, 1)
    assert plan(MANY, 33, (side[0], rows_of(33, 4)[0]), H200).form == PART_WARP
    backwards = (Layout(4, 0, 0, -4, 4 * MANY),)
    assert plan(MANY, 33, backwards, H200).form == SCALAR


def test_grid():
    """Every row has a block, until a GPU is full several times over."""
    assert planned(10, 4, rows=1).grid == 1
    assert planned(10, 4, rows=32).grid == 1
    assert planned(10, 4, rows=33).grid == 2
    assert planned(10, 4, rows=1 << 30).grid == 132 * 4 * 8
    assert planned(8192, 4, rows=1 << 30).grid == 132 * 4 * 2
    assert planned(65536, 4, rows=3).grid == 12
    assert planned(65536, 4, rows=1 << 30).grid == 132 * 4
    assert planned(300000, 4, rows=5).grid == 40
    assert planned(600000, 4, rows=5).grid == 5


def test_count_blocks():
    """One launch up to where a block would be slower than two."""
    assert [count_blocks(n) for n in (0, 1, 32767, 32768, 1 << 22, 1 << 30)] == [1, 1, 1, 2, 256, 256]


@pytest.mark.parametrize(
    ("classes", "form", "threads", "items", "cluster"),
    [
        (128, PART_WARP, 128, 2, 1),
        (132, WARP, 128, 2, 1),
        (512, WARP, 128, 4, 1),
        (516, BLOCK, 128, 2, 1),
        (8192, BLOCK, 512, 4, 1),
        (8196, CLUSTER, 512, 3, 2),
        (65536, CLUSTER, 512, 4, 8),
        (65540, CLUSTER, 512, 4, 8),
        (MOST_STAGED // 2, CLUSTER, 512, 4, 8),
        (MOST_STAGED // 2 + 4, ONLINE, 512, 4, 1),
    ],
)
def test_two_operands_take_twice_the_registers(classes, form, threads, items, cluster):
    made = plan(MANY, classes, rows_of(classes, 4, copies=3), H200, burden_of("vjp"))
    assert (made.form, made.threads, made.items, made.cluster) == (form, threads, items, cluster)
    side = (Layout(4, 0, 0, 4, 4 * MANY),) * 3
    assert [plan(MANY, k, side, H200, burden_of("vjp")).form for k in (16, 17)] == [PART_WARP, SCALAR]


HARD, SOFT = Flags(hard=True), Flags(soft=True)


@pytest.mark.parametrize(
    ("flags", "wide", "registers"),
    [
        (HARD, False, 1),
        (HARD._replace(weighted=True, z_loss=True, focal=True, temper=True, factors=True, grad=True), False, 1),
        (HARD._replace(cap=True), False, 2),
        (HARD._replace(smooth=True), False, 2),
        (HARD._replace(smooth=True, cap=True), False, 4),
        (SOFT, False, 2),
        (SOFT, True, 4),
        (SOFT._replace(cap=True), False, 4),
        (SOFT._replace(cap=True), True, 4),
    ],
)
def test_what_options_take(flags, wide, registers):
    """A thread holds fewer vectors, at most so many that its registers are those of a plain loss."""
    burden = burden_of("cross_entropy", flags, wide=wide)
    assert burden == Burden(registers)
    most = 8 // registers
    for classes, form, threads, items, cluster in (
        (32 * 4 * most, WARP, 128, most, 1),
        (512 * 4 * most, BLOCK, 512, most, 1),
        (512 * 4 * most + 4, CLUSTER, 512, most // 2 + 1, 2),
        (8 * 512 * 4 * most, CLUSTER, 512, most, 8),
        (8 * 512 * 4 * most + 4, CLUSTER, 512, 4 if registers == 1 else 2, 8),
        (MOST_STAGED, CLUSTER, 512, 4 if registers == 1 else 2, 8),
        (MOST_STAGED + 4, ONLINE, 512, 4 if registers == 1 else 2, 1),
    ):
        made = plan(MANY, classes, rows_of(classes, 4), H200, burden)
        assert (made.form, made.threads, made.items, made.cluster) == (form, threads, items, cluster)


def test_softmax_asks_for_no_more_than_a_plain_loss():
    assert burden_of("softmax") == Burden()
    assert burden_of("vjp") == Burden(2, product=True)


@pytest.mark.parametrize(
    ("itemsize", "classes", "flags", "threads", "older"),
    [
        (4, 256, HARD, 1024, 768),
        (4, 512, HARD, 1024, 768),
        (4, 516, HARD, 768, 512),
        (4, 8192, HARD, 1024, 512),
        (4, 8196, HARD, 512, 512),
        (4, 131072, HARD, 512, 512),
        (4, 300000, HARD, 1024, 512),
        (4, 64, HARD._replace(cap=True), 1024, 768),
        (4, 512, HARD._replace(cap=True), 512, 512),
        (4, 300000, HARD._replace(cap=True), 1024, 512),
        (8, 128, HARD, 512, 512),
        (8, 8192, HARD, 512, 512),
    ],
)
def test_threads_that_have_registers(itemsize, classes, flags, threads, older):
    """A kernel is compiled so that a multiprocessor has room for as many threads as the grid is laid out for."""
    for facts, expected in ((H200, threads), (A100, older)):
        made = plan(1 << 30, classes, rows_of(classes, itemsize), facts, burden_of("cross_entropy", flags))
        assert made.resident * made.threads == expected
        assert made.grid == facts[0] * 4 * made.resident // made.cluster * made.cluster
    product = plan(MANY, 4096, rows_of(4096, 4, copies=3), H200, burden_of("vjp"))
    assert product.resident * product.threads == 1024


def test_divergences_hold_two_rows():
    """As products do, but with registers for what is computed of them; of float64 half as much."""
    burden = burden_of("divergence")
    assert burden == Burden(2, two=True)
    assert burden_of("divergence", wide=True) == Burden(4, wide=True, two=True)
    for classes in (100_000, 200_000):
        made, product = (
            plan(MANY, classes, rows_of(classes, 4, copies=3), H200, burden_of(name)) for name in ("divergence", "vjp")
        )
        assert (made.form, made.cluster, made.shared) == (product.form, product.cluster, product.shared)
        assert made.items * made.resident * made.threads <= 1024
    for itemsize, facts, most in ((4, H200, 4), (8, H200, 2), (4, A100, 2), (8, A100, 2)):
        made = (plan(MANY, k, rows_of(k, itemsize, copies=3), facts, burden) for k in range(4, 16000, 60))
        assert max(one.items for one in made if not one.shared) <= most


@pytest.mark.parametrize(("itemsize", "room"), [(2, 4), (4, 4), (8, 8)])
def test_adjusted_logits_are_kept_in_the_computing_dtype(itemsize, room):
    """Half types take twice the shared memory; and twice the registers, as what adjusts them has to be there too."""
    burden = burden_of("cross_entropy", Flags(hard=True, grad=True, adjusted=True, mask=True))
    assert burden == Burden(2, computed=True)
    classes = 32000 * 4 // room
    made = plan(MANY, classes, rows_of(classes, itemsize), A100, burden)
    assert (made.form, made.shared) == (SHARED, classes * room)
    longer = plan(MANY, 2 * classes, rows_of(2 * classes, itemsize), A100, burden)
    assert (longer.form, longer.shared) == (ONLINE, 0)

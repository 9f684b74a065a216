"""Which kernel runs on a GPU, with how many threads: pure heuristics on hashable descriptions, without Numba.

A plan depends on shapes, strides modulo 16, and what the GPU is; never on data.  The pieces that losses are summed by
follow from it, and so do the results, bit by bit.
"""

from typing import NamedTuple

# Who works on a row, and where it is kept meanwhile: a thread, a part of a warp or a warp, in registers; a block, in
# registers; a block, in shared memory; a cluster of blocks, in registers; nobody keeps it, and it is read twice.
SCALAR, PART_WARP, WARP, BLOCK, SHARED, CLUSTER, ONLINE = range(7)

VECTOR_BYTES = 16  # the widest access
WARP_SIZE = 32
THREADS = 128  # of a block whose warps work on rows of their own
FEWEST, WIDE = 64, 512  # threads of a block that works on one row: 1024 could have 64 registers, and spill some of them
FEW_ITEMS = 4  # vectors a thread holds while there may be more threads
ITEMS = 8  # vectors a thread holds at most: 32 of the 128 registers that 512 threads can have
CLASSES_A_THREAD = 32  # classes that one thread keeps of rows that lie side by side
CLUSTER_BLOCKS = 8  # the most that every GPU with clusters has
UNROLLED = 4  # vectors a thread reads before it uses the first, of rows that nobody keeps
STREAMING = 512  # threads of a block that does not keep its row in registers
RESERVED = 2048  # bytes of shared memory that are not the row's
WAVES = 4  # times that a multiprocessor is filled with blocks; rows beyond that come to blocks that are there
COUNTED = 1 << 14  # labels that a block counts, so that most calls need one launch
COUNTING_BLOCKS = 256
RESIDENT = 2048  # threads of a multiprocessor


class Layout(NamedTuple):
    """How an operand's rows lie in memory: all that a plan looks at.  Strides of axes of length 1 are given as 0."""

    itemsize: int
    address: int  # or the address modulo 16
    outer: int  # bytes from row to row, on two levels
    inner: int
    step: int  # bytes from class to class


class Plan(NamedTuple):
    """How the work is laid out on a GPU."""

    form: int
    threads: int  # of a block
    group: int  # threads of a block that work on the same row
    rows: int  # that a block works on at a time
    items: int  # vectors a thread keeps, or reads at a time
    vector: int  # elements of an access
    peeled: bool  # rows begin and end in the midst of a vector
    grid: int  # blocks, those of clusters all counted
    shared: int = 0  # bytes of dynamic shared memory
    cluster: int = 1  # blocks that work on the same row


def _power(n: int) -> int:
    """The least power of 2 that is not less than n."""
    return 1 << max(0, n - 1).bit_length()


def _widest(layouts: tuple[Layout, ...], quantities: list[int], *, also: int = 0) -> int:
    """Elements of the widest access that all `quantities` (and `also`) are multiples of."""
    width = VECTOR_BYTES // layouts[0].itemsize
    while width > 1 and any(q % width for q in (*quantities, also)):
        width //= 2
    return width


def vectors(layouts: tuple[Layout, ...], classes: int) -> tuple[int, int]:
    """Elements of an access: if each row begins and ends with a whole one, and if the ends may be peeled off.

    An address belongs to an element: the kernels take no others.
    """
    if any(a.step != a.itemsize for a in layouts):
        return 1, 1
    first = layouts[0]
    places = [[a.address // a.itemsize, a.outer // a.itemsize, a.inner // a.itemsize] for a in layouts]
    whole = _widest((first,), [q for place in places for q in place], also=classes)
    apart = [q - p for place in places[1:] for q, p in zip(place, places[0], strict=True)]
    return whole, _widest((first,), apart)


def _side_by_side(layouts: tuple[Layout, ...]) -> bool:
    """Whether rows are closer together in memory than classes, in every operand."""
    return all(0 < abs(a.inner or a.outer) < abs(a.step) for a in layouts)


def _grid(rows: int, at_once: int, threads: int, cluster: int, multiprocessors: int) -> int:
    """Blocks for all rows, but not more than fill the GPU a few times."""
    most = max(1, multiprocessors * WAVES * (RESIDENT // threads) // cluster)
    return min(-(-rows // at_once), most) * cluster


def plan(rows: int, classes: int, layouts: tuple[Layout, ...], facts: tuple[int, int, bool], held: int = 1) -> Plan:
    """Lay out `rows` rows of `classes` logits.

    Parameters
    ----------
    rows, classes
        Both at least 1.
    layouts : tuple of Layout
        The logits' first, then those of the second operand and of the output, where there are such.
    facts
        Of the GPU: multiprocessors, bytes of shared memory that a block can ask for, whether it has clusters.
    held
        Operands that threads hold: 2 for products.

    Returns
    -------
    Plan
        The form of kernel and its constants.
    """
    whole, peelable = vectors(layouts, classes)
    few = _few(classes, whole, layouts, held)
    if few is not None:
        group, items, vector = few
        form = SCALAR if items == 0 else PART_WARP
        return _laid(form, rows, group, items or ITEMS, vector, False, facts)
    vector = max(whole, peelable)
    peeled = vector > whole
    return _long(rows, -(-classes // vector), layouts, vector, peeled, facts, held)


def count_blocks(rows: int) -> int:
    """Blocks for the weights of `rows` rows; more than one write partial sums that are added up afterwards."""
    return max(1, min(COUNTING_BLOCKS, rows // COUNTED))


def _few(classes: int, vector: int, layouts: tuple[Layout, ...], held: int) -> tuple[int, int, int] | None:
    """(threads a row, vectors a thread, elements a vector) where a row takes less than a warp; None where it does not.

    No vectors: a thread reads its row twice.
    """
    if _side_by_side(layouts):
        return (1, classes if held * classes <= CLASSES_A_THREAD else 0, 1)
    n = -(-classes // vector)
    if n > 2 * WARP_SIZE:
        return None
    group = min(WARP_SIZE // 2, _power(n))
    if 4 * n < 3 * group:  # too many idle threads
        group //= 2
    return group, -(-n // group), vector


def _long(
    rows: int, n: int, layouts: tuple[Layout, ...], vector: int, peeled: bool, facts: tuple[int, int, bool], held: int
) -> Plan:
    """A row of `n` vectors takes a warp or more."""
    _, shared, clusters = facts
    most = ITEMS // held
    if n <= WARP_SIZE * most:
        return _laid(WARP, rows, WARP_SIZE, -(-n // WARP_SIZE), vector, peeled, facts)
    threads = max(FEWEST, min(WIDE, _power(-(-n * held // FEW_ITEMS))))
    blocks = 1
    if n > threads * most and clusters:
        blocks = min(CLUSTER_BLOCKS, _power(-(-n // (threads * most))))
    if n <= blocks * threads * most:
        form, items = (CLUSTER if blocks > 1 else BLOCK), -(-n // (blocks * threads))
        return _laid(form, rows, threads, items, vector, peeled, facts, cluster=blocks)
    size = n * max(4, vector * layouts[0].itemsize)  # no vector takes less than a word
    if size + RESERVED <= shared and held == 1:
        return _laid(SHARED, rows, STREAMING, UNROLLED, vector, peeled, facts, shared=size)
    return _laid(ONLINE, rows, STREAMING, UNROLLED, vector, peeled, facts)


def _laid(
    form: int,
    rows: int,
    group: int,
    items: int,
    vector: int,
    peeled: bool,
    facts: tuple[int, int, bool],
    *,
    shared: int = 0,
    cluster: int = 1,
) -> Plan:
    """A plan from what was decided."""
    threads = max(THREADS, group) if group <= WARP_SIZE else group
    at_once = threads // group
    grid = _grid(rows, at_once, threads, cluster, facts[0])
    return Plan(form, threads, group, at_once, items, vector, peeled, grid, shared, cluster)

"""The choice of a kernel on a GPU and of its threads: pure heuristics on hashable descriptions, without Numba.

A plan depends on shapes, strides modulo 16, and the GPU; never on data.  The blocks that losses are summed by follow
from it, and so do the results, bit by bit.
"""

from typing import NamedTuple

from ..core.options import Flags

# Forms of kernels, by the threads that work on a row and the place that keeps it meanwhile: a thread, a part of a warp
# or a warp, in registers; a block, in registers; a block, in shared memory; a cluster of blocks, in registers or shared
# memory; a block without a place for it, which reads it twice.
SCALAR, PART_WARP, WARP, BLOCK, SHARED, CLUSTER, ONLINE = range(7)

VECTOR_BYTES = 16  # the widest access
WARP_SIZE = 32
WIDEST_ITEM = 8  # bytes of float64
THREADS = 128  # of a block whose warps work on rows of their own
FEWEST, WIDE = 64, 512  # threads of a block that works on one row: 1024 could have 64 registers, and spill some of them
FEW_ITEMS = 4  # vectors a thread holds while there may be more threads
ITEMS = 8  # vectors a thread holds at most, where a logit takes no more than its own registers
CLASSES_A_THREAD = 32  # classes that one thread keeps of rows that lie side by side
CLUSTER_BLOCKS = 8  # the most that every GPU with clusters has
UNROLLED = 4  # vectors a thread reads before it uses the first, of rows that it does not keep
WINDOW = 16  # classes a thread between two barriers, where a teacher lists some
STREAMING = 512  # threads of a block that does not keep its row in registers
RESERVED = 2048  # bytes of shared memory that are not the row's
WAVES = 4  # times that a multiprocessor is filled with blocks; rows beyond that come to blocks that are there
COUNTED = 1 << 14  # labels that a block counts, so that most calls need one launch
COUNTING_BLOCKS = 256
RESIDENT, FULL, WIDEST = 1024, 768, 512  # threads that a multiprocessor has 64, 80 and 128 registers for


class Layout(NamedTuple):
    """The place of an operand's rows in memory, as far as plans depend on it.  Strides of axes of length 1 are 0."""

    itemsize: int
    address: int  # or the address modulo 16
    outer: int  # bytes from row to row, on two levels
    inner: int
    step: int  # bytes from class to class


class Plan(NamedTuple):
    """The layout of the work on a GPU."""

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
    resident: int = 1  # blocks that a multiprocessor has registers for


class Burden(NamedTuple):
    """The demands of a kernel on its plan."""

    registers: int = 1  # a power of 2: how many times those of a plain loss a logit takes
    product: bool = False  # it has two operands, of which little is computed
    wide: bool = False  # the second of which takes twice the first one's room
    two: bool = False  # it keeps both operands, and much is computed of them
    computed: bool = False  # logits are kept in the computing dtype

    @property
    def unrolled(self) -> int:
        """Vectors a thread reads before it uses the first, of rows that it does not keep."""
        return UNROLLED if self.product or self.registers == 1 else UNROLLED // 2


PLAIN = Burden()


def burden_of(kernel: str, flags: Flags = Flags(), *, wide: bool = False) -> Burden:  # noqa: B008
    """The demands of a kernel on its plan.

    Products hold two operands, as losses of soft targets do, the second of which may be twice as `wide`.  Smoothing
    needs the weights of classes besides, the gradient of statistics distances, statistics themselves an order and
    counts; a softcap needs the logits and what became of them, as adjustments do.  Divergences hold two rows, of which
    much is computed.
    """
    product, two = kernel in ("vjp", "weighted"), kernel == "divergence"
    second = product or two or flags.soft or flags.smooth or flags.upstream or kernel == "statistics"
    registers = (2 if second else 1) * (2 if flags.cap or flags.adjusted else 1)
    several = wide and (product or two or flags.soft)
    return Burden(max(registers, 4 if several else 1), product, (product or two) and wide, two, flags.adjusted)


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
    """Whether rows are closer together in memory than classes, in every operand but later ones that are broadcast."""
    ways = [(abs(a.inner or a.outer), abs(a.step)) for a in layouts]
    return all(0 < row < step for row, step in (ways[0], *(way for way in ways[1:] if all(way))))


def _resident(items: int, itemsize: int, burden: Burden, *, held: bool, clusters: bool) -> int:
    """Threads that a multiprocessor has registers for: a kernel is compiled to have no more than their share."""
    if itemsize == WIDEST_ITEM:
        return WIDEST
    few = not held or items * burden.registers <= FEW_ITEMS
    if not clusters or (burden.two and not held):  # the assembler takes some registers more
        return FULL if few else WIDEST
    if few or burden.product:
        return RESIDENT
    return FULL if burden.registers == 1 else WIDEST


def _grid(rows: int, at_once: int, resident: int, cluster: int, multiprocessors: int) -> int:
    """Blocks for all rows, but not more than fill the GPU a few times."""
    most = max(1, multiprocessors * WAVES * resident // cluster)
    return min(-(-rows // at_once), most) * cluster


def plan(
    rows: int, classes: int, layouts: tuple[Layout, ...], facts: tuple[int, int, bool], burden: Burden = PLAIN
) -> Plan:
    """The plan of `rows` rows of `classes` logits, both at least 1.

    The logits' layout is the first, then come those of the second operand and of the output, where there are such.
    `facts` are the GPU's: multiprocessors, bytes of shared memory that a block can ask for, whether it has clusters.
    """
    whole, peelable = vectors(layouts, classes)
    if burden.two:  # of float64 4 vectors of each row were spilled, and by the assembler for an A100
        times = (2 if layouts[0].itemsize == WIDEST_ITEM else 1) * (1 if facts[2] else 2)
        burden = burden._replace(registers=times * burden.registers)
    short = _short_rows(classes, whole, layouts, burden.registers)
    if short is not None:
        group, items, vector = short
        form, items = (PART_WARP, items) if items else (SCALAR, ITEMS)
        chosen = Plan(form, THREADS, group, THREADS // group, items, vector, False, 0)
    else:
        vector = max(whole, peelable)
        width = vector * max(layouts[0].itemsize, 4 if burden.computed else 0)
        long = _long_rows(-(-classes // vector), width, facts, burden)
        chosen = long._replace(vector=vector, peeled=vector > whole)
    held = chosen.form not in (SCALAR, ONLINE) and not chosen.shared
    resident = _resident(chosen.items, layouts[0].itemsize, burden, held=held, clusters=facts[2]) // chosen.threads
    return chosen._replace(grid=_grid(rows, chosen.rows, resident, chosen.cluster, facts[0]), resident=resident)


def listed_plan(rows: int, classes: int, itemsize: int, facts: tuple[int, int, bool]) -> Plan:
    """The plan of a teacher that lists classes: a block a row, which reads single elements wherever they lie."""
    threads = max(WARP_SIZE, min(STREAMING, _power(-(-classes // WINDOW))))
    resident = _resident(1, itemsize, PLAIN, held=False, clusters=facts[2]) // threads
    grid = _grid(rows, 1, resident, 1, facts[0])
    return Plan(ONLINE, threads, threads, 1, WINDOW, 1, False, grid, resident=resident)


def count_blocks(rows: int) -> int:
    """Blocks for the weights of `rows` rows; more than one write partial sums that are added up afterwards."""
    return max(1, min(COUNTING_BLOCKS, rows // COUNTED))


def _short_rows(classes: int, vector: int, layouts: tuple[Layout, ...], held: int) -> tuple[int, int, int] | None:
    """(threads a row, vectors a thread, elements a vector) where a row takes less than a warp; None where it does not.

    No vectors: a thread reads its row twice.
    """
    if _side_by_side(layouts):
        words = max(1, layouts[0].itemsize // 4)
        return (1, classes if held * words * classes <= CLASSES_A_THREAD else 0, 1)
    n = -(-classes // vector)
    if n * held > 2 * WARP_SIZE:
        return None
    group = min(WARP_SIZE // 2, _power(n))
    if 4 * n < 3 * group:  # too many idle threads
        group //= 2
    return group, -(-n // group), vector


def _long_rows(n: int, width: int, facts: tuple[int, int, bool], burden: Burden) -> Plan:
    """The plan of rows of `n` vectors of `width` bytes, which take a warp or more."""
    _, shared, clusters = facts
    most = ITEMS // burden.registers
    if n <= WARP_SIZE * most:
        return _chosen(WARP, WARP_SIZE, -(-n // WARP_SIZE))
    threads = max(FEWEST, min(WIDE, _power(-(-n * burden.registers // FEW_ITEMS))))
    blocks = 1
    if n > threads * most and clusters:
        blocks = min(CLUSTER_BLOCKS, _power(-(-n // (threads * most))))
    if n <= blocks * threads * most:
        return _chosen(CLUSTER if blocks > 1 else BLOCK, threads, -(-n // (blocks * threads)), cluster=blocks)
    # No vector takes less than a word; a block of several keeps its part of whole rounds of all their threads.
    kept = n if blocks == 1 else -(-n // (blocks * STREAMING)) * STREAMING
    size = kept * (max(4, width) + (max(4, width * (1 + burden.wide)) if burden.product or burden.two else 0))
    if size + RESERVED <= shared:
        form = CLUSTER if blocks > 1 else SHARED
        return _chosen(form, STREAMING, burden.unrolled, shared=size, cluster=blocks)
    return _chosen(ONLINE, STREAMING, burden.unrolled)


def _chosen(form: int, group: int, items: int, *, shared: int = 0, cluster: int = 1) -> Plan:
    """A plan of what was decided so far."""
    threads = max(THREADS, group) if group <= WARP_SIZE else group
    return Plan(form, threads, group, threads // group, items, 1, False, 0, shared, cluster)

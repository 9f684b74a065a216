"""Batches of rows with their classes in SIMD lanes: the passes over rows that are one block long at most.

A row of a hundred classes is seven vectors: its horizontal sums, its logarithm and the latency of one chain of
operations took longer than its exponentials.  So each step is taken for a whole batch, of up to one row for each lane
of a vector, before the next: rows do not wait for each other, and what belongs to a row is a lane of a vector.
"""

from collections import namedtuple

from ..jit import inline
from ..simd.lanes import lane_numbers
from ..simd.laws import vector
from ..simd.memory import get, lanes_of, moved, prefetch, prefetch_to_write, ref, store
from ..simd.squares import line_maxima
from .common import transform
from .constants import BLOCK
from .rows import RUN, no_sums, plus, plus_vector, taken_maxima

_shift = vector["shift"]

# The numbers of a batch's rows, a vector of each: the shifts of the exponentials, the targets' logits and class
# weights, and what gradients are made of; then squares, with a vector for each row: of maxima and of sums.
Lines = namedtuple("Lines", ("base", "logit", "weight", "a", "b", "at_target", "maxima", "sums", "dots", "masses"))


@inline
def lines_at(address, kind):
    """The lines at an address."""
    first = ref(address, 0, kind, True)
    return Lines(
        first,
        moved(first, 64, 0),
        moved(first, 128, 0),
        moved(first, 192, 0),
        moved(first, 256, 0),
        moved(first, 320, 0),
        moved(first, 384, 0),
        moved(first, 384, 0),
        moved(first, 384 + 1024, 0),
        moved(first, 384 + 2048, 0),
    )


@inline
def _ask(flags, way, row, ahead, j):
    """Ask for the logits of a later row, for a mask's next bytes, and for the lines that this gradient comes to."""
    prefetch(ahead, j)
    if flags.mask:
        prefetch(row.mask, j + BLOCK)
    if way.kept:
        prefetch_to_write(row.out, j)


@inline
def row_sums(flags, way, o, row, base):
    """The Sums of a row.

    Every vector leaves the target out by a mask: two instructions, where a branch that one vector in seven takes costs
    a refilled pipeline.
    """
    width, sums = lanes_of(row.x), no_sums(row)
    ahead = moved(row.source, row.next, 0)
    after = lane_numbers(row.x) - row.t  # how far behind the target each lane is
    for begin in range(0, row.k, RUN * width):
        j, stop, part = begin, min(begin + RUN * width, row.k), no_sums(row)
        while j + width <= stop:
            _ask(flags, way, row, ahead, j)
            part = plus_vector(flags, way, o, row, part, j, width, base, True, after == 0)
            after = after + width
            j += width
        if j < stop:
            _ask(flags, way, row, ahead, j)
            part = plus_vector(flags, way, o, row, part, j, stop - j, base, False, after == 0)
        sums = plus(sums, part)
    return sums


@inline
def put_maxima(flags, way, o, row, lines, r):
    """The first step of row number `r` of a batch."""
    store(lines.maxima, r * lanes_of(row.x), taken_maxima(flags, way, o, row, 0, row.k))


@inline
def put_shifts(flags, o, lines):
    """The largest transformed logits of a batch's rows; their shifts are left in their line."""
    m = transform(flags, o, line_maxima(lines.maxima, 0))
    store(lines.base, 0, _shift(m))
    return m


@inline
def put_sums(flags, way, o, row, lines, r):
    """The second step of row number `r`: its sums with respect to the shift."""
    sums = row_sums(flags, way, o, row, get(lines.base, r))
    store(lines.sums, r * lanes_of(row.x), sums.total)
    if flags.smooth or flags.soft:
        store(lines.dots, r * lanes_of(row.x), sums.dot)
    if flags.smooth or flags.soft or way.below:
        store(lines.masses, r * lanes_of(row.x), sums.mass)

"""Batches of rows with their classes in SIMD lanes: the passes over rows that are one block long at most.

A row of a hundred classes is seven vectors: its horizontal sums, its logarithm and the latency of one chain of
operations took longer than its exponentials.  So each step is taken for a whole batch, of up to one row for each lane
of a vector, before the next: rows do not wait for each other, and what belongs to a row is a lane of a vector.
"""

from collections import namedtuple

from ..jit import inline
from .common import transform
from .laws import vector
from .memory import get, lanes_of, moved, prefetch, prefetch_to_write, ref, store
from .rows import RUN, block_maxima, exponentials, gather, masses
from .simd import lane_numbers, select, splat
from .squares import line_maxima

_shift, _term = vector["shift"], vector["term"]

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
def row_sums(flags, o, row, base):
    """Vectors of partial sums of a row: exponentials but the target's, w d, w.

    Every vector leaves the target out by a mask: two instructions, where a branch that one vector in seven takes costs
    a refilled pipeline.
    """
    width = lanes_of(row.x)
    zero = splat(row.x, 0.0)
    total, dot, mass = zero, zero, zero
    ahead = moved(row.source, row.next, 0)
    after = lane_numbers(row.x) - row.t  # how far behind the target each lane is
    for begin in range(0, row.k, RUN * width):
        j, stop = begin, min(begin + RUN * width, row.k)
        part, part_dot, part_mass = zero, zero, zero
        while j + width <= stop:
            prefetch(ahead, j)
            if flags.kept:  # the lines that the gradient comes to
                prefetch_to_write(row.out, j)
            d, p = exponentials(flags, o, row, j, width, base, True)
            part = select(after == 0, part, part + p) if flags.hard else part + p
            if flags.smooth or flags.soft:
                v = masses(flags, o, row, j, width, True)
                part_dot, part_mass = part_dot + _term(v, d), part_mass + v
            after = after + width
            j += width
        if j < stop:
            prefetch(ahead, j)
            if flags.kept:  # the lines that the gradient comes to
                prefetch_to_write(row.out, j)
            d, p = exponentials(flags, o, row, j, stop - j, base, False)
            part = select(after == 0, part, part + p) if flags.hard else part + p
            if flags.smooth or flags.soft:
                v = masses(flags, o, row, j, stop - j, False)
                part_dot, part_mass = part_dot + _term(v, d), part_mass + v
        total, dot, mass = total + part, dot + part_dot, mass + part_mass
    return total, dot, mass


@inline
def put_maxima(flags, row, lines, r):
    """The first step of row number `r` of a batch."""
    gather(flags, row, 0, row.k)
    store(lines.maxima, r * lanes_of(row.x), block_maxima(row.x, 0, row.k))


@inline
def put_shifts(flags, o, lines):
    """The largest transformed logits of a batch's rows; their shifts are left in their line."""
    m = transform(flags, o, line_maxima(lines.maxima, 0))
    store(lines.base, 0, _shift(m))
    return m


@inline
def put_sums(flags, o, row, lines, r):
    """The second step of row number `r`: its sums with respect to the shift."""
    sums, dots, weights = row_sums(flags, o, row, get(lines.base, r))
    store(lines.sums, r * lanes_of(row.x), sums)
    if flags.smooth or flags.soft:
        store(lines.dots, r * lanes_of(row.x), dots)
        store(lines.masses, r * lanes_of(row.x), weights)

"""The passes over rows that threads do not hold in registers: a few vectors at a time, the maximum as it grows.

A row is read once for its state; for its gradient, once more from memory, or from shared memory where it was kept.
"""

from functools import lru_cache

from ..toolkit.compiler import cuda, device, types
from .laws import EXPONENTIALS, LAWS
from .memory import constant, shared_address
from .vectors import Sums
from .words import make_keep_recall

i32, u32 = types.int32, types.uint32


@lru_cache(maxsize=64)
def make_rescale(kind, flags, infinite):
    """``rescale(sums, m, top)``: sums relative to a larger maximum: one side of ``law.merge``.

    With `infinite`, +inf - +inf is 0.
    """
    exp, law, weighing = EXPONENTIALS[kind, False], LAWS[kind], flags.smooth or flags.soft
    shift, merge_dot, zero = law["shift"], law["merge_dot"], constant(kind, 0.0)
    spread, below, merge_spread, merge_below = flags.entropy, flags.rest, law["merge_spread"], law["merge_below"]

    @device
    def rescale(sums, m, top):
        d = m - shift(top)
        if infinite:
            d = zero if m == top else d
        dot, mass = sums.dot, sums.mass
        if weighing and below:
            dot = merge_below(m, sums.others, dot, top)
        elif weighing:
            dot = merge_dot(dot, mass, m, top)
        elif below:
            mass = merge_below(m, sums.others, mass, top)
        if spread:
            dot = merge_spread(m, sums.others, dot, top)
        return Sums(sums.others * exp(d), dot, mass)

    return rescale


@lru_cache(maxsize=64)
def make_staging(shape, group, step, fill, staged):
    """(keep, recall), ``keep(part, count, words)``: all that a thread holds, to shared memory, and back.

    That is `step` words of each vector in a row of `count` vectors; ``fill(p, o, part, words)`` reads what does not
    come back from there: all, where rows are not `staged`.  Each block of a row, of `group` threads, keeps its own
    part.
    """
    items, threads, size = shape.items, shape.threads, 4 * step

    if not staged:

        @device
        def keep_nothing(part, count, words):
            pass

        @device
        def read_again(p, o, part, count, words):
            fill(p, o, part, words)

        return keep_nothing, read_again

    @device
    def begin(part, count):
        place = u32(i32(count - part.left))
        if group < threads:
            place = u32(u32(u32(place // u32(threads)) * u32(group)) + u32(place % u32(group)))
        base = shared_address(cuda.shared.array(0, types.uint32, alignment=16))
        return u32(base + u32(place * u32(size)))

    def make_copy(copy_vector):
        @device
        def copy(part, count, words):
            first = begin(part, count)
            for i in range(items):
                if i32(i * threads) < part.left:
                    copy_vector(words, i * step, u32(first + u32(i * group * size)))

        return copy

    keep, copy_back = map(make_copy, make_keep_recall(step))

    @device
    def recall(p, o, part, count, words):
        copy_back(part, count, words)
        fill(p, o, part, words)

    return keep, recall

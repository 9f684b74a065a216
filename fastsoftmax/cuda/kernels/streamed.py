"""The passes over rows that threads do not hold in registers: a few vectors at a time, the maximum as it grows.

A row is read once for its state; for what is written, once more from memory, or from shared memory where it was kept.
"""

from collections import namedtuple
from functools import lru_cache

from ..toolkit.compiler import cuda, device, types
from .held import reading, spare_reading
from .laws import EXPONENTIALS, LAWS
from .memory import constant, shared_address
from .vectors import Sums
from .words import keeper, words_of

i32, u32 = types.int32, types.uint32
Staging = namedtuple("Staging", ("keep", "recall"))


@lru_cache(maxsize=64)
def rescaler(kind, flags, *, level):
    """``rescaled(sums, m, top)``: sums relative to a larger maximum: one side of ``law.merge``.

    `level` says that +inf - +inf is 0.
    """
    exp, law, weighing = EXPONENTIALS[kind, False], LAWS[kind], flags.smooth or flags.soft
    shift, merge_dot, zero = law["shift"], law["merge_dot"], constant(kind, 0.0)

    @device
    def rescaled(sums, m, top):
        d = m - shift(top)
        if level:
            d = zero if m == top else d
        dot = merge_dot(sums.dot, sums.mass, m, top) if weighing else sums.dot
        return Sums(sums.others * exp(d), dot, sums.mass)

    return rescaled


@lru_cache(maxsize=64)
def staging(shape, group, staged):
    """What a thread holds, to shared memory and back: ``(part, count, words)``, in a row of `count` vectors.

    Each block of a row, of `group` threads, keeps what is its own.  Where rows are not `staged`, they come back from
    memory.
    """
    return kept(
        shape, group, words_of(shape.kind, shape.vector), spare_reading(shape) if staged else reading(shape), staged
    )


def kept(shape, group, step, fill, staged):
    """The same for `step` words a vector; `fill` reads what does not come back from shared memory."""
    items, threads, size = shape.items, shape.threads, 4 * step
    put, get = keeper(step)

    if not staged:

        @device
        def nothing(part, count, words):
            pass

        @device
        def again(part, count, words):
            fill(part, words)

        return Staging(nothing, again)

    @device
    def begin(part, count):
        place = u32(i32(count - part.left))
        if group < threads:
            place = u32(u32(u32(place // u32(threads)) * u32(group)) + u32(place % u32(group)))
        base = shared_address(cuda.shared.array(0, types.uint32, alignment=16))
        return u32(base + u32(place * u32(size)))

    @device
    def keep(part, count, words):
        first = begin(part, count)
        for i in range(items):
            if i32(i * threads) < part.left:
                put(words, i * step, u32(first + u32(i * group * size)))

    @device
    def recall(part, count, words):
        first = begin(part, count)
        for i in range(items):
            if i32(i * threads) < part.left:
                get(words, i * step, u32(first + u32(i * group * size)))
        fill(part, words)

    return Staging(keep, recall)

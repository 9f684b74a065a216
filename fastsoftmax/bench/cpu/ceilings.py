"""Kernels that do nothing but what bounds the others, for the benchmarks: move bytes, and exponentiate.

Their parameters are integers: a counter, the addresses of what is read and written, bytes (a multiple of 256), bytes in
a chunk, and the address of a float64 for each chunk.
"""

from ...cpu import jit
from ...cpu.simd.elementary import exp_nonpositive
from ...cpu.simd.lanes import hsum
from ...cpu.simd.memory import lanes_of, load, prefetch, ref, store, stream
from ...cpu.simd.vectors import splat
from ...cpu.simd.words import fence, integer_at, put_float

COUNTER, READ, WRITTEN, BYTES, CHUNK, RESULTS = range(6)
FIELDS = 6
COPY, UPDATE, SUM, EXP = "copy", "update", "sum", "exp"
REPEATS = 64  # of the exponentials of a chunk


@jit.inline
def _part(params, chunk, kind):
    """(what is read, what is written, the number of elements) of a chunk."""
    start = chunk * integer_at(params, CHUNK)
    size = min(integer_at(params, CHUNK), integer_at(params, BYTES) - start)
    read = ref(integer_at(params, READ) + start, 0, kind, True)
    return read, ref(integer_at(params, WRITTEN) + start, 0, kind, True), size


def _mover(copies):
    """A factory of kernels that copy, or else change the sign of all elements in place."""

    def make(kind, ahead):
        def kernel(params, chunk, _slot):
            x, y, size = _part(params, chunk, kind)
            width = lanes_of(x)
            j = 0
            for _ in range(0, size, 64):
                if ahead:
                    prefetch(x, j + ahead)
                if copies:
                    stream(y, j, load(x, j))
                else:
                    store(x, j, -load(x, j))
                j += width
            if copies:
                fence()

        return jit.kernel(kernel)

    return make


copy = _mover(True)  # past the caches; what is written begins a cache line
update = _mover(False)


def total(kind, ahead):
    """Add up all elements, in four sums; elements `ahead` are asked for in advance, where it is not 0."""

    def kernel(params, chunk, _slot):
        x, _, size = _part(params, chunk, kind)
        width = lanes_of(x)
        a = b = c = d = splat(x, 0.0)
        j = 0
        for _ in range(0, size, 256):
            if ahead:
                for k in range(4):
                    prefetch(x, j + ahead + k * width)
            a = a + load(x, j)
            b = b + load(x, j + width)
            c = c + load(x, j + 2 * width)
            d = d + load(x, j + 3 * width)
            j += 4 * width
        put_float(integer_at(params, RESULTS), chunk, hsum(a + b + c + d))

    return jit.kernel(kernel)


def exponentials(kind, _ahead):
    """Add up the exponentials of a chunk `REPEATS` times, in four sums: from the first-level cache, if it fits."""

    def kernel(params, chunk, _slot):
        x, _, size = _part(params, chunk, kind)
        width = lanes_of(x)
        a = b = c = d = splat(x, 0.0)
        for repeat in range(REPEATS):
            shift = splat(x, 1.0 * repeat)
            j = 0
            for _ in range(0, size, 256):
                a = a + exp_nonpositive(load(x, j) - shift)
                b = b + exp_nonpositive(load(x, j + width) - shift)
                c = c + exp_nonpositive(load(x, j + 2 * width) - shift)
                d = d + exp_nonpositive(load(x, j + 3 * width) - shift)
                j += 4 * width
        put_float(integer_at(params, RESULTS), chunk, hsum(a + b + c + d))

    return jit.kernel(kernel)


def nothing():
    """Do nothing: what is left is the launch."""

    def kernel(params, chunk, slot):
        pass

    return jit.kernel(kernel)


MAKE = {COPY: copy, UPDATE: update, SUM: total, EXP: exponentials}

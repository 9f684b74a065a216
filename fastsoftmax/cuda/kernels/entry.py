"""The entry of row kernels: it shares rows among blocks and groups of threads, and writes the number of each row."""

from ...core.dtypes import ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .memory import constant, real
from .reductions import cluster_rank, make_scope
from .score import Exact, add_exact, make_deliver
from .words import make_store

i32, u32, i64 = types.int32, types.uint32, types.int64


def make_kernel(work, kind, threads, group, blocks, *, losses, stored):
    """The kernel that calls `work` for each row: ``kernel(p, o)``, with `Integers` and `Numbers`.

    `work` is a device function of `held_rows` and the like, `kind` the computing dtype.  A row has a `group` of the
    `threads` of each of its `blocks`.  The rows' numbers are added up where they are `losses`, and written in the
    storage kind `stored`; None: they are not.
    """
    at_once, zero, leave = threads // group, constant(kind, 0.0), make_scope(kind, group, blocks).leave
    deliver, write = make_deliver(kind, threads, group), _make_write(kind, stored)

    def kernel(p, o):
        thread, cluster, rank = i32(u32(cuda.threadIdx.x)), u32(cuda.blockIdx.x), i32(0)
        if blocks > 1:
            cluster, rank = u32(cluster // u32(blocks)), i32(cluster_rank())
        number = i32(u32(thread) // u32(group))
        g = i32(i32(thread - i32(number * group)) + i32(rank * group))
        first, stride = i64(cluster) * at_once, i64(u32(u32(cuda.gridDim.x) // u32(blocks))) * at_once
        total = Exact(zero, zero)
        while first < p.rows:
            row = first + number
            live = row < p.rows
            value = work(p, o, row if live else i64(0), live, g, rank)
            if live and g == i32(0):
                write(p, row, value)
                if losses:
                    total = add_exact(total, Exact(value, zero))
            first += stride
        if losses:
            deliver(p, total)
        leave()

    return kernel


def _make_write(kind, stored):
    """``write(p, row, value)``: write the number of a row, where somebody wants it."""
    if stored is None:

        @device
        def nothing(p, row, value):
            pass

        return nothing
    dtype, size, put = real(kind), ITEMSIZE[stored], make_store(stored, 1)
    count = 2 if size == 8 else 1

    @device
    def write(p, row, value):
        if p.result != 0:
            values, scratch = cuda.local.array(1, dtype), cuda.local.array(count, types.uint32)
            values[0] = value
            put(p.result + row * size, values, scratch)

    return write

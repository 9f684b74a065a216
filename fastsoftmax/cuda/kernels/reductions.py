"""Reductions over the threads of a row: the maximum, sums and the target's logit, in a fixed order.

A `Scope` holds functions that every thread of a row calls together, and `leave` before it ends:

``share(z, m, owner, rank)``  the `z` of the thread number `owner` of the row, and the largest `m`
``total(a, b, c)``            three sums, the last two as far as they are `needed`, a pair

Each leaves what it wrote in shared memory alone until the other one's barrier: between two uses of the same place lies
a barrier that everybody has passed after reading it.
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import FLOAT64, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .memory import assembly, real, shared_address

Scope = namedtuple("Scope", ("share", "total", "leave"))

FULL = 0xFFFFFFFF
WARP = 32
ONE_MORE, THREE = WARP + 1, 3 * WARP  # the compiler takes no expressions for sizes
u32 = types.uint32


@device
def lane():
    """The calling thread's number in its warp."""
    return u32(u32(cuda.threadIdx.x) & u32(31))


@lru_cache(maxsize=16)
def make_folds(width):
    """(largest, sum) over lanes whose numbers differ in the bits below `width`, a power of 2; every lane gets it."""
    steps = tuple(1 << k for k in reversed(range(width.bit_length() - 1)))

    if not steps:

        @device
        def same(x):
            return x

        return same, same

    @device
    def largest(x):
        for step in steps:
            x = max(x, cuda.shfl_xor_sync(FULL, x, step))
        return x

    @device
    def added(x):
        for step in steps:
            x = x + cuda.shfl_xor_sync(FULL, x, step)
        return x

    return largest, added


@device
def _stay():
    """Nothing to do before a thread ends: nobody reads its shared memory."""


@lru_cache(maxsize=32)
def _make_warp_scope(group, needed):
    """The scope of a power of 2 of up to 32 threads side by side."""
    (largest, added), (second, third) = make_folds(group), needed
    last = u32(group - 1)

    @device
    def share(z, m, owner, rank):
        source = u32(u32(lane() & u32(~last & u32(31))) | u32(u32(owner) & last))
        return cuda.shfl_sync(FULL, z, source), largest(m)

    @device
    def total(a, b, c):
        return added(a), added(b) if second else b, added(c) if third else c

    return Scope(share, total, _stay)


@lru_cache(maxsize=64)
def _make_block_scope(kind, threads, needed):
    """The scope of a block, whose size is a power of 2."""
    dtype, warps, (second, third) = real(kind), threads // WARP, needed
    (largest, added), (most, sum_up) = make_folds(WARP), make_folds(warps)
    last, mine = u32(warps - 1), u32(threads - 1)

    @device
    def share(z, m, owner, rank):
        slots = cuda.shared.array(ONE_MORE, dtype)
        m = largest(m)
        thread = u32(cuda.threadIdx.x)
        if lane() == u32(0):
            slots[thread >> u32(5)] = m
        if thread == u32(u32(owner) & mine):
            slots[WARP] = z
        cuda.syncthreads()
        return slots[WARP], most(slots[u32(lane() & last)])

    @device
    def total(a, b, c):
        slots = cuda.shared.array(THREE, dtype)
        warp = u32(u32(cuda.threadIdx.x) >> u32(5))
        a, b, c = added(a), added(b) if second else b, added(c) if third else c
        if lane() == u32(0):
            slots[warp] = a
            if second:
                slots[u32(warp + u32(WARP))] = b
            if third:
                slots[u32(warp + u32(2 * WARP))] = c
        cuda.syncthreads()
        place = u32(lane() & last)
        a = sum_up(slots[place])
        if second:
            b = sum_up(slots[u32(place + u32(WARP))])
        if third:
            c = sum_up(slots[u32(place + u32(2 * WARP))])
        return a, b, c

    return Scope(share, total, _stay)


_cluster_barrier = assembly(
    "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
    *("~{memory}", types.void),
    ordered=True,
)
cluster_rank = assembly("mov.u32 $0, %cluster_ctarank;", "=r", types.uint32, ordered=True)


def _make_remote(kind):
    """``remote(address, block)``: the number at a shared address of another block of the cluster."""
    name, register = ("f64", "d") if kind == FLOAT64 else ("f32", "f")
    load = f"mapa.shared::cluster.u32 there, $1, $2; ld.shared::cluster.{name} $0, [there];"
    text, constraints = f"{{ .reg .b32 there; {load} }}", f"={register},r,r,~{{memory}}"
    return assembly(text, constraints, real(kind), types.uint32, types.uint32, ordered=True)


@lru_cache(maxsize=64)
def _make_cluster_scope(kind, threads, blocks, needed):
    """The scope of a cluster: each block lets the others read its results."""
    block, dtype, remote = _make_block_scope(kind, threads, needed), real(kind), _make_remote(kind)
    size, (second, third) = ITEMSIZE[kind], needed
    most, sum_up = make_folds(blocks)
    last = u32(blocks - 1)
    share_block, total_block = block.share, block.total

    @device
    def share(z, m, owner, rank):
        results = cuda.shared.array(2, dtype)
        z, m = share_block(z, m, owner, rank)
        if u32(cuda.threadIdx.x) == u32(0):
            results[0], results[1] = m, z
        _cluster_barrier()
        where = shared_address(results)
        z = remote(u32(where + u32(size)), u32(u32(owner) // u32(threads)))
        return z, most(remote(where, u32(lane() & last)))

    @device
    def total(a, b, c):
        results = cuda.shared.array(3, dtype)
        a, b, c = total_block(a, b, c)
        if u32(cuda.threadIdx.x) == u32(0):
            results[0], results[1], results[2] = a, b, c
        _cluster_barrier()
        where, other = shared_address(results), u32(lane() & last)
        a = sum_up(remote(where, other))
        if second:
            b = sum_up(remote(u32(where + u32(size)), other))
        if third:
            c = sum_up(remote(u32(where + u32(2 * size)), other))
        return a, b, c

    return Scope(share, total, _cluster_barrier)


def make_scope(kind, group, blocks, needed=(False, False)):
    """The scope of `group` threads of each of `blocks` blocks, for a computing dtype."""
    if blocks > 1:
        return _make_cluster_scope(kind, group, blocks, needed)
    if group > WARP:
        return _make_block_scope(kind, group, needed)
    return _make_warp_scope(group, needed)

"""Reductions over the threads of a row: the maximum, sums and the target's logit, in a fixed order.

A `Scope` holds functions that every thread of a row calls together, and `leave` before it ends:

``share(z, m, owner, rank)``  the `z` of the thread number `owner` of the row, and the largest `m`
``total(a, b, c)``            three sums, the last two as far as they are `needed`, a pair

Each leaves what it wrote in shared memory alone until the other one's barrier: between two uses of the same place lies
a barrier that everybody has passed after reading it.
"""

import math
from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .memory import assembly, real, shared_address

Scope = namedtuple("Scope", ("share", "total", "leave"))

FULL = 0xFFFFFFFF
WARP = 32
ONE_MORE, THREE = WARP + 1, 3 * WARP  # the compiler takes no expressions for sizes
i32, u32 = types.int32, types.uint32


@device
def lane():
    """The calling thread's number in its warp."""
    return u32(u32(cuda.threadIdx.x) & u32(31))


@device
def above(x, y):
    """Whether `x` is larger than `y`, where NaN is larger than any other number."""
    return (not x <= y) & (not math.isnan(y))


@device
def _larger(x, y):
    return max(x, y)


@device
def _less(x, y):
    return min(x, y)


_sum, _count = device(lambda x, y: x + y), device(lambda x, y: i32(x + y))
_higher = device(lambda x, y: y if above(y, x) else x)


@lru_cache(maxsize=64)
def _make_fold(width, combine):
    """The combination over lanes whose numbers differ in the bits below `width`, a power of 2; every lane gets it."""
    steps = tuple(1 << k for k in reversed(range(width.bit_length() - 1)))

    @device
    def same(x):
        return x

    @device
    def fold(x):
        for step in steps:
            x = combine(x, cuda.shfl_xor_sync(FULL, x, step))
        return x

    return fold if steps else same


def make_folds(width):
    """(largest, sum) over lanes, as `_make_fold` has them."""
    return _make_fold(width, _larger), _make_fold(width, _sum)


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


def _make_remote(dtype):
    """``remote(address, block)``: the number at a shared address of another block of the cluster."""
    name, register = {types.float64: ("f64", "d"), types.float32: ("f32", "f"), types.int32: ("u32", "r")}[dtype]
    load = f"mapa.shared::cluster.u32 there, $1, $2; ld.shared::cluster.{name} $0, [there];"
    text, constraints = f"{{ .reg .b32 there; {load} }}", f"={register},r,r,~{{memory}}"
    return assembly(text, constraints, dtype, types.uint32, types.uint32, ordered=True)


@lru_cache(maxsize=64)
def _make_cluster_scope(kind, threads, blocks, needed):
    """The scope of a cluster: each block lets the others read its results."""
    block, dtype, remote = _make_block_scope(kind, threads, needed), real(kind), _make_remote(real(kind))
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


@lru_cache(maxsize=64)
def _make_warp_tally(width, needed):
    """The tally of some lanes."""
    first, second, third = needed
    least, counted, highest = (_make_fold(width, combine) for combine in (_less, _count, _higher))

    @device
    def tally(a, b, c):
        return least(a) if first else a, counted(b) if second else b, highest(c) if third else c

    return tally


@lru_cache(maxsize=64)
def _make_block_tally(kind, threads, needed):
    """The tally of a block."""
    warps, dtype, (first, second, third) = threads // WARP, real(kind), needed
    of_warp, of_warps, last = _make_warp_tally(WARP, needed), _make_warp_tally(warps, needed), u32(warps - 1)

    @device
    def tally(a, b, c):
        a, b, c = of_warp(a, b, c)
        warp, at, leads = u32(u32(cuda.threadIdx.x) >> u32(5)), u32(lane() & last), lane() == u32(0)
        if first:
            places = cuda.shared.array(WARP, types.int32)
            if leads:
                places[warp] = a
        if second:
            counts = cuda.shared.array(WARP, types.int32)
            if leads:
                counts[warp] = b
        if third:
            numbers = cuda.shared.array(WARP, dtype)
            if leads:
                numbers[warp] = c
        cuda.syncthreads()
        return of_warps(places[at] if first else a, counts[at] if second else b, numbers[at] if third else c)

    return tally


@lru_cache(maxsize=64)
def _make_cluster_tally(kind, threads, blocks, needed):
    """The tally of a cluster."""
    of_block, of_blocks = _make_block_tally(kind, threads, needed), _make_warp_tally(blocks, needed)
    dtype, (first, second, third), last = real(kind), needed, u32(blocks - 1)
    remote_count, remote_number = _make_remote(types.int32), _make_remote(dtype)

    @device
    def tally(a, b, c):
        a, b, c = of_block(a, b, c)
        other, leads = u32(lane() & last), u32(cuda.threadIdx.x) == u32(0)
        if first or second:
            counts = cuda.shared.array(2, types.int32)
            if leads:
                counts[0], counts[1] = a, b
        if third:
            numbers = cuda.shared.array(1, dtype)
            if leads:
                numbers[0] = c
        _cluster_barrier()
        if first:
            a = remote_count(shared_address(counts), other)
        if second:
            b = remote_count(u32(shared_address(counts) + u32(4)), other)
        if third:
            c = remote_number(shared_address(numbers), other)
        return of_blocks(a, b, c)

    return tally


def make_tally(kind, group, blocks, needed):
    """``tally(a, b, c)``: the least i32, a sum of i32 and the largest real, or NaN, as far as they are `needed`.

    Between two calls lies another reduction.
    """
    if blocks > 1:
        return _make_cluster_tally(kind, group, blocks, needed)
    return _make_block_tally(kind, group, needed) if group > WARP else _make_warp_tally(group, needed)

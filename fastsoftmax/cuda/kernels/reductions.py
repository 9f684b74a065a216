"""What the threads of a row tell each other: maxima, sums and the target's logit, in a fixed order.

A `Scope` is a pair of functions that every thread of a row calls together:

``share(z, m, owner, rank)``  the `z` of the thread number `owner` of the row, and the largest `m`
``total(a, b, c)``            three sums; those that are not needed are computed by nobody

Each leaves what it wrote in shared memory alone until the other one's barrier: between two uses of the same place lies
a barrier that everybody has passed after reading it.
"""

from collections import namedtuple
from functools import lru_cache

from llvmlite import ir

from ...core.dtypes import FLOAT64
from ..toolkit.compiler import cuda, device, intrinsic, types
from .memory import real, shared_address

Scope = namedtuple("Scope", ("share", "total", "leave"))

FULL = 0xFFFFFFFF
WARP = 32
ONE_MORE, THREE = WARP + 1, 3 * WARP  # the compiler takes no expressions for sizes
u32 = types.uint32


def _lane():
    return u32(u32(cuda.threadIdx.x) & u32(31))


lane = device(_lane)


@lru_cache(maxsize=16)
def folds(width):
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
    """What a thread does before it ends, where nobody reads its shared memory."""


@lru_cache(maxsize=32)
def _in_warp(group, several):
    """The scope of a power of 2 of up to 32 threads side by side."""
    largest, added = folds(group)
    last = u32(group - 1)

    @device
    def share(z, m, owner, rank):
        source = u32(u32(lane() & u32(~last & u32(31))) | u32(u32(owner) & last))
        return cuda.shfl_sync(FULL, z, source), largest(m)

    @device
    def total(a, b, c):
        if several:
            return added(a), added(b), added(c)
        return added(a), b, c

    return Scope(share, total, _stay)


@lru_cache(maxsize=64)
def _in_block(kind, threads, several):
    """The scope of a block, whose size is a power of 2."""
    dtype, warps = real(kind), threads // WARP
    (largest, added), (most, sum_up) = folds(WARP), folds(warps)
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
        a = added(a)
        if several:
            b, c = added(b), added(c)
        if lane() == u32(0):
            slots[warp] = a
            if several:
                slots[u32(warp + u32(WARP))], slots[u32(warp + u32(2 * WARP))] = b, c
        cuda.syncthreads()
        place = u32(lane() & last)
        a = sum_up(slots[place])
        if several:
            b, c = sum_up(slots[u32(place + u32(WARP))]), sum_up(slots[u32(place + u32(2 * WARP))])
        return a, b, c

    return Scope(share, total, _stay)


_I32 = ir.IntType(32)


def _assembly(text, constraints, result, argument_types, numba_result, numba_arguments):
    """An intrinsic of a piece of assembly that the compiler moves no access to memory across."""

    def codegen(context, builder, signature, args):
        shape = ir.FunctionType(result, argument_types)
        made = builder.call(ir.InlineAsm(shape, text, constraints, side_effect=True), args)
        return context.get_dummy_value() if numba_result is types.void else made

    if not numba_arguments:

        @intrinsic
        def nullary(typing):
            return numba_result(), codegen

        return nullary

    @intrinsic
    def binary(typing, a, b):
        return numba_result(*numba_arguments), codegen

    return binary


_cluster_barrier = _assembly(
    "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
    "~{memory}",
    ir.VoidType(),
    [],
    types.void,
    (),
)
cluster_rank = _assembly("mov.u32 $0, %cluster_ctarank;", "=r", _I32, [], types.uint32, ())
_LOAD = "{ .reg .b32 there; mapa.shared::cluster.u32 there, $1, $2; ld.shared::cluster.%s $0, [there]; }"


def _remote(kind):
    """An intrinsic: the number at a shared address of another block of the cluster."""
    wide = kind == FLOAT64
    return _assembly(
        _LOAD % ("f64" if wide else "f32"),
        f"={'d' if wide else 'f'},r,r,~{{memory}}",
        ir.DoubleType() if wide else ir.FloatType(),
        [_I32, _I32],
        real(kind),
        (types.uint32, types.uint32),
    )


@lru_cache(maxsize=64)
def _in_cluster(kind, threads, blocks, several):
    """The scope of a cluster: each block tells the others what came of it."""
    block, dtype, remote = _in_block(kind, threads, several), real(kind), _remote(kind)
    size = 8 if kind == FLOAT64 else 4
    most, sum_up = folds(blocks)
    last = u32(blocks - 1)
    share_block, total_block = block.share, block.total

    @device
    def share(z, m, owner, rank):
        told = cuda.shared.array(2, dtype)
        z, m = share_block(z, m, owner, rank)
        if u32(cuda.threadIdx.x) == u32(0):
            told[0], told[1] = m, z
        _cluster_barrier()
        where = shared_address(told)
        z = remote(u32(where + u32(size)), u32(u32(owner) // u32(threads)))
        return z, most(remote(where, u32(lane() & last)))

    @device
    def total(a, b, c):
        told = cuda.shared.array(3, dtype)
        a, b, c = total_block(a, b, c)
        if u32(cuda.threadIdx.x) == u32(0):
            told[0], told[1], told[2] = a, b, c
        _cluster_barrier()
        where, other = shared_address(told), u32(lane() & last)
        a = sum_up(remote(where, other))
        if several:
            b, c = sum_up(remote(u32(where + u32(size)), other)), sum_up(remote(u32(where + u32(2 * size)), other))
        return a, b, c

    return Scope(share, total, _cluster_barrier)


def scope(kind, group, blocks, several):
    """The scope of `group` threads of each of `blocks` blocks, for a computing dtype; `several` sums or one."""
    if blocks > 1:
        return _in_cluster(kind, group, blocks, several)
    if group > WARP:
        return _in_block(kind, group, several)
    return _in_warp(group, several)

"""Shared memory across the blocks of a cluster, and generic addresses."""

import numpy as np

from tests.interpreter.memory import WINDOWS, Race
from tests.interpreter.parse import PtxError, Unsupported
from tests.interpreter.races import whose
from tests.interpreter.spaces import OnChip

U4, U8, I8 = np.uint32, np.uint64, np.int64


class Cluster:
    """Shared memory of any block of the cluster: the address's upper bits are the rank + 1, or 0 for the own block."""

    RANK = 24

    def __init__(self, shared):
        self.shared = shared

    def __getattr__(self, name):
        """Loads, stores and atomics of shared memory, by addresses with a rank."""
        shared = self.shared

        def access(site, *arguments):
            shared.ranked = True
            try:
                return getattr(shared, name)(site, *arguments)
            finally:
                shared.ranked = False

        return access


class Shared(OnChip):
    """The shared memory of all blocks of a batch."""

    ranked = False

    def owners(self, address, lanes, site):
        own = self.machine.owner("shared", lanes)
        if not self.ranked or not (address >> U8(Cluster.RANK)).any():
            return address, own
        rank = (address >> U8(Cluster.RANK)).view(I8)
        owner = np.where(rank == 0, own, own - own % self.machine.layout.cluster + rank - 1)
        self.machine.expect_present(owner, own, lanes, site)
        return address & U8((1 << Cluster.RANK) - 1), owner


class Generic:
    """Addresses that say themselves which memory they mean."""

    def __init__(self, machine):
        self.machine = machine

    def __getattr__(self, name):
        """Loads, stores and atomics of the space that the address belongs to."""

        def access(site, *arguments):
            arguments = list(arguments)
            at = 1 if name == "atomic" else 0
            kind = np.asarray(arguments[at]) >> U8(56)
            if (kind != kind.flat[0]).any():
                raise Unsupported(f"addresses of several state spaces at once in {site.instruction.where()}")
            space = {0: self.machine.global_, 1: self.machine.cluster, 2: self.machine.local}[int(kind.flat[0])]
            arguments[at] = arguments[at] & U8((1 << 56) - 1)
            return getattr(space, name)(site, *arguments)

        return access


class Clusters:
    """The part of a machine that knows when other blocks' shared memory may be accessed, and where it is."""

    def expect_present(self, owner, own, lanes, site):
        """Other blocks must have started and must not have exited."""
        waits = self.clock.waits if lanes is None else self.clock.waits[lanes]
        for wrong, what in (
            ((owner != own) & self.left[owner], "which has exited"),
            ((owner != own) & (waits == 0), "before a barrier of the cluster"),
        ):
            if wrong.any():
                i = int(np.nonzero(wrong)[0][0])
                raise Race(
                    f"{self.thread(lanes, i)} accesses shared memory of block {self.layout.first + int(owner[i])}, "
                    f"{what}, in {site.instruction.where()}"
                )

    def expect_unused(self, block):
        """A block may exit when the others of its cluster have done with its shared memory, and it knows that."""
        shadow = self.shared.shadow
        if shadow is None:
            return
        waits = int(self.clock.waits[block * self.layout.threads : (block + 1) * self.layout.threads].max())
        for width, records in [*shadow.reads.items(), *shadow.writes.items()]:
            stride = self.shared.stride // width
            mine = records[block * stride : (block + 1) * stride]
            others = (mine != 0) & (whose(mine, self.layout)[1] != self.layout.first + block)
            late = others & ((mine >> U8(30) & U8(255)).astype(I8) >= waits)
            if late.any():
                raise Race(
                    f"block {self.layout.first + block} exits while its shared memory is accessed by "
                    f"{self.describe(mine[late][0])}: no barrier of the cluster is in between"
                )

    def mapped(self, address, rank, generic, lanes):
        """The address of the same shared memory in another block of the cluster."""
        if (rank >= self.layout.cluster).any():
            raise PtxError(f"mapa to rank {int(np.max(rank))} of a cluster of {self.layout.cluster} blocks")
        low = address.astype(U8) & U8((1 << Cluster.RANK) - 1)
        window = U8(WINDOWS["shared"] if generic else 0)
        return window + ((rank.astype(U8) + U8(1)) << U8(Cluster.RANK)) + low

    def rank_of(self, address, lanes):
        rank = (address.astype(U8) & U8((1 << 56) - 1)) >> U8(Cluster.RANK)
        return np.where(rank == 0, self.special("%cluster_ctarank", lanes), rank - U8(1)).astype(U4)

    @staticmethod
    def in_space(address, space):
        kind = {"global": 0, "shared": 1, "local": 2}[space.partition("::")[0]]
        return address >> U8(56) == U8(kind)

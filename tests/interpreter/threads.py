"""Runs a batch of blocks: all their threads at once, the ones that are furthest behind first."""

import math

import numpy as np

from tests.interpreter.clusters import Cluster, Clusters, Generic, Shared
from tests.interpreter.knowledge import Knowledge
from tests.interpreter.memory import WINDOWS
from tests.interpreter.parse import PtxError
from tests.interpreter.races import Clock
from tests.interpreter.spaces import OnChip
from tests.interpreter.warps import Divergence, Warps

U4, U8, I8 = np.uint32, np.uint64, np.int64


class Endless(PtxError):
    """More steps than a kernel of this kind can need."""


class Layout:
    """How threads are numbered: block after block, in the batch and in the grid."""

    def __init__(self, grid, block, cluster, first, blocks):
        self.grid, self.block, self.cluster, self.first, self.blocks = grid, block, cluster, first, blocks
        self.threads = math.prod(block)
        self.warps = -(-self.threads // 32)
        self.n = blocks * self.threads
        self.names = np.arange(first * self.threads, first * self.threads + self.n, dtype=U8)


class Machine(Knowledge, Clusters, Warps):
    """The threads of some blocks with their registers, and the memory that they share."""

    WINDOWS = WINDOWS

    def __init__(self, program, layout, launch):
        self.program, self.layout, self.launch, self.n = program, layout, launch, layout.n
        number = np.arange(self.n)
        thread = number % layout.threads
        self.block = number // layout.threads
        self.lane = thread % 32
        self.base = number - self.lane
        self.warp = self.block * layout.warps + thread // 32
        self.warp_count = layout.blocks * layout.warps
        self.ends = (self.block + 1) * layout.threads
        self.thread_number = thread
        self.alive, self.left = np.ones(self.n, bool), np.zeros(layout.blocks, bool)
        self.clock = Clock(self.n)
        self.R, self.sites = [None] * program.registers, program.sites
        self.groups, self.held, self.waiting = {0: None}, {}, {}
        self.known_sources, self.known_special, self.cached_actors = {}, {}, None
        self.memories(launch)

    def memories(self, launch):
        kernel = self.program.kernel
        size = kernel.shared + launch.shared
        shared = self.program.widths("shared")
        self.shared = Shared(self, "shared", size, self.layout.blocks, shared, launch.races)
        self.cluster, self.generic = Cluster(self.shared), Generic(self)
        self.local = OnChip(self, "local", kernel.local, self.n if kernel.local else 0, [1], False)
        self.global_ = launch.global_
        self.global_.machine = self
        self.symbols = launch.symbols

    # The order of execution.

    def run(self):
        """Until all threads have exited."""
        launch, blocks = self.launch, self.program.blocks
        while self.groups or self.release():
            at = min(self.groups)
            lanes = self.groups.pop(at)
            block = blocks[at]
            launch.steps += 1
            if launch.steps > launch.limit:
                where = block.code[0].where() if block.code else "the end"
                raise Endless(f"{launch.limit} steps and no end; at {where}")
            if block.kind in ("bar", "cluster"):
                self.waiting[at] = self.joined(self.waiting.pop(at), lanes) if at in self.waiting else lanes
                continue
            if block.warp is not None:
                lanes = self.together(at, lanes, block)
                if lanes is not None and not len(lanes):
                    continue
            launch.instructions += len(block.code) * self.count(lanes)
            self.follow(block, lanes, block.run(self.R, lanes, self))

    def follow(self, block, lanes, result):
        """Send threads to the block that is next for them."""
        if block.kind == "exit":
            self.leave(lanes)
        elif block.kind == "branch" and np.ndim(result):
            if result.all():
                self.send(block.targets[0], lanes)
            elif not result.any():
                self.send(block.next, lanes)
            else:
                every = np.arange(self.n) if lanes is None else lanes
                self.send(block.targets[0], every[result])
                self.send(block.next, every[~result])
        elif block.kind == "switch":
            every = np.arange(self.n) if lanes is None else lanes
            chosen = np.broadcast_to(result, len(every))
            for i in np.unique(chosen):
                self.send(block.targets[int(i)], every[chosen == i])
        else:
            taken = block.kind == "jump" or (block.kind == "branch" and result)
            self.send(block.targets[0] if taken else block.next, lanes)

    def send(self, at, lanes):
        """Threads go on at a block, with those that are there already."""
        for place in (self.groups, self.held):
            if at in place:
                lanes = self.joined(place.pop(at), lanes)
        self.groups[at] = lanes

    def joined(self, a, b):
        """Threads together; None if they are all."""
        lanes = np.sort(np.concatenate([a, b]))
        return None if len(lanes) == self.n else lanes

    def together(self, at, lanes, block):
        """The threads whose warp is complete; others are held until the missing lanes have come."""
        operand = block.warp
        mask = U4(int(operand, 0) & 0xFFFFFFFF) if operand[0] != "%" else self.register(operand, lanes)
        ready = self.ready(mask, lanes)
        if ready is None:
            return lanes
        every = np.arange(self.n) if lanes is None else lanes
        self.held[at] = every[~ready]
        return every[ready]

    def register(self, name, lanes):
        index = list(self.program.kernel.registers).index(name)
        value = self.R[index].view(U4)
        return value if lanes is None or value.ndim == 0 else value[lanes]

    def leave(self, lanes):
        """Threads exit."""
        every = np.arange(self.n) if lanes is None else lanes
        self.alive[every] = False
        blocks = np.unique(self.block[every])
        gone = blocks[~self.alive.reshape(self.layout.blocks, -1)[blocks].any(axis=1)]
        if self.layout.cluster > 1:
            for block in gone:
                self.expect_unused(int(block))
        self.left[gone] = True
        for at in list(self.held):
            self.send(at, self.held.pop(at))

    # Barriers.

    def release(self):
        """Let threads go on that wait for barriers which are complete; false if none waits."""
        if self.held:
            at, lanes = next(iter(self.held.items()))
            raise Divergence(
                f"{self.thread(lanes, 0)} and {len(lanes) - 1} others wait for lanes of their warps that do not "
                f"come to "
                f"{self.program.blocks[at].code[0].where()}"
            )
        if not self.waiting:
            return False
        for at in sorted(self.waiting):
            lanes = self.waiting.pop(at)
            every = np.arange(self.n) if lanes is None else lanes
            block = self.program.blocks[at]
            free = self.complete_cluster(every) if block.kind == "cluster" else self.complete(every, block)
            if free.any():
                self.go_on(block, every[free])
            if not free.all():
                self.waiting[at] = every[~free]
        if not self.groups:
            self.stuck()
        return True

    def go_on(self, block, lanes):
        lanes = None if len(lanes) == self.n else lanes
        self.cached_actors = None
        if block.kind == "cluster":
            self.clock.count(lanes, "waits")
        else:
            self.clock.passed(lanes, "warp_sync", "block_sync")
        self.send(block.next, lanes)

    def complete(self, lanes, block):
        """Which of the waiting threads' blocks are all there."""
        _, count = block.run(self.R, None, self)
        counts = np.bincount(self.block[lanes], minlength=self.layout.blocks)
        return counts[self.block[lanes]] == (self.layout.threads if count is None else count)

    def complete_cluster(self, lanes):
        arrivals = np.where(self.alive, self.clock.arrivals, 1 << 30)
        least = arrivals.reshape(-1, self.layout.cluster * self.layout.threads).min(axis=1)
        return least[self.block[lanes] // self.layout.cluster] > self.clock.waits[lanes]

    def stuck(self):
        texts = []
        for at, lanes in sorted(self.waiting.items()):
            every = np.arange(self.n) if lanes is None else lanes
            texts.append(f"{len(every)} ({self.thread(every, 0)} first) at {self.program.blocks[at].code[0].where()}")
        gone = int((~self.alive).sum())
        raise Divergence(f"a barrier that not all threads reach: {'; '.join(texts)}; {gone} threads have exited")

    def sync_warps(self, lanes):
        """``bar.warp.sync``: the scheduler has seen to it that the lanes are together."""
        self.cached_actors = None
        self.clock.passed(lanes, "warp_sync")

    def arrive(self, lanes):
        """``barrier.cluster.arrive``."""
        self.cached_actors = None
        self.clock.count(lanes, "arrivals")
        if (self.clock.arrivals - self.clock.waits > 1).any():
            raise Divergence("a thread arrives twice at the cluster's barrier without waiting")
        self.clock.passed(np.zeros(0, I8))

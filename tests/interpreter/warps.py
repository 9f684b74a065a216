"""What the lanes of a warp do together: shuffles, votes, reductions."""

import numpy as np

from tests.interpreter.parse import PtxError

U4, U8, I8 = np.uint32, np.uint64, np.int64
FULL = U4(0xFFFFFFFF)


class Divergence(PtxError):
    """Threads that should be at one instruction together are not, or one takes part that should not."""


class Warps:
    """The part of a machine that knows the lanes of warps; threads are numbered block after block."""

    def lanes_of(self, lanes):
        """(number in the warp, number of the warp's first thread) of the threads that run."""
        return (self.lane, self.base) if lanes is None else (self.lane[lanes], self.base[lanes])

    def shuffle(self, mode, value, b, c, mask, where, lanes):
        """The value of another lane, and whether that lane was within bounds."""
        value = np.broadcast_to(value, self.count(lanes)) if np.ndim(value) == 0 else value
        source, valid = self.sources(mode, b, c, lanes)
        if np.ndim(mask) or mask != FULL:
            self.expect_masked(source, mask, where, lanes)
        if lanes is None:
            if self.layout.threads % 32 and (valid & (source >= self.ends)).any():
                raise Divergence(f"a lane is read that the block does not have in {where}")
            return value[source], valid
        whole, present = np.zeros(self.n, value.dtype), np.zeros(self.n + 32, bool)
        whole[lanes], present[lanes] = value, True
        absent = ~present[source]
        if absent.any():
            i = int(np.nonzero(absent)[0][0])
            raise Divergence(f"{self.thread(lanes, i)} reads a lane that does not take part in {where}")
        return whole[source], valid

    def expect_masked(self, source, mask, where, lanes):
        """Only lanes of the own mask may be read."""
        foreign = (mask >> self.lane[source].astype(U4)) & U4(1) == 0
        if foreign.any():
            i = int(foreign.argmax())
            raise Divergence(f"{self.thread(lanes, i)} reads a lane that is not in its mask in {where}")

    def sources(self, mode, b, c, lanes):
        """(the thread that each one reads from, whether it is within the segment); kept for constant operands."""
        constant = lanes is None and np.ndim(b) == 0 and np.ndim(c) == 0
        key = (mode, int(b), int(c)) if constant else None
        if key is None or key not in self.known_sources:
            lane, base = self.lanes_of(lanes)
            b, clamp, segment = (np.asarray(x).astype(I8) for x in (b & U4(31), c & U4(31), (c >> U4(8)) & U4(31)))
            last, first = (lane & segment) | (clamp & ~segment), lane & segment
            to = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": first | (b & ~segment)}[mode]
            valid = to >= last if mode == "up" else to <= last
            found = base + np.where(valid, to, lane), valid
            if key is None:
                return found
            self.known_sources[key] = found
        return self.known_sources[key]

    def words(self, flags, lanes):
        """For every thread the flags of its warp's threads as bits."""
        lane, _ = self.lanes_of(lanes)
        warp = self.warps(lanes)
        sums = np.bincount(warp, weights=np.where(flags, np.ldexp(1.0, lane), 0.0), minlength=self.warp_count)
        return sums.astype(U8).astype(U4)[warp]

    def vote(self, mode, value, mask, lanes):
        """``vote.sync``."""
        yes = self.words(np.broadcast_to(value, self.count(lanes)), lanes) & mask
        here = self.words(True, lanes) & mask
        return {"ballot": yes, "all": yes == here, "any": yes != 0, "uni": (yes == here) | (yes == 0)}[mode]

    def members(self, mask, lanes):
        """Threads in groups of a warp's lanes with the same mask, for what is rare enough for a loop."""
        mask, warp = np.broadcast_to(mask, self.count(lanes)), self.warps(lanes)
        for pair in np.unique(np.stack([warp, mask.astype(I8)]), axis=1).T:
            yield np.nonzero((warp == pair[0]) & (mask == U4(pair[1])))[0]

    def match(self, mode, value, mask, lanes):
        """``match.sync``: the lanes with the same value, and for ``all`` whether they are all."""
        value, lane = np.broadcast_to(value, self.count(lanes)), self.lanes_of(lanes)[0]
        found, same = np.zeros(len(lane), U4), np.zeros(len(lane), bool)
        for group in self.members(mask, lanes):
            bits = U4(1) << lane[group].astype(U4)
            equal = value[group][:, None] == value[group]
            found[group] = np.where(equal, bits, U4(0)).sum(axis=1, dtype=U4)
            same[group] = equal.all()
        return (np.where(same, found, U4(0)), same) if mode == "all" else (found, same)

    def redux(self, name, value, mask, lanes):
        """``redux.sync``."""
        value = np.broadcast_to(value, self.count(lanes)).copy()
        functions = {"add": np.add, "min": np.minimum, "max": np.maximum}
        functions |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
        for group in self.members(mask, lanes):
            value[group] = functions[name].reduce(value[group])
        return value

    def elect(self, mask, lanes):
        """``elect.sync``: the first lane of the mask."""
        mask = np.broadcast_to(mask, self.count(lanes))
        first = (mask & (~mask + U4(1))).astype(np.float64)
        leader = np.log2(first).astype(U4)
        return leader, leader == self.lanes_of(lanes)[0]

    def active(self, lanes):
        """``activemask``."""
        return self.words(True, lanes)

    def ready(self, mask, lanes):
        """Which threads have all the lanes of their mask beside them, those aside that have exited."""
        if np.ndim(mask) == 0 and mask == FULL and (lanes is None or self.layout.threads == 1):
            return None
        lane = self.lanes_of(lanes)[0].astype(U4)
        if ((mask >> lane) & U4(1) == 0).any():
            i = int(np.nonzero((np.broadcast_to(mask, len(lane)) >> lane) & U4(1) == 0)[0][0])
            raise Divergence(f"{self.thread(lanes, i)} is not in the mask of the instruction that it executes")
        missing = mask & self.alive_words()[self.warps(lanes)] & ~self.words(True, lanes)
        return None if not missing.any() else missing == 0

    def alive_words(self):
        """For every warp the lanes that have not exited."""
        bits = np.where(self.alive, np.ldexp(1.0, self.lane), 0.0)
        return np.bincount(self.warp, weights=bits, minlength=self.warp_count).astype(U8).astype(U4)

"""Which accesses of different threads have nothing between them that orders them.

Every granule of memory has the record of its last write and of its last reads in a launch.  A record is a time, the
number of cluster barriers at which its thread had arrived, and who it was: a thread, or several threads of one warp,
block or cluster.  Two threads are ordered by what both have passed since: a barrier of their warp, of their block, or
(arrived before, waited after) of their cluster.  Threads of different clusters never are.
"""

import numpy as np

U8, I8 = np.uint64, np.int64
TIME, ARRIVALS, CODE = U8(38), U8(30), U8(28)
NAME = U8((1 << 30) - 1)  # code and number
NUMBER = U8((1 << 28) - 1)
THREAD, WARP, BLOCK, CLUSTER = range(4)  # who a record's number counts
ANYBODY = int(NUMBER)


class Actors:
    """The threads that execute one instruction, what orders them, and their record."""

    def __init__(self, layout, lanes, clock):
        pick = (lambda values: values) if lanes is None else (lambda values: values[lanes])
        self.layout = layout
        self.names = pick(layout.names)
        self.warp_sync, self.block_sync = pick(clock.warp_sync), pick(clock.block_sync)
        self.waits, self.arrivals = pick(clock.waits), pick(clock.arrivals)
        self.record = (U8(clock.time) << TIME) | (self.arrivals.astype(U8) << ARRIVALS) | self.names

    def repeated(self, count):
        """The same threads with `count` granules each."""
        other = object.__new__(Actors)
        other.layout = self.layout
        for name in ("names", "warp_sync", "block_sync", "waits", "arrivals", "record"):
            setattr(other, name, np.repeat(getattr(self, name), count))
        return other

    def chosen(self, at):
        """Some of the threads."""
        other = object.__new__(Actors)
        other.layout = self.layout
        for name in ("names", "warp_sync", "block_sync", "waits", "arrivals", "record"):
            setattr(other, name, getattr(self, name)[at])
        return other


class Clock:
    """What the threads of a batch have passed; arrays are replaced, never changed, as old actors hold them."""

    def __init__(self, n):
        self.time = 1
        self.warp_sync = self.block_sync = np.zeros(n, I8)
        self.waits = self.arrivals = np.zeros(n, I8)

    def passed(self, lanes, *names):
        """Threads have passed a barrier together."""
        self.time += 1
        for name in names:
            setattr(self, name, self.changed(getattr(self, name), lanes, self.time))

    def count(self, lanes, name):
        """Threads have arrived at a cluster's barrier, or waited for it."""
        values = getattr(self, name)
        setattr(self, name, self.changed(values, lanes, (values if lanes is None else values[lanes]) + 1))

    @staticmethod
    def changed(values, lanes, new):
        values = values.copy()
        values[slice(None) if lanes is None else lanes] = new
        return values


def whose(records, layout):
    """(warp, block, cluster) of records; -1 where they are of several."""
    code, number = (records >> CODE & U8(3)).astype(I8), (records & NUMBER).astype(I8)
    block = np.where(code == THREAD, number // layout.threads, np.where(code == WARP, number // layout.warps, number))
    warp = np.where(code == THREAD, block * layout.warps + number % layout.threads // 32, number)
    cluster = np.where(code == CLUSTER, np.where(number == ANYBODY, -1, number), block // layout.cluster)
    return np.where(code <= WARP, warp, -1), np.where(code <= BLOCK, block, -1), cluster


def unordered(records, actors):
    """Where a record is of another thread and nothing orders the two; None for nowhere."""
    others = np.nonzero((records & NAME != actors.names) & (records != 0))[0]
    if not len(others):
        return None
    records, actors = records[others], actors.chosen(others)
    layout, time = actors.layout, (records >> TIME).astype(I8)
    warp, block, cluster = whose(records, layout)
    own_warp, own_block, own_cluster = whose(actors.names, layout)
    ordered = (warp == own_warp) & (time < actors.warp_sync)
    ordered |= (block == own_block) & (time < actors.block_sync)
    ordered |= (cluster == own_cluster) & ((records >> ARRIVALS & U8(255)).astype(I8) < actors.waits)
    found = others[~ordered]
    return found if len(found) else None


def together(a, b, layout):
    """One record for the readers of two."""
    (wa, ba, ca), (wb, bb, cb) = whose(a, layout), whose(b, layout)
    same_warp, same_block, same_cluster = (wa == wb) & (wa >= 0), (ba == bb) & (ba >= 0), (ca == cb) & (ca >= 0)
    code = np.where(same_warp, WARP, np.where(same_block, BLOCK, CLUSTER)).astype(U8)
    cluster = np.where(same_cluster, ca, ANYBODY)
    number = np.where(same_warp, wa, np.where(same_block, ba, cluster)).astype(U8)
    newest = np.maximum(a, b) >> ARRIVALS << ARRIVALS
    return newest | (code << CODE) | number


class Shadow:
    """The records of a piece of memory, for each width of access its own; `unit` is the widest."""

    def __init__(self, size, widths):
        self.size, self.widths, self.unit = size, widths, max(widths)
        self.writes, self.reads, self.touched = {}, {}, {}

    def records(self, table, width):
        if width not in table:
            table[width] = np.zeros(self.size // width + 1, U8)
        return table[width]

    def granules(self, table, width, offsets):
        """For each width with records among the bytes: (records, their indices, granules of one access, positions)."""
        for other, records in table.items():
            if other >= width:
                yield records, offsets // other, 1, None
                continue
            hit = np.nonzero(self.flags(other)[offsets // self.unit])[0]
            if len(hit):
                parts = (offsets[hit, None] + np.arange(0, width, other)) // other
                yield records, parts.reshape(-1), width // other, hit

    def flags(self, width):
        """Which units were accessed with this width."""
        if width not in self.touched:
            self.touched[width] = np.zeros(self.size // self.unit + 1, bool)
        return self.touched[width]

    def search(self, table, width, offsets, actors):
        """The position of an access that races with what is recorded, and that record; or None."""
        for records, index, count, hit in self.granules(table, width, offsets):
            who = actors if hit is None else actors.chosen(hit)
            found = unordered(records[index], who.repeated(count) if count > 1 else who)
            if found is not None:
                position = found[0] // count
                return (position if hit is None else hit[position]), records[index[found[0]]]
        return None

    def load(self, offsets, width, actors):
        """Record reads; the first race with a write, or None."""
        race = self.search(self.writes, width, offsets, actors) if self.writes else None
        self.read(offsets, width, actors)
        return race

    def read(self, offsets, width, actors):
        """Keep who has read: the last one, or that there were several."""
        records, index = self.records(self.reads, width), offsets // width
        if width < self.unit:
            self.flags(width)[offsets // self.unit] = True
        old = records[index]
        records[index] = actors.record
        before = unordered(old, actors) if old.any() else None
        if before is not None:
            records[index[before]] = together(old[before], actors.record[before], actors.layout)
        now = records[index]
        several = np.nonzero(now & NAME != actors.names)[0]
        if len(several):
            joined = together(now[several], actors.record[several], actors.layout)
            code = joined >> CODE & U8(3)
            for level in (WARP, BLOCK, CLUSTER):
                chosen = code == level
                records[index[several[chosen]]] = joined[chosen]

    def store(self, offsets, width, actors):
        """Record writes; the first race with a read or a write, or None."""
        race = self.search(self.writes, width, offsets, actors) if self.writes else None
        race = race or (self.search(self.reads, width, offsets, actors) if self.reads else None)
        records, index = self.records(self.writes, width), offsets // width
        if width < self.unit:
            self.flags(width)[offsets // self.unit] = True
        records[index] = actors.record
        lost = np.nonzero(records[index] & NAME != actors.names)[0]
        if len(lost) and not race:
            race = lost[0], records[index[lost[0]]]
        return race

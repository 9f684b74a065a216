"""The state spaces of PTX: where an address leads, and what an access is checked for."""

import numpy as np

from tests.interpreter.memory import (
    WORDS,
    Misaligned,
    OutOfBounds,
    Race,
    Traffic,
    Uninitialised,
    atomically,
    columns,
    count_sectors,
    rows,
    spread,
)
from tests.interpreter.parse import PtxError
from tests.interpreter.races import Shadow

U8, I8 = np.uint64, np.int64


class Space:
    """A state space of a batch of threads: everything but where an address leads."""

    def __init__(self, machine):
        self.machine = machine

    def aligned(self, site, address, lanes):
        """The addresses of all threads, or an error."""
        address = spread(address, self.machine.count(lanes))
        wrong = address & U8(site.width - 1)
        if wrong.any():
            i = int(np.nonzero(wrong)[0][0])
            raise Misaligned(
                f"address {int(address[i]):#x} of {self.machine.thread(lanes, i)} is no multiple of "
                f"{site.width} bytes in {site.instruction.where()}"
            )
        return address

    def fresh(self, site, i, lanes, what):
        raise Uninitialised(
            f"{self.machine.thread(lanes, i)} reads {what}, which nothing was written to, in {site.instruction.where()}"
        )

    def race(self, site, found, lanes, what):
        position, record = found
        raise Race(
            f"{self.machine.thread(lanes, position)} in {site.instruction.where()} races with "
            f"{self.machine.describe(record)} for {what}: no barrier orders them"
        )


class Global(Space):
    """Global memory in one launch."""

    def __init__(self, machine, memory, widths, races):
        super().__init__(machine)
        self.memory, self.widths, self.races = memory, widths, races
        self.traffic, self.shadows, self.logs, self.last = {}, {}, {}, {}

    def parts(self, site, address, lanes):
        """(buffer, positions among the threads or None for all, addresses) of an access."""
        low, high = int(address.min()), int(address.max())
        buffer = self.last.get(id(site))
        if buffer is None or not (buffer.address <= low and high + site.width <= buffer.end):
            buffer = self.last[id(site)] = self.memory.at(low)
        if buffer is not None and buffer.address <= low and high + site.width <= buffer.end:
            return [(buffer, None, address)]
        return self.several(site, address, lanes)

    def several(self, site, address, lanes):
        starts = np.array(self.memory.starts, U8)
        number = np.maximum(np.searchsorted(starts, address, side="right").astype(I8) - 1, 0)
        result = []
        for i in np.unique(number) if len(starts) else ():
            buffer, at = self.memory.buffers[i], np.nonzero(number == i)[0]
            chosen = address[at]
            outside = (chosen < U8(buffer.address)) | (chosen > U8(max(buffer.end - site.width, 0)))
            if outside.any():
                self.outside(site, int(at[np.nonzero(outside)[0][0]]), address, lanes, buffer)
            result.append((buffer, at, chosen))
        if not len(starts):
            self.outside(site, 0, address, lanes, None)
        return result

    def outside(self, site, i, address, lanes, buffer):
        where = int(address[i])
        near = f"offset {where - buffer.address} from the start of {buffer}" if buffer else "no buffer at all"
        raise OutOfBounds(
            f"{self.machine.thread(lanes, i)} accesses {site.width} bytes at {where:#x}, {near}, "
            f"in {site.instruction.where()}"
        )

    def load(self, site, address, lanes):
        address = self.aligned(site, address, lanes)
        parts = self.parts(site, address, lanes)
        raw = None
        for buffer, at, chosen in parts:
            words, first = buffer.words(site.width)
            index = (chosen - U8(first)) // U8(site.width)
            self.note(site, buffer, at, chosen, lanes, "load")
            if buffer.written is not None:
                self.expect_written(site, buffer, at, index, lanes)
            values = words.take(index.view(I8))
            if at is None:
                raw = values
            else:
                raw = np.empty(len(address), values.dtype) if raw is None else raw
                raw[at] = values
        return columns(raw, site)

    def store(self, site, address, values, lanes):
        address = self.aligned(site, address, lanes)
        raw = rows(values, site, len(address))
        for buffer, at, chosen in self.parts(site, address, lanes):
            if not buffer.writable:
                raise PtxError(f"a write to {buffer}, which is only to be read, in {site.instruction.where()}")
            words, first = buffer.words(site.width)
            index = ((chosen - U8(first)) // U8(site.width)).view(I8)
            self.note(site, buffer, at, chosen, lanes, "store")
            words[index] = raw if at is None else raw[at]
            if buffer.written is not None:
                buffer.words(site.width, "written")[0][index] = np.full(site.width, 255, np.uint8).view(
                    WORDS[site.width]
                )[0]

    def expect_written(self, site, buffer, at, index, lanes):
        marks = buffer.words(site.width, "written")[0].take(index.view(I8)).view(np.uint8).reshape(len(index), -1)
        if not marks.all():
            i = int(np.nonzero(~marks.all(axis=1))[0][0])
            self.fresh(site, i if at is None else int(at[i]), lanes, f"part of {buffer}")

    def atomic(self, site, name, address, values, lanes):
        address = self.aligned(site, address, lanes)
        old = np.empty(len(address), site.dtype)
        values = [spread(value, len(address)) for value in values]
        for buffer, at, places in self.parts(site, address, lanes):
            words, first = buffer.words(site.width)
            index = ((places - U8(first)) // U8(site.width)).view(I8)
            chosen = np.arange(len(address)) if at is None else at
            self.traffic_of(buffer).atomics += len(chosen)
            if buffer.written is not None:
                self.expect_written(site, buffer, at, index.view(U8), lanes)
            old[chosen] = atomically(name, words.view(site.dtype), index, [value[chosen] for value in values])
        return old

    def traffic_of(self, buffer):
        return self.traffic.setdefault(buffer.name, Traffic())

    def note(self, site, buffer, at, address, lanes, what):
        """Count an access and look for races."""
        machine = self.machine
        traffic, n = self.traffic_of(buffer), len(address)
        warps = machine.warps(lanes) if at is None else machine.warps(lanes)[at]
        sectors = count_sectors(address, warps, site.width)
        if what == "load":
            traffic.loaded += n * site.width
            traffic.loads[site.width] += n
            traffic.load_sectors += sectors
        else:
            traffic.stored += n * site.width
            traffic.stores[site.width] += n
            traffic.store_sectors += sectors
        if self.races:
            actors = machine.actors(lanes)
            self.look(site, buffer, at, address, actors if at is None else actors.chosen(at), lanes, what)

    def look(self, site, buffer, at, address, actors, lanes, what):
        """Reads are kept aside until somebody writes to the buffer, as most buffers are only read."""
        first = buffer.address // 32 * 32
        offsets = (address - U8(first)).view(I8)
        if what == "load" and buffer.name not in self.shadows:
            self.logs.setdefault(buffer.name, []).append((offsets, site.width, actors))
            return
        if buffer.name not in self.shadows:
            shadow = self.shadows[buffer.name] = Shadow(buffer.end - first, self.widths)
            for entry in self.logs.pop(buffer.name, ()):
                shadow.read(*entry)
        found = getattr(self.shadows[buffer.name], what)(offsets, site.width, actors)
        if found is not None:
            position = int(found[0])
            where = f"{site.width} bytes at offset {int(address[position]) - buffer.address} of {buffer}"
            self.race(site, (position if at is None else int(at[position]), found[1]), lanes, where)


class OnChip(Space):
    """Memory that belongs to a block (shared) or to a thread (local): `stride` bytes for each owner."""

    def __init__(self, machine, kind, size, owners, widths, races):
        super().__init__(machine)
        self.kind, self.size = kind, size
        self.stride = -(-max(size, 1) // 32) * 32
        self.data = np.zeros(self.stride * owners, np.uint8)
        self.written = np.zeros(self.stride * owners, np.uint8)
        self.shadow = Shadow(len(self.data), widths or [1]) if races else None

    def places(self, site, address, lanes):
        """The offsets in the data of all owners."""
        address = self.aligned(site, address, lanes)
        offset, owner = self.owners(address, lanes, site)
        # Not offset + width: what is before the start wraps around.
        outside = offset > U8(max(self.size - site.width, 0))
        if outside.any() or self.size < site.width:
            i = int(outside.argmax())
            raise OutOfBounds(
                f"{self.machine.thread(lanes, i)} accesses {site.width} bytes at offset {int(offset[i]):#x} of "
                f"{self.size} bytes of {self.kind} memory in {site.instruction.where()}"
            )
        return offset.view(I8) + owner * self.stride

    def owners(self, address, lanes, site):
        return address, self.machine.owner(self.kind, lanes)

    def load(self, site, address, lanes):
        place = self.places(site, address, lanes)
        index = place // site.width
        marks = self.written.view(WORDS[site.width]).take(index).view(np.uint8)
        if not marks.all():
            i = int(np.nonzero(marks.reshape(len(index), -1).min(axis=1) == 0)[0][0])
            self.fresh(site, i, lanes, f"{self.kind} memory at offset {int(place[i] % self.stride)}")
        self.look(site, place, lanes, "load")
        return columns(self.data.view(WORDS[site.width]).take(index), site)

    def store(self, site, address, values, lanes):
        place = self.places(site, address, lanes)
        index = place // site.width
        self.look(site, place, lanes, "store")
        self.data.view(WORDS[site.width])[index] = rows(values, site, len(index))
        self.written.view(WORDS[site.width])[index] = np.full(site.width, 255, np.uint8).view(WORDS[site.width])[0]

    def atomic(self, site, name, address, values, lanes):
        index = self.places(site, address, lanes) // site.width
        if not self.written.view(WORDS[site.width]).take(index).view(np.uint8).all():
            self.fresh(site, 0, lanes, f"{self.kind} memory")
        words = self.data.view(site.dtype)
        return atomically(name, words, index, [spread(value, len(index)) for value in values])

    def look(self, site, place, lanes, what):
        if self.shadow is None:
            return
        found = getattr(self.shadow, what)(place, site.width, self.machine.actors(lanes))
        if found is not None:
            i = int(found[0])
            self.race(site, (i, found[1]), lanes, f"offset {int(place[i] % self.stride)} of {self.kind} memory")

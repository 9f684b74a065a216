"""What threads know of themselves and of their launch: special registers, parameters, names for messages."""

import math

import numpy as np

from tests.interpreter.parse import DTYPES, PtxError
from tests.interpreter.races import Actors, whose

U4, U8 = np.uint32, np.uint64


class Knowledge:
    """The part of a machine that does not change while it runs."""

    def count(self, lanes):
        return self.n if lanes is None else len(lanes)

    def warps(self, lanes):
        return self.warp if lanes is None else self.warp[lanes]

    def owner(self, kind, lanes):
        owners = self.block if kind == "shared" else np.arange(self.n)
        return owners if lanes is None else owners[lanes]

    def actors(self, lanes):
        cached = self.cached_actors
        if cached is None or cached[0] is not lanes or cached[2] != self.clock.time:
            self.cached_actors = cached = (lanes, Actors(self.layout, lanes, self.clock), self.clock.time)
        return cached[1]

    def thread(self, lanes, i):
        number = int(i if lanes is None else lanes[i])
        return f"thread {number % self.layout.threads} of block {self.layout.first + number // self.layout.threads}"

    def describe(self, record):
        record = np.array([record], U8)
        code, number = int(record[0] >> U8(28) & U8(3)), int(record[0] & U8((1 << 28) - 1))
        if code == 0:
            return f"thread {number % self.layout.threads} of block {number // self.layout.threads}"
        _, block, _ = whose(record, self.layout)
        return f"several threads of block {int(block[0])}" if block[0] >= 0 else "threads of several blocks"

    def parameter(self, offset, dtype):
        return np.frombuffer(self.launch.parameters, dtype, 1, offset)[0]

    def rough(self, value, ulps, approximate):
        """A result that is as wrong as the hardware's may be, if the launch asks for that."""
        if not (approximate and self.launch.rough) or value.dtype != np.float32:
            return value
        noise = ((value.view(U4) * U4(2654435761)) >> U4(8)).astype(np.float64) / (1 << 23) - 1
        moved = (value.astype(np.float64) * (1 + noise * ulps / (1 << 23))).astype(np.float32)
        # Powers of 2 are exact: NVIDIA's own tanh of float64 counts on it.
        return np.where(value.view(U4) & U4(0x7FFFFF), moved, value)

    def trap(self, where, lanes):
        raise PtxError(f"{self.thread(lanes, 0)} executes {where}")

    def special(self, name, lanes):
        if name not in self.known_special:
            self.known_special[name] = self.compute_special(name)
        value = self.known_special[name]
        return value if lanes is None or value.ndim == 0 else value[lanes]

    def compute_special(self, name):
        layout = self.layout
        block = self.block + layout.first
        base, _, axis = name[1:].partition(".")
        axis = "xyz".find(axis) if axis else 0
        coordinates = {
            "tid": (self.thread_number, layout.block),
            "ctaid": (block, layout.grid),
            "cluster_ctaid": (block % layout.cluster, (layout.cluster, 1, 1)),
            "clusterid": (block // layout.cluster, (layout.grid[0] // layout.cluster, *layout.grid[1:])),
        }
        if base in coordinates:
            number, extents = coordinates[base]
            return (number // math.prod(extents[:axis]) % extents[axis]).astype(U4)
        extents = {
            "ntid": layout.block,
            "nctaid": layout.grid,
            "cluster_nctaid": (layout.cluster, 1, 1),
            "nclusterid": (layout.grid[0] // layout.cluster, *layout.grid[1:]),
        }
        if base in extents:
            return U4(extents[base][axis])
        return self.other_special(base, block)

    def other_special(self, base, block):
        size = self.program.kernel.shared + self.launch.shared
        bit = U4(1) << self.lane.astype(U4)
        values = {
            "laneid": self.lane.astype(U4),
            "warpid": (self.thread_number // 32).astype(U4),
            "nwarpid": U4(self.layout.warps),
            "cluster_ctarank": (block % self.layout.cluster).astype(U4),
            "cluster_nctarank": U4(self.layout.cluster),
            "lanemask_eq": bit,
            "lanemask_lt": bit - U4(1),
            "lanemask_le": bit | (bit - U4(1)),
            "lanemask_gt": ~(bit | (bit - U4(1))),
            "lanemask_ge": ~(bit - U4(1)),
            "dynamic_smem_size": U4(self.launch.shared),
            "total_smem_size": U4(size),
        }
        if base not in values:
            raise PtxError(f"unknown special register %{base}")
        return values[base]


def argument_bytes(kernel, arguments):
    """The block of parameters."""
    if len(arguments) != len(kernel.parameters):
        raise PtxError(f"expected {len(kernel.parameters)} arguments, got {len(arguments)}")
    end = max((offset + size for _, _, offset, size in kernel.parameters), default=0)
    data = bytearray(end)
    for (name, kind, offset, size), value in zip(kernel.parameters, arguments, strict=True):
        dtype = np.dtype(DTYPES[kind])
        if isinstance(value, np.generic):
            raw = value.tobytes()
        elif isinstance(value, float):
            raw = np.array(value, dtype if dtype.kind == "f" else f"f{size}").tobytes()
        else:
            raw = (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        if len(raw) != size or (dtype.kind == "f" and isinstance(value, int | np.integer)):
            raise PtxError(f"expected {kind} for {name[-12:]}, got {value!r}")
        data[offset : offset + size] = raw
    return bytes(data)

"""Executes the PTX of compiled kernels on the CPU, with NumPy over all threads at once.

    memory = Memory()
    x = memory.add(array, "x")
    result = launch(program(text), memory, grid, block, (x, n), shared=0)

Every access is checked: within a buffer, aligned, initialised, ordered with those of other threads by a barrier.  What
this shows is that a kernel computes the right values in any order of its threads, and how many bytes it moves; it is
no GPU, and says nothing about speed, nor about what the hardware's assembler makes of the text.
"""

from dataclasses import dataclass, field

import numpy as np

from tests.interpreter.compile import Program, program
from tests.interpreter.knowledge import argument_bytes
from tests.interpreter.memory import Memory, Misaligned, OutOfBounds, Race, Traffic, Uninitialised
from tests.interpreter.parse import PtxError, Unsupported
from tests.interpreter.spaces import Global
from tests.interpreter.threads import Endless, Layout, Machine
from tests.interpreter.warps import Divergence

__all__ = [
    "Divergence",
    "Endless",
    "Launch",
    "Memory",
    "Misaligned",
    "OutOfBounds",
    "Program",
    "PtxError",
    "Race",
    "Traffic",
    "Uninitialised",
    "Unsupported",
    "launch",
    "program",
]
BATCH = 8192  # threads at a time: their registers stay in the caches
LARGEST_SHARED = 227 * 1024


@dataclass
class Launch:
    """One launch: its settings, and what was counted."""

    parameters: bytes
    shared: int
    races: bool
    rough: bool
    limit: int
    global_: Global
    symbols: dict = field(default_factory=dict)
    steps: int = 0
    instructions: int = 0

    @property
    def traffic(self):
        """Bytes and accesses for each buffer, by its name."""
        return self.global_.traffic


def launch(kernel, memory, grid, block, arguments, shared=0, cluster=1, *, races=True, rough=False, limit=1_000_000,
           only=None):  # fmt: skip
    """Run a kernel.

    Parameters
    ----------
    kernel : Program
        From `program`.
    memory : Memory
        The buffers that the kernel may access.
    grid, block : int or tuple
        How many blocks, and how many threads each.
    arguments : tuple
        Integers, floats and NumPy scalars, as the kernel declares them.
    shared : int
        Bytes of dynamic shared memory.
    cluster : int
        Blocks of a cluster.
    races : bool
        Look for races.
    rough : bool
        Approximate instructions are wrong by what is documented for them, instead of correctly rounded.
    limit : int
        How many steps (runs of a basic block) there may be.
    only : range
        The blocks of the grid that are run; None: all of them.

    Returns
    -------
    Launch
        With `traffic`, `steps` and `instructions`.
    """
    grid, block = (((extent,) if isinstance(extent, int | np.integer) else tuple(extent)) for extent in (grid, block))
    grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
    check(kernel.kernel, grid, block, shared, cluster)
    state = Launch(
        argument_bytes(kernel.kernel, arguments),
        shared,
        races,
        rough,
        limit,
        Global(None, memory, kernel.widths("global") or [1], races),
    )
    tables = [symbol for symbol in kernel.kernel.symbols.values() if symbol.space in ("global", "const")]
    for symbol in tables:
        data = np.frombuffer(bytearray(symbol.data or bytes(symbol.size)), np.uint8)
        state.symbols[symbol.name] = np.uint64(memory.add(data, symbol.name, writable=symbol.space == "global"))
    try:
        with np.errstate(all="ignore"):
            run(kernel, state, grid, block, cluster, only)
    finally:
        for address in state.symbols.values():
            memory.remove(int(address))
    return state


def run(kernel, state, grid, block, cluster, only=None):
    """All blocks or some, as many at a time as there are threads in a batch."""
    threads = int(np.prod(block))
    blocks = only or range(int(np.prod(grid)))
    together = max(BATCH // (threads * cluster), 1) * cluster
    for first in range(blocks.start, blocks.stop, together):
        layout = Layout(grid, block, cluster, first, min(together, blocks.stop - first))
        Machine(kernel, layout, state).run()


def check(kernel, grid, block, shared, cluster):
    """What a driver would refuse."""
    threads = int(np.prod(block))
    if not 0 < threads <= kernel.threads:
        raise PtxError(f"expected at most {kernel.threads} threads a block, got {threads}")
    if min(grid) < 1 or grid[0] >= 1 << 31 or max(grid[1:]) > 65535:
        raise PtxError(f"expected a grid of 1 to 2**31 - 1 blocks, got {grid}")
    if grid[0] % cluster or not 1 <= cluster <= 16 or kernel.cluster not in (0, cluster):
        raise PtxError(
            f"a cluster of {cluster} blocks does not suit a grid of {grid} and the kernel's {kernel.cluster}"
        )
    if kernel.shared + shared > LARGEST_SHARED:
        raise PtxError(f"expected at most {LARGEST_SHARED} bytes of shared memory, got {kernel.shared} + {shared}")

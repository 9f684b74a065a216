"""What the tests of the GPU kernels share: compiling and taking apart, all without a GPU."""

import collections
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

compiler = pytest.importorskip(
    "fastsoftmax.cuda.toolkit.compiler",
    reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]>=0.30,<0.31'",
    exc_type=ImportError,
)


class Built(NamedTuple):
    """What a compiled kernel consists of."""

    registers: int
    stack: int  # bytes a thread
    local: int
    shared: int  # bytes of static shared memory
    operations: collections.Counter  # instructions by their full names
    listing: list  # (name, operands) in order

    def count(self, pattern):
        """How many instructions have names that begin with a pattern."""
        return sum(n for name, n in self.operations.items() if re.match(pattern, name))


def _tool(name):
    pathfinder = pytest.importorskip("cuda.pathfinder")
    found = pathfinder.find_nvidia_binary_utility(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install '.[cuda-build]'")
    return found


def _output(*command):
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*) *([^;]*?) *;")
USED = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@lru_cache(maxsize=512)
def taken_apart(code):
    """What machine code consists of."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(code)
        used = _output(_tool("cuobjdump"), "-res-usage", path)
        listing = INSTRUCTION.findall(_output(_tool("nvdisasm"), "-c", "-ndf", path))
    # The largest of those of the kernel and of what it calls: a division in float64 is a function of its own.
    registers, stack, shared, local = (max(map(int, numbers)) for numbers in zip(*USED.findall(used), strict=True))
    return Built(registers, stack, local, shared, collections.Counter(name for name, _ in listing), listing)

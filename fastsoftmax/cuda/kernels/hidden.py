"""What is hidden from the compilers, so that registers and loads are what the passes over a row say.

Both hide a number that is 0, as grids have one dimension: the second coordinate of a block.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED
from ..toolkit.compiler import cuda, device, types
from .memory import again

u32 = types.uint32
ACCESS = 4  # words of the widest access


@lru_cache(maxsize=64)
def forgetting(kind, count):
    """``forget(words)``: half types are unpacked again in the next pass.

    Kept unpacked from pass to pass, 64 of them took all of an A100's 255 registers, or 200 bytes of local memory.
    """
    count = 0 if kind == COMPUTED[kind] else count

    @device
    def forget(words):
        nothing = u32(cuda.blockIdx.y)
        for i in range(count):
            words[i] = again(words[i], nothing)

    return forget


@lru_cache(maxsize=64)
def waiting(loaded, step, count):
    """``wait(some, words)``: `words`, of which there are `count`, are used when all of `some` are loaded, not before.

    Those are `loaded` words, `step` of each vector.  The assembler puts loads behind the first uses of what other loads
    bring, or those uses before other loads; then the memory is waited for once more.
    """
    step = min(step, ACCESS)

    @device
    def wait(some, words):
        one = some[0]
        for i in range(step, loaded, step):
            one = u32(one | some[i])
        if loaded % step:
            one = u32(one | some[loaded - 1])
        nothing = u32(one & u32(cuda.blockIdx.y))
        for i in range(count):
            words[i] = again(words[i], nothing)

    return wait

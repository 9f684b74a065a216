"""Numbers hidden from the compilers, so that registers and loads are what the passes over a row say.

Both functions hide a 0: the second coordinate of a block, as grids have one dimension.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED
from ..toolkit.compiler import cuda, device, types
from .memory import opaque

u32 = types.uint32
ACCESS = 4  # words of the widest access


@lru_cache(maxsize=64)
def make_unpack_again(kind, count):
    """``unpack_again(words)``: have the next pass unpack half types again.

    Kept unpacked from pass to pass, 64 of them took all of an A100's 255 registers, or 200 bytes of local memory.
    """
    count = 0 if kind == COMPUTED[kind] else count

    @device
    def unpack_again(words):
        zero = u32(cuda.blockIdx.y)
        for i in range(count):
            words[i] = opaque(words[i], zero)

    return unpack_again


@lru_cache(maxsize=64)
def make_wait_for_loads(loaded, step, count):
    """``wait_for_loads(some, words)``: use the `count` words of `words` when all of `some` are loaded, not before.

    Those are `loaded` words, `step` of each vector.  The assembler puts loads behind the first uses of what other loads
    bring, or those uses before other loads; then the memory is waited for once more.
    """
    step = min(step, ACCESS)

    @device
    def wait_for_loads(some, words):
        one = some[0]
        for i in range(step, loaded, step):
            one = u32(one | some[i])
        if loaded % step:
            one = u32(one | some[loaded - 1])
        zero = u32(one & u32(cuda.blockIdx.y))
        for i in range(count):
            words[i] = opaque(words[i], zero)

    return wait_for_loads

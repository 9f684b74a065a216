"""Adjusted logits: after softcap and temperature, plus a number for each class, without classes that a mask leaves out.

Logits are adjusted as they are loaded, and written to words of the computing dtype: the passes over them read them as
if they had come like that.  A class that is left out is -inf, whatever its logit was.
"""

from functools import lru_cache

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import device, types
from .laws import LAWS
from .memory import constant, load_byte, number_access
from .vectors import make_transform
from .words import make_blank, make_get, make_put

i32, u32, i64 = types.int32, types.uint32, types.int64


@lru_cache(maxsize=64)
def make_adjust_vector(kind, vector, flags):
    """``adjust_vector(p, o, mask, raw, at, words, to, j, live)``: adjust a vector whose first class is `j`.

    It goes from ``raw[at:]`` to ``words[to:]``; all of it is -inf if it is not `live`.  The row's mask is at `mask`.
    """
    computed = COMPUTED[kind]
    law, transform = LAWS[computed]["adjusted"], make_transform(computed, flags._replace(adjusted=False))
    get, put, blank = make_get(kind), make_put(computed), make_blank(computed, vector)
    read, size, offset, masked = number_access(computed)[0], ITEMSIZE[computed], flags.offset, flags.mask
    zero, minus_inf = constant(computed, 0.0), constant(computed, float("-inf"))

    @device
    def adjust_vector(p, o, mask, raw, at, words, to, j, live):
        if live:
            for k in range(vector):
                by, place = zero, i64(i32(j + i32(k)))
                if offset:
                    by = read(p.offset + place * size)
                if masked:
                    by = by if load_byte(mask + place * p.mask_step) != u32(0) else minus_inf
                put(words, to, k, law(transform(o, get(raw, at, k)), by))
        else:
            blank(words, to)

    return adjust_vector


@lru_cache(maxsize=64)
def make_adjust(shape, flags):
    """``adjust(p, o, part, raw, words)``: the same of all that a thread holds."""
    adjust_vector, adjust_spare = (make_adjust_vector(shape.kind, vector, flags) for vector in (shape.vector, 1))
    items, step, peeled, threads = shape.items, shape.threads * shape.vector, shape.peeled, shape.threads
    plain = shape._replace(adjusted=False)
    count, spare, wide, wide_spare = plain.words, plain.spare, shape.words, shape.spare

    @device
    def adjust(p, o, part, raw, words):
        if peeled:
            adjust_spare(p, o, part.mask, raw, spare, words, wide_spare, part.spare_j, part.spare)
        for i in range(items):
            j, live = i32(part.j + i32(i * step)), i32(i * threads) < part.left
            adjust_vector(p, o, part.mask, raw, i * count, words, i * wide, j, live)

    return adjust

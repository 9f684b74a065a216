"""Two rows that threads hold together, as a student's and its teacher's: loaded, without classes that are masked."""

from functools import lru_cache

from ...core.dtypes import PROB
from ..toolkit.compiler import device, types
from .hidden import make_wait_for_loads
from .memory import load_byte
from .words import make_load, make_remove, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64


@lru_cache(maxsize=64)
def _make_leave_out(kind, y_kind, vector, flags, teacher):
    """``leave_out(p, mask, words, at, y_at, j)``: the classes from `j` on that a mask leaves out, out of both rows."""
    second = teacher is not None
    remove, remove_y, masked = make_remove(kind), make_remove(y_kind, zero=teacher == PROB), flags.mask

    @device
    def leave_out(p, mask, words, at, y_at, j):
        if masked:
            for k in range(vector):
                if load_byte(mask + i64(i32(j + i32(k))) * p.mask_step) == u32(0):
                    remove(words, at, k)
                    if second:
                        remove_y(words, y_at, k)

    return leave_out


@lru_cache(maxsize=64)
def make_fill(shape, flags, teacher):
    """(fill, fill_spare) of all that a thread holds of both rows, and how many words that takes.

    Without a second row (a `teacher` of None) that is the first one alone.
    """
    kinds = (shape.kind, shape.vector), (shape.y_kind, shape.vector), (shape.kind, 1), (shape.y_kind, 1)
    (load, load_y, load_one, load_one_y), one = (make_load(*k) for k in kinds), words_of(shape.kind, 1)
    words_x, items, threads, second = shape.words, shape.items, shape.threads, teacher is not None
    count = words_x + (shape.y_words if second else 0)
    spare, peeled, step = items * count, shape.peeled, threads * shape.vector
    held = spare + (one + (words_of(shape.y_kind, 1) if second else 0) if peeled else 0)
    leave_out, leave_out_spare = (
        _make_leave_out(shape.kind, shape.y_kind, n, flags, teacher) for n in (shape.vector, 1)
    )
    wait_for_loads = make_wait_for_loads(held, words_x, held)

    @device
    def fill_spare(p, o, part, words):
        if peeled and part.spare:
            load_one(words, spare, part.spare_x)
            if second:
                load_one_y(words, spare + one, part.spare_y)
            leave_out_spare(p, part.mask, words, spare, spare + one, part.spare_j)

    @device
    def fill(p, o, part, words):
        fill_spare(p, o, part, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                load(words, i * count, part.x + i * part.x_way)
                if second:
                    load_y(words, i * count + words_x, part.y + i * part.y_way)
        wait_for_loads(words, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                j = i32(part.j + i32(i * step))
                leave_out(p, part.mask, words, i * count, i * count + words_x, j)

    return fill, fill_spare, held

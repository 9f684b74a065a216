"""Places of rows in memory, and the elements of a row that each of its threads works on.

A row is a head of up to a vector less one element, whole vectors, and a tail: vectors begin where their addresses are
multiples of their size.  Thread `g` of the row's `threads` has the vectors ``g, g + threads, ...`` and one element of
head or tail (`spare`).
"""

from collections import namedtuple
from functools import lru_cache
from typing import NamedTuple

from ...core.dtypes import COMPUTED, ITEMSIZE
from ..toolkit.compiler import device, types
from .words import words_of


class Shape(NamedTuple):
    """The constants of a kernel that say how threads share a row, and which registers hold a thread's elements."""

    kind: int  # storage of the logits
    y_kind: int  # storage of the second operand
    vector: int  # elements of an access; 1 where classes are not contiguous
    items: int  # vectors that a thread holds
    threads: int  # of a row
    peeled: bool  # rows begin and end in the midst of a vector
    adjusted: bool = False  # registers hold logits as the loss sees them, in the computing dtype

    @property
    def word_kind(self):
        """The kind of the logits in registers."""
        return COMPUTED[self.kind] if self.adjusted else self.kind

    @property
    def words(self):
        """Words of a vector."""
        return words_of(self.word_kind, self.vector)

    @property
    def y_words(self):
        """Words of a vector of the second operand."""
        return words_of(self.y_kind, self.vector)

    @property
    def spare(self):
        """The place of the spare element, behind the words of the vectors."""
        return self.items * self.words

    @property
    def held(self):
        """Words that a thread holds."""
        return self.spare + (words_of(self.word_kind, 1) if self.peeled else 0)

    def targets(self, flags):
        """Words of soft targets that a thread holds; 1, of an array that nobody uses, where there are none."""
        return self.items * self.y_words + (words_of(self.y_kind, 1) if self.peeled else 0) if flags.soft else 1


#: A thread's part of a row: addresses of its first vector in each operand, the way in bytes to the next ones, the class
#: that the first vector begins with, how many vectors there are from the first on, and the same of its spare element;
#: and where the row's mask begins, if its logits are adjusted.
Part = namedtuple("Part", "x y out x_way y_way out_way j left spare_x spare_y spare_out spare_j spare mask")
#: A row: addresses of its first element in each operand, and the numbers of elements of head, vectors and tail.
Row = namedtuple("Row", ("x", "y", "out", "mask", "head", "count", "tail", "classes"))

i32, u32, i64 = types.int32, types.uint32, types.int64


@device
def row_address(base, outer, inner, row, length):
    """The address of a row by its two levels; rows are numbered with 31 bits."""
    if row < length:
        return base + row * inner
    far = i64(u32(row) // u32(length))
    return base + far * outer + (row - far * length) * inner


@lru_cache(maxsize=64)
def make_locate(shape):
    """``locate(p, row, live)``: where a row lies; one that is not live has no elements."""
    size, vector, peeled, adjusted = ITEMSIZE[shape.kind], shape.vector, shape.peeled, shape.adjusted

    @device
    def locate(p, row, live):
        x = row_address(p.x, p.x_outer, p.x_inner, row, p.inner)
        y = row_address(p.y, p.y_outer, p.y_inner, row, p.inner)
        out = row_address(p.out, p.out_outer, p.out_inner, row, p.inner)
        mask = row_address(p.mask, p.mask_outer, p.mask_inner, row, p.inner) if adjusted else i64(0)
        classes = i32(p.classes) if live else i32(0)
        head = i32(0)
        if peeled:
            head = min(i32(u32(-x % (vector * size)) // u32(size)), classes)
        rest = i32(classes - head)
        count = i32(u32(rest) // u32(vector))
        return Row(x, y, out, mask, head, count, i32(rest - i32(count * vector)), classes)

    return locate


@lru_cache(maxsize=64)
def make_part_of(shape):
    """``part_of(p, row, g)``: the part of a row that thread number `g` of the row works on."""
    size, y_size = ITEMSIZE[shape.kind], ITEMSIZE[shape.y_kind]
    vector, threads, peeled = shape.vector, shape.threads, shape.peeled

    @device
    def part_of(p, row, g):
        x_way, y_way, out_way = i64(vector * size), i64(vector * y_size), i64(vector * size)
        if vector == 1:
            x_way, y_way, out_way = p.x_step, p.y_step, p.out_step
        begin = i64(row.head)
        x, y, out = row.x + begin * size, row.y + begin * y_size, row.out + begin * size
        place, live = i32(0), False
        if peeled:
            # The first `vector` threads have the head, the others the tail.
            place = g
            live = g < row.head
            if g >= i32(vector):
                place = i32(i32(g - i32(vector)) + i32(row.classes - row.tail))
                live = place < row.classes
        spare = i64(place)
        return Part(
            x + i64(g) * x_way,
            y + i64(g) * y_way,
            out + i64(g) * out_way,
            x_way * threads,
            y_way * threads,
            out_way * threads,
            i32(row.head + i32(g * vector)),
            i32(row.count - g),
            row.x + spare * size,
            row.y + spare * y_size,
            row.out + spare * size,
            place,
            live,
            row.mask,
        )

    return part_of


@lru_cache(maxsize=64)
def make_owner_of(shape):
    """``owner_of(row, t)``: the number of the thread that has class `t`; 0 for -1."""
    vector, threads, peeled = shape.vector, shape.threads, shape.peeled

    @device
    def owner_of(row, t):
        place = i32(t - row.head)
        number = i32(u32(u32(place) // u32(vector)) % u32(threads))
        if peeled:
            if place < 0:
                number = t
            elif place >= i32(row.count * vector):
                number = i32(i32(place - i32(row.count * vector)) + i32(vector))
        return max(number, i32(0)) if t >= i32(0) else i32(0)

    return owner_of


@lru_cache(maxsize=64)
def make_advance(shape):
    """``advance(part)``: the next vectors of the same thread; its spare element is done."""
    items, threads, vector = shape.items, shape.threads, shape.vector

    @device
    def advance(part):
        return Part(
            part.x + items * part.x_way,
            part.y + items * part.y_way,
            part.out + items * part.out_way,
            part.x_way,
            part.y_way,
            part.out_way,
            i32(part.j + i32(items * threads * vector)),
            i32(part.left - i32(items * threads)),
            part.spare_x,
            part.spare_y,
            part.spare_out,
            part.spare_j,
            False,
            part.mask,
        )

    return advance

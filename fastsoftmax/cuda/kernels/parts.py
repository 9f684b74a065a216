"""Where a row lies, and which of its elements a thread works on.

A row is a head of up to a vector less one element, whole vectors, and a tail: vectors begin where their addresses are
multiples of their size.  Thread `g` of the row's `threads` has the vectors ``g, g + threads, ...`` and one element of
head or tail (`spare`).
"""

from collections import namedtuple
from functools import lru_cache

from ...core.dtypes import ITEMSIZE
from ..toolkit.compiler import device, types

#: What a kernel is compiled for.  `step` says that classes are not contiguous.
Shape = namedtuple("Shape", ("kind", "y_kind", "vector", "items", "threads", "peeled"))
#: A thread's part of a row: addresses of its first vector in each operand, the way in bytes to the next ones, the class
#: that the first vector begins with, how many vectors there are from the first on, and the same of its spare element.
Part = namedtuple(
    "Part",
    ("x", "y", "out", "x_way", "y_way", "out_way", "j", "left", "spare_x", "spare_y", "spare_out", "spare_j", "spare"),
)
#: Those of a row: addresses of its first element, steps, and the numbers of elements in head, vectors and tail.
Row = namedtuple("Row", ("x", "y", "out", "head", "count", "tail", "classes"))

i32, u32, i64 = types.int32, types.uint32, types.int64


@device
def row_address(base, outer, inner, row, length):
    """The address of a row by its two levels; rows are numbered with 31 bits."""
    if row < length:
        return base + row * inner
    far = i64(u32(row) // u32(length))
    return base + far * outer + (row - far * length) * inner


@lru_cache(maxsize=64)
def locator(shape):
    """``locate(p, row, live)``: where a row lies; one that is not live has no elements."""
    size, vector, peeled = ITEMSIZE[shape.kind], shape.vector, shape.peeled

    @device
    def locate(p, row, live):
        x = row_address(p.x, p.x_outer, p.x_inner, row, p.inner)
        y = row_address(p.y, p.y_outer, p.y_inner, row, p.inner)
        out = row_address(p.out, p.out_outer, p.out_inner, row, p.inner)
        classes = i32(p.classes) if live else i32(0)
        head = i32(0)
        if peeled:
            head = min(i32(u32(-x % (vector * size)) // u32(size)), classes)
        rest = i32(classes - head)
        count = i32(u32(rest) // u32(vector))
        return Row(x, y, out, head, count, i32(rest - i32(count * vector)), classes)

    return locate


@lru_cache(maxsize=64)
def parter(shape):
    """``part(p, row, g)``: the part of a row that thread number `g` of the row works on."""
    size, y_size = ITEMSIZE[shape.kind], ITEMSIZE[shape.y_kind]
    vector, threads, peeled = shape.vector, shape.threads, shape.peeled

    @device
    def part(p, row, g):
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
        )

    return part


@lru_cache(maxsize=64)
def finder(shape):
    """``owner(row, t)``: the number of the thread that has class `t`; 0 for -1."""
    vector, threads, peeled = shape.vector, shape.threads, shape.peeled

    @device
    def owner(row, t):
        place = i32(t - row.head)
        number = i32(u32(u32(place) // u32(vector)) % u32(threads))
        if peeled:
            if place < 0:
                number = t
            elif place >= i32(row.count * vector):
                number = i32(i32(place - i32(row.count * vector)) + i32(vector))
        return max(number, i32(0)) if t >= i32(0) else i32(0)

    return owner


@lru_cache(maxsize=64)
def advancer(shape):
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
        )

    return advance

"""Adjusted logits, in all layouts: after softcap and temperature, plus a number for each class, without masked classes.

A pass over adjusted logits reads them where they have been written to: in scratch, where their exponentials go later
(rows in lanes are there anyway).  Classes that are left out have the logit -inf, whatever theirs was.
"""

from .. import parameters as P
from ..jit import inline
from ..simd.lanes import extract
from ..simd.laws import vector
from ..simd.memory import get, lanes_of, load, load_n, moved, ref_like, store, store_n
from ..simd.vectors import select, splat
from ..simd.words import integer_at
from .common import row_ref, tempered, tile_ref, transform
from .lanes import Tile, logits, pack, slot

INF = float("inf")
_adjusted = vector["adjusted"]


@inline
def adjusted_class(flags, o, offset, j, x, by):
    """Adjusted logits `x` of class `j`; `by` is 0, or what a mask adds to them."""
    if flags.offset:
        by = by + splat(x, get(offset, j))
    return _adjusted(tempered(flags, o, x), by)


# Classes in lanes -------------------------------------------------------------------------------------------------


@inline
def adjusters(params, i, like, mask_kind, mask_near):
    """References to what the logits of row `i` may be adjusted by: numbers by class, a mask of a kind (None: none)."""
    mask = like
    if mask_kind is not None:
        mask = row_ref(params, P.MASK, P.MASK_STRIDES, i, mask_kind, mask_near)
    return ref_like(like, integer_at(params, P.OFFSET)), mask


@inline
def _adjust_vector(flags, o, row, j, n, whole):
    """Adjusted logits of the `n` classes from `j` on."""
    x = load(row.source, j) if whole else load_n(row.source, j, n, -INF)
    by = splat(row.x, 0.0)
    if flags.offset:
        by = load(row.offset, j) if whole else load_n(row.offset, j, n, 0.0)
    if flags.mask:
        by = by + (load(row.mask, j) if whole else load_n(row.mask, j, n, 0.0))
    return _adjusted(tempered(flags, o, x), by)


@inline
def adjust(flags, o, row, j, stop):
    """Write the adjusted logits of a block to where they are read; a vector whose largest lane is the largest of them.

    In two chains, as a maximum waits for the one before; NaN is left out.
    """
    width, a = lanes_of(row.x), splat(row.x, -INF)
    b = a
    while j + 2 * width <= stop:
        y, z = _adjust_vector(flags, o, row, j, width, True), _adjust_vector(flags, o, row, j + width, width, True)
        store(row.x, j, y)
        store(row.x, j + width, z)
        a, b = select(y > a, y, a), select(z > b, z, b)
        j += 2 * width
    while j < stop:
        n = min(width, stop - j)
        z = _adjust_vector(flags, o, row, j, n, False)
        store_n(row.x, j, n, z)
        a = select(z > a, z, a)
        j += n
    return select(b > a, b, a)


@inline
def logit_of(flags, o, row, t):
    """The logit of class `t` as the loss sees it, by the instructions that transform vectors: the very same bits."""
    x = splat(row.x, get(row.source, t))
    if flags.adjusted:
        by = splat(row.x, get(row.mask, t)) if flags.mask else splat(row.x, 0.0)
        return float(extract(adjusted_class(flags, o, row.offset, t, x, by), 0))
    return float(extract(transform(flags, o, x), 0))


# Rows in lanes ----------------------------------------------------------------------------------------------------


@inline
def take(flags, o, params, tile, copies, outer, start, mask_kind, mask_near):
    """Copy a tile's logits to scratch, adjusted; a mask goes behind its `copies` of the logits there."""
    pack(tile)
    if flags.adjusted:
        offset, width = ref_like(tile.buffer, integer_at(params, P.OFFSET)), lanes_of(tile.buffer)
        room = moved(tile.buffer, 0, slot(tile, 0, copies * integer_at(params, P.TILE)))
        if flags.mask:
            mask = tile_ref(params, P.MASK, P.MASK_STRIDES, outer, start, mask_kind, mask_near)
            pack(
                Tile(
                    mask, mask, mask, integer_at(params, P.MASK_STRIDES + 2), 0, 0, room, room, tile.k, tile.rows, room
                )
            )
        for v in range((tile.rows + width - 1) // width):
            for j in range(tile.k):
                by = load(room, slot(tile, j, v)) if flags.mask else splat(tile.buffer, 0.0)
                z = adjusted_class(flags, o, offset, j, logits(tile, j, v), by)
                store(tile.buffer, slot(tile, j, v), z)

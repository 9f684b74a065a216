"""Adjusted logits, in all layouts: after softcap and temperature, plus a number for each class, without masked classes.

A pass over adjusted logits reads them where they have been written to: in scratch, where their exponentials go later
(rows in lanes are there anyway).  Classes that are left out have the logit -inf, whatever theirs was.
"""

from .. import parameters as P
from ..jit import inline
from ..simd.lanes import extract
from ..simd.laws import vector
from ..simd.memory import address, get, itemsize_of, lanes_of, load, load_n, moved, ref, ref_like, store, store_n
from ..simd.vectors import select, splat
from ..simd.words import integer_at
from .common import row_ref, tempered, tile_ref, transform
from .lanes import Tile, logits, pack, slot

INF = float("inf")
_adjusted, _remaining = vector["adjusted"], vector["remaining"]


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
def _lie_together(params, strides, size):
    """Whether the rows of an operand, of elements of a `size`, follow each other without a gap."""
    step = integer_at(params, strides + 2)
    return step == size and integer_at(params, strides + 1) == integer_at(params, P.CLASSES) * size


@inline
def _copy_remaining(tile, mask, room):
    """Copy the logits of a tile, and -inf in the place of those that a mask leaves out; both lie together."""
    x, by, width = ref_like(tile.x, address(tile.x)), ref_like(mask, address(mask)), lanes_of(room)
    for i in range(0, tile.rows * tile.k, width):
        n = min(tile.rows * tile.k - i, width)
        if n == width:
            store(room, i, _remaining(load(x, i), load(by, i)))
        else:
            store_n(room, i, n, _remaining(load_n(x, i, n, 0.0), load_n(by, i, n, 0.0)))


@inline
def _pack(tile, x, step, buffer):
    """Copy what lies as the logits of a tile do, but at `x`, to its place in scratch."""
    pack(Tile(x, x, x, step, 0, 0, buffer, buffer, tile.k, tile.rows, tile.exp))


@inline
def _adjust_tile(flags, o, params, tile, mask, masked):
    """Adjust the logits of a tile, where `masked` by what is in the place of each in `mask` as well."""
    offset = ref_like(tile.buffer, integer_at(params, P.OFFSET))
    for v in range((tile.rows + lanes_of(tile.buffer) - 1) // lanes_of(tile.buffer)):
        for j in range(tile.k):
            by = load(mask, slot(tile, j, v)) if masked else splat(tile.buffer, 0.0)
            store(tile.buffer, slot(tile, j, v), adjusted_class(flags, o, offset, j, logits(tile, j, v), by))


@inline
def take(flags, o, params, tile, copies, outer, start, kind, mask_kind, mask_near):
    """Copy a tile's logits to scratch, adjusted; a mask has room behind its `copies` of the logits there."""
    if not flags.mask:
        pack(tile)
        if flags.adjusted:
            _adjust_tile(flags, o, params, tile, tile.buffer, False)
        return
    mask = tile_ref(params, P.MASK, P.MASK_STRIDES, outer, start, mask_kind, mask_near)
    room = moved(tile.buffer, 0, slot(tile, 0, copies * integer_at(params, P.TILE)))
    if _lie_together(params, P.X_STRIDES, itemsize_of(tile.x)) and _lie_together(params, P.MASK_STRIDES, 1):
        # The bytes of a mask are not transposed, which is 16 loads for a vector: the logits are, without its classes.
        _copy_remaining(tile, mask, room)
        size = itemsize_of(room)
        _pack(tile, ref(address(room), tile.k * size, kind, False), size, tile.buffer)
        if flags.offset or flags.temper:
            _adjust_tile(flags, o, params, tile, tile.buffer, False)
    else:
        pack(tile)
        _pack(tile, mask, integer_at(params, P.MASK_STRIDES + 2), room)
        _adjust_tile(flags, o, params, tile, room, True)

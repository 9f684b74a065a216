"""References to elements in memory, which load and store SIMD vectors of the type that is computed with.

``Ref(storage, contiguous)`` is an address and a step in bytes.  It converts on the way (half types to float32), so that
kernels are written once for every dtype and stride.  Addresses promise no alignment: an unaligned vector access costs
nothing on the machines that matter.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from ...core.dtypes import ITEMSIZE
from .half import narrow, widen
from .lanes import live_mask
from .vectors import AVX512, I8, I16, I32, I64, Vec, as_vector, call

BYTES = 64  # of a vector of the computing type: one cache line, one AVX-512 register

# By storage kind (FLOAT16, BFLOAT16, FLOAT32, FLOAT64, MASK32, MASK64).
_COMPUTE = (types.float32, types.float32, types.float32, types.float64, types.float32, types.float64)
_CELL = (I16, I16, ir.FloatType(), ir.DoubleType(), I8, I8)


class Ref(types.Type):
    """Elements of one storage kind, a fixed number of bytes apart (an element's own size when contiguous)."""

    def __init__(self, storage, contiguous):
        self.storage, self.contiguous = storage, contiguous
        self.dtype = _COMPUTE[storage]
        self.cell = _CELL[storage]
        self.itemsize = ITEMSIZE[storage]
        self.vec = Vec(self.dtype, BYTES // (self.dtype.bitwidth // 8))
        super().__init__(f"Ref({storage},{contiguous})")


@register_model(Ref)
class _RefModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.LiteralStructType([I64, I64]))


@intrinsic
def lanes_of(_typing, r):
    """The number of elements of a vector, or of one loaded from a reference."""
    return types.int64(r), lambda *_: I64(getattr(r, "vec", r).lanes)


def _pair(builder, base, step):
    empty = ir.Constant(ir.LiteralStructType([I64, I64]), ir.Undefined)
    return builder.insert_value(builder.insert_value(empty, base, 0), step, 1)


@intrinsic(prefer_literal=True)
def ref(_typing, address, step, storage, contiguous):
    """A reference to elements of kind `storage` at `address`, `step` bytes apart."""
    if not isinstance(storage, types.Literal) or not isinstance(contiguous, types.Literal):
        return None
    ty = Ref(storage.literal_value, bool(contiguous.literal_value))

    def emit(context, builder, sig, args):
        base, step = (context.cast(builder, v, t, types.int64) for v, t in zip(args[:2], sig.args[:2], strict=True))
        return _pair(builder, base, I64(ty.itemsize) if ty.contiguous else step)

    return ty(address, step, storage, contiguous), emit


@intrinsic
def moved(_typing, r, offset, elements):
    """The same reference `offset` bytes and `elements` elements further on."""

    def emit(_context, builder, _sig, args):
        base, step = (builder.extract_value(args[0], k) for k in (0, 1))
        step = I64(r.itemsize) if r.contiguous else step
        base = builder.add(builder.add(base, args[1]), builder.mul(args[2], step))
        return builder.insert_value(args[0], base, 0)

    return r(r, types.int64, types.int64), emit


@intrinsic
def address(_typing, r):
    """The address that a reference is to."""
    return types.int64(r), lambda _context, builder, _sig, args: builder.extract_value(args[0], 0)


@intrinsic
def ref_like(_typing, like, address):
    """A contiguous reference of the same storage kind at another address."""
    ty = Ref(like.storage, True)

    def emit(_context, builder, _sig, args):
        return _pair(builder, args[1], I64(ty.itemsize))

    return ty(like, types.int64), emit


@intrinsic
def until_aligned(_typing, r):
    """The number of elements before the first address that is a multiple of a vector's size in storage."""

    def emit(_context, builder, _sig, args):
        size = r.vec.lanes * r.itemsize
        behind = builder.neg(builder.extract_value(args[0], 0))
        return builder.udiv(builder.and_(behind, I64(size - 1)), I64(r.itemsize))

    return types.int64(r), emit


def pointer_to(builder, r, value, index, llvm):
    """The address of element number `index` of the reference `value`, as a pointer to `llvm`."""
    base, step = (builder.extract_value(value, k) for k in (0, 1))
    step = I64(r.itemsize) if r.contiguous else step
    return builder.inttoptr(builder.add(base, builder.mul(index, step)), llvm.as_pointer())


def cells_of(r):
    """The LLVM vector of storage cells that make one vector."""
    return ir.VectorType(r.cell, r.vec.lanes)


def _gather(builder, r, value, index, last):
    """One scalar load a lane; lanes past `last` read element `last` again, so that nothing is read out of bounds."""
    cells = ir.Constant(cells_of(r), ir.Undefined)
    for lane in range(r.vec.lanes):
        k = I64(lane)
        if last is not None:
            k = builder.select(builder.icmp_signed("<", k, last), k, last)
        cell = builder.load(pointer_to(builder, r, value, builder.add(index, k), r.cell), align=1)
        cells = builder.insert_element(cells, cell, I32(lane))
    return cells


def load_ir(builder, r, value, index):
    """The vector of the elements of the reference `value` from number `index` on."""
    if not r.contiguous:
        return widen(builder, r, _gather(builder, r, value, index, None))
    return widen(builder, r, builder.load(pointer_to(builder, r, value, index, cells_of(r)), align=1))


@intrinsic
def load(_typing, r, index):
    """The vector of the elements from number `index` on."""
    return r.vec(r, types.int64), lambda _context, builder, _sig, args: load_ir(builder, r, *args)


def masked(builder, r, mask, lanes=None):
    """The mask of live lanes and the suffix of LLVM's masked accesses; of a vector loaded from `r`, or of `lanes`."""
    lanes = lanes or r.vec.lanes
    cell = {I8: "i8", I16: "i16"}.get(r.cell, f"f{r.vec.dtype.bitwidth}")
    return live_mask(builder, lanes, mask), f"v{lanes}{cell}.p0"


def as_cells(builder, r, value):
    """A vector of floats as storage cells: rounded, if need be, to what `r` is computed in first."""
    own = ir.VectorType(r.vec.llvm.element, value.type.count)
    if value.type != own:
        wider = isinstance(own.element, ir.DoubleType)
        value = (builder.fpext if wider else builder.fptrunc)(value, own)
    return narrow(builder, r, value)


def load_n_ir(builder, r, value, index, n, filler):
    """The first `n` elements of the reference `value` from number `index` on, and those of `filler` after them."""
    live, name = masked(builder, r, n)
    if r.contiguous:
        pointer = pointer_to(builder, r, value, index, cells_of(r))
        blank = ir.Constant(cells_of(r), ir.Undefined)
        cells = call(builder, f"llvm.masked.load.{name}", cells_of(r), [pointer, I32(1), live, blank])
    else:
        cells = _gather(builder, r, value, index, builder.sub(n, I64(1)))
    return builder.select(live, widen(builder, r, cells), filler)


@intrinsic
def load_n(_typing, r, index, n, fill):
    """The first `n` (at least 1) elements from number `index` on, and `fill` in the lanes after them."""

    def emit(context, builder, sig, args):
        value, index, n, fill = args
        return load_n_ir(builder, r, value, index, n, as_vector(context, builder, fill, sig.args[3], r.vec))

    return r.vec(r, types.int64, types.int64, fill), emit


@intrinsic
def store(_typing, r, index, v):
    """Write a vector, of whatever width, to the elements from number `index` on."""

    def emit(context, builder, _sig, args):
        cells = as_cells(builder, r, args[2])
        if r.contiguous:
            builder.store(cells, pointer_to(builder, r, args[0], args[1], cells.type), align=1)
        else:
            for lane in range(v.lanes):
                pointer = pointer_to(builder, r, args[0], builder.add(args[1], I64(lane)), r.cell)
                builder.store(builder.extract_element(cells, I32(lane)), pointer, align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, v), emit


def _store_by_bits(builder, r, value, index, n, cells):
    """Write the first `n` of some cells in pieces, one for each bit of `n`: all of them, 8, 4, 2, 1.

    A masked store is 40 micro-operations on a Zen 3, and of half types there is none before AVX-512.
    """
    size = cells.type.count
    with builder.if_then(builder.icmp_signed("==", n, I64(size))):
        builder.store(cells, pointer_to(builder, r, value, index, cells.type), align=1)
    while size > 1:
        size //= 2
        low, high = (
            builder.shuffle_vector(cells, cells, ir.Constant(ir.VectorType(I32, size), list(range(k, k + size))))
            for k in (0, size)
        )
        bit, before = builder.and_(n, I64(size)), builder.block
        with builder.if_then(builder.icmp_signed("!=", bit, I64(0))):
            builder.store(low, pointer_to(builder, r, value, index, low.type), align=1)
            inside = builder.block
        cells = builder.phi(low.type)
        cells.add_incoming(low, before)
        cells.add_incoming(high, inside)
        index = builder.add(index, bit)


@intrinsic
def store_n(_typing, r, index, n, v):
    """Write the first `n` lanes of a vector to the elements from number `index` on."""

    def emit(context, builder, _sig, args):
        value, index, n, lanes = args
        cells = as_cells(builder, r, lanes)
        if r.contiguous and AVX512:
            live, name = masked(builder, r, n, v.lanes)
            pointer = pointer_to(builder, r, value, index, cells.type)
            call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [cells, pointer, I32(1), live])
        elif r.contiguous:
            _store_by_bits(builder, r, value, index, n, cells)
        else:
            with cgutils.for_range(builder, n) as loop:
                pointer = pointer_to(builder, r, value, builder.add(index, loop.index), r.cell)
                builder.store(builder.extract_element(cells, loop.index), pointer, align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, types.int64, v), emit


@intrinsic
def stream(_typing, r, index, v):
    """Like `store`, past the caches; the address must be a multiple of 64 bytes and the reference contiguous."""

    def emit(context, builder, _sig, args):
        cells = narrow(builder, r, args[2])
        written = builder.store(
            cells, pointer_to(builder, r, args[0], args[1], cells_of(r)), align=r.vec.lanes * r.itemsize
        )
        written.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(r, types.int64, v), emit


@intrinsic
def itemsize_of(_typing, r):
    """The size of an element in memory."""
    return types.int64(r), lambda *_: I64(r.itemsize)


@intrinsic
def get(_typing, r, index):
    """One element, as a scalar of the type that is computed with."""

    def emit(_context, builder, _sig, args):
        return widen(builder, r, builder.load(pointer_to(builder, r, *args, r.cell), align=1))

    return r.dtype(r, types.int64), emit


@intrinsic
def put(_typing, r, index, x):
    """Write one element."""

    def emit(context, builder, sig, args):
        x = context.cast(builder, args[2], sig.args[2], r.dtype)
        builder.store(narrow(builder, r, x), pointer_to(builder, r, args[0], args[1], r.cell), align=1)
        return context.get_dummy_value()

    return types.void(r, types.int64, x), emit


def _make_ask(write):
    @intrinsic
    def ask(_typing, r, index):
        def emit(context, builder, _sig, args):
            pointer = pointer_to(builder, r, *args, I8)
            call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(write), I32(3), I32(1)])
            return context.get_dummy_value()

        return types.void(r, types.int64), emit

    return ask


#: Ask for the cache line of an element, to read it or to write it; any address is allowed.
prefetch, prefetch_to_write = _make_ask(0), _make_ask(1)

"""Both matrix products of a linear pass with few classes, from registers.

With few classes BLAS is far from its best, and reads X twice from memory.  Here a block of rows that stays in the
first-level cache gives its logits, and after their loss is known its share of the weights' gradient.  A tile of results
stays in registers while the longest axis, the features, goes by in SIMD lanes.

The logits are class-major in memory: all rows of a class, then the next class.  Rows then are in SIMD lanes, as the
losses of few classes want them.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from ..jit import OPTIONS, inline, target
from ..simd.memory import cells_of, lanes_of, load_ir, load_n_ir, masked, moved, pointer_to, prefetch
from ..simd.vectors import I32, I64, call, splat_ir

# Accumulators must fit in the registers, next to the operands: AVX-512 has 32 of a vector's size; elsewhere a vector
# takes two registers or four.
WIDE = "+avx512f" in target()[1].split(",")
ROWS = 4 if WIDE else 2  # rows of a tile of logits
CLASSES = 6 if WIDE else 3  # classes of a tile, at most
COLUMNS = 4 if WIDE else 2  # vectors of features in a tile of gradients


def _moved_ir(builder, value, step, count):
    """The reference `value` moved by `count` times `step` bytes."""
    base = builder.add(builder.extract_value(value, 0), builder.mul(step, I64(count)))
    return builder.insert_value(value, base, 0)


def _fma(builder, a, b, c):
    width = 32 if a.type.element == ir.FloatType() else 64
    return call(builder, f"llvm.fmuladd.v{a.type.count}f{width}", a.type, [a, b, c])


@intrinsic(prefer_literal=True)
def zeros(_typing, like, count):
    """A tuple of vectors of zeros."""
    ty = types.UniTuple(like.vec, count.literal_value)
    return ty(like, count), lambda *_: ir.Constant(ir.ArrayType(like.vec.llvm, count.literal_value), None)


@intrinsic(prefer_literal=True)
def _dot_step(_typing, sums, x, x_step, w, w_step, j, n, rows, classes):
    """Add the products of a vector of features, `n` of which are live, of each row with each class."""
    whole = isinstance(n, types.NoneType)

    def emit(_context, builder, _sig, args):
        sums, x_value, x_step, w_value, w_step, j, n = args[:7]

        def loaded(r, value, step, count):
            here = _moved_ir(builder, value, step, count)
            return (
                load_ir(builder, r, here, j)
                if whole
                else load_n_ir(builder, r, here, j, n, ir.Constant(r.vec.llvm, None))
            )

        lines = [loaded(x, x_value, x_step, p) for p in range(rows.literal_value)]
        for q in range(classes.literal_value):
            weights = loaded(w, w_value, w_step, q)
            for p, line in enumerate(lines):
                i = q * len(lines) + p
                sums = builder.insert_value(sums, _fma(builder, line, weights, builder.extract_value(sums, i)), i)
        return sums

    word = types.int64
    return sums(sums, x, word, w, word, word, n, rows, classes), emit


def _folded(builder, vectors, count):
    """Vectors of `count` segments each, two by two into one whose segments are half as long: added within segments."""

    def half(a, b, second):
        lanes = a.type.count
        size = lanes // count
        first = range(0, lanes * (1 if b is a else 2), size)
        index = [i + second * size // 2 + k for i in first for k in range(size // 2)]
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(index)), index))

    pairs = [(vectors[0], vectors[0])] if len(vectors) == 1 else zip(vectors[::2], vectors[1::2], strict=True)
    return [builder.fadd(half(a, b, 0), half(a, b, 1)) for a, b in pairs]


def _row_sums(builder, vectors):
    """The sum of the lanes of each vector, as the lanes of one: a third of the instructions of summing one by one."""
    rows, segments = len(vectors), 1
    while len(vectors) > 1:
        vectors = _folded(builder, vectors, segments)
        segments *= 2
    while vectors[0].type.count > rows:
        vectors = _folded(builder, vectors, rows)
    return vectors[0]


@intrinsic(prefer_literal=True)
def _put_sums(_typing, sums, z, z_step, row, bias, rows, classes):
    """Write the sums of a tile's accumulators, with the bias, for the rows from number `row` on."""
    height = rows.literal_value

    def emit(context, builder, _sig, args):
        sums, z_value, z_step, row, bias_value = args[:5]
        for q in range(classes.literal_value):
            vectors = [builder.extract_value(sums, q * height + p) for p in range(height)]
            total = _row_sums(builder, vectors)
            start = builder.load(pointer_to(builder, bias, bias_value, I64(q), bias.cell), align=1)
            total = builder.fadd(total, splat_ir(builder, start, total.type))
            here = _moved_ir(builder, z_value, z_step, q)
            builder.store(total, pointer_to(builder, z, here, row, total.type), align=1)
        return context.get_dummy_value()

    word = types.int64
    return types.void(sums, z, word, word, bias, rows, classes), emit


@intrinsic(prefer_literal=True)
def outer_step(_typing, sums, x, j, n, g, g_step, row, columns, classes):
    """Add the products of a row's vectors of features, `n` elements of which are live, with its class gradients."""
    whole = isinstance(n, types.NoneType)
    width = columns.literal_value

    def emit(_context, builder, _sig, args):
        sums, x_value, j, n, g_value, g_step, row = args[:7]
        vectors = []
        for v in range(width):
            at = I64(v * x.vec.lanes)
            if whole:
                vectors.append(load_ir(builder, x, x_value, builder.add(j, at)))
            else:
                left, zeros = builder.sub(n, at), ir.Constant(x.vec.llvm, None)
                vectors.append(load_n_ir(builder, x, x_value, builder.add(j, at), left, zeros))
        for q in range(classes.literal_value):
            here = _moved_ir(builder, g_value, g_step, q)
            factor = builder.load(pointer_to(builder, g, here, row, g.cell), align=1)
            factor = splat_ir(builder, factor, x.vec.llvm)
            for v, vector in enumerate(vectors):
                i = q * width + v
                sums = builder.insert_value(sums, _fma(builder, factor, vector, builder.extract_value(sums, i)), i)
        return sums

    word = types.int64
    return sums(sums, x, word, n, g, word, word, columns, classes), emit


@intrinsic(prefer_literal=True)
def write(_typing, sums, out, out_step, j, n, columns, classes):
    """Write a tile's accumulators, `n` elements of each class (None: all), from feature `j` on."""
    width = columns.literal_value
    whole = isinstance(n, types.NoneType)

    def emit(context, builder, _sig, args):
        sums, value, step, j, n = args[:5]
        for q in range(classes.literal_value):
            here = _moved_ir(builder, value, step, q)
            for v in range(width):
                at = I64(v * out.vec.lanes)
                pointer = pointer_to(builder, out, here, builder.add(j, at), cells_of(out))
                vector = builder.extract_value(sums, q * width + v)
                if whole:
                    builder.store(vector, pointer, align=1)
                else:
                    live, name = masked(builder, out, builder.sub(n, at))
                    call(builder, f"llvm.masked.store.{name}", ir.VoidType(), [vector, pointer, I32(1), live])
        return context.get_dummy_value()

    word = types.int64
    return types.void(sums, out, word, word, n, columns, classes), emit


@intrinsic(prefer_literal=True)
def read(_typing, out, out_step, j, n, columns, classes):
    """Read what is in memory where a tile's accumulators go."""
    width = columns.literal_value
    whole = isinstance(n, types.NoneType)
    ty = types.UniTuple(out.vec, width * classes.literal_value)

    def emit(_context, builder, _sig, args):
        value, step, j, n = args[:4]
        sums = ir.Constant(ir.ArrayType(out.vec.llvm, ty.count), None)
        for q in range(classes.literal_value):
            here = _moved_ir(builder, value, step, q)
            for v in range(width):
                at = I64(v * out.vec.lanes)
                index = builder.add(j, at)
                if whole:
                    old = load_ir(builder, out, here, index)
                else:
                    old = load_n_ir(builder, out, here, index, builder.sub(n, at), ir.Constant(out.vec.llvm, None))
                sums = builder.insert_value(sums, old, q * width + v)
        return sums

    word = types.int64
    return ty(out, word, word, n, columns, classes), emit


def _make_dots(classes):
    """The logits of `ROWS` rows and a fixed number of classes."""
    count = ROWS * classes

    @inline
    def dots(x, x_step, w, w_step, features, z, z_step, row, bias):
        width, j = lanes_of(x), 0
        sums = zeros(x, count)
        while j + width <= features:
            sums = _dot_step(sums, x, x_step, w, w_step, j, None, ROWS, classes)
            j += width
        if j < features:
            sums = _dot_step(sums, x, x_step, w, w_step, j, features - j, ROWS, classes)
        _put_sums(sums, z, z_step, row, bias, ROWS, classes)

    return dots


def _make_outer(classes):
    """The gradients of a fixed number of classes and `COLUMNS` vectors of features, `n` elements at most."""

    @inline
    def outer(x, x_step, rows, j, n, g, g_step, out, out_step, ahead):
        width = lanes_of(x)
        if n == COLUMNS * width:
            sums = read(out, out_step, j, None, COLUMNS, classes)
            for row in range(rows):
                here = moved(x, row * x_step, 0)
                sums = outer_step(sums, here, j, None, g, g_step, row, COLUMNS, classes)
                if ahead != 0:
                    for v in range(COLUMNS):
                        prefetch(moved(here, ahead, 0), j + v * width)
            write(sums, out, out_step, j, None, COLUMNS, classes)
        else:
            for i in range(j, j + n, width):
                left = min(width, j + n - i)
                sums = read(out, out_step, i, left, 1, classes)
                for row in range(rows):
                    sums = outer_step(sums, moved(x, row * x_step, 0), i, left, g, g_step, row, 1, classes)
                write(sums, out, out_step, i, left, 1, classes)

    return outer


def _logits(few, more):
    """`logits` where tiles have as many classes as `few` takes, or as `more` does."""

    def logits(least, x, x_step, rows, features, w, w_step, classes, z, z_step, bias):
        tiles = (classes + CLASSES - 1) // CLASSES
        for row in range(0, rows, ROWS):
            whole = row + ROWS <= rows
            for one in range(row, row + 1 if whole else rows):
                # The last rows one by one: a step of 0 takes the same row in every place, and the rows after it are
                # overwritten or not looked at.
                here, step = moved(x, one * x_step, 0), x_step if whole else 0
                for tile in range(tiles):
                    first = classes * tile // tiles
                    weights, result = moved(w, first * w_step, 0), moved(z, first * z_step, 0)
                    if classes * (tile + 1) // tiles - first == least:
                        few(here, step, weights, w_step, features, result, z_step, one, moved(bias, 0, first))
                    else:
                        more(here, step, weights, w_step, features, result, z_step, one, moved(bias, 0, first))

    return logits


def _gradient(few, more):
    """`gradient` where tiles have as many classes as `few` takes, or as `more` does."""

    def gradient(least, x, x_step, rows, features, g, g_step, classes, out, out_step, ahead):
        tiles, width = (classes + CLASSES - 1) // CLASSES, lanes_of(x) * COLUMNS
        for j in range(0, features, width):
            n = min(width, features - j)
            for tile in range(tiles):
                first = classes * tile // tiles
                factors, result = moved(g, first * g_step, 0), moved(out, first * out_step, 0)
                way = ahead if tile == 0 else 0
                if classes * (tile + 1) // tiles - first == least:
                    few(x, x_step, rows, j, n, factors, g_step, result, out_step, way)
                else:
                    more(x, x_step, rows, j, n, factors, g_step, result, out_step, way)

    return gradient


def least_classes(classes):
    """The number of classes of the smaller tiles; the others, if any, have one more."""
    return classes // -(-classes // CLASSES)


def logits(least, x, x_step, rows, features, w, w_step, classes, z, z_step, bias):
    """Write ``X Wᵀ + b``, class-major; steps are in bytes.  There must be room for ROWS - 1 rows after the last one.

    `least` is a constant, ``least_classes(classes)``: what other tiles would need is not compiled.
    """
    raise NotImplementedError


def gradient(least, x, x_step, rows, features, g, g_step, classes, out, out_step, ahead):
    """Add ``Gᵀ X``; what lies `ahead` bytes after the rows (0: nothing) is prefetched meanwhile."""
    raise NotImplementedError


def _offer(function, make, combine):
    """Have kernels that call `function` compile it for their constant `least` alone."""
    tiles = [make(count) for count in range(1, CLASSES + 1)]
    variants = [combine(few, more) for few, more in zip(tiles, [*tiles[1:], tiles[-1]], strict=True)]

    @overload(function, prefer_literal=True, strict=False, jit_options={"forceinline": True, **OPTIONS})
    def _(least, *_rest):
        return variants[least.literal_value - 1]


_offer(logits, _make_dots, _logits)
_offer(gradient, _make_outer, _gradient)

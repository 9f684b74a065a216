"""Vectors of rows in registers: contiguous rows of few classes exchanged with classes, and loops over these unrolled.

A vector's worth of rows of K contiguous classes is K whole vectors of memory.  They are loaded and stored as such, and
become one vector a class by shuffles of registers alone, in two steps:

- Say K = u m, where u is the largest power of two that divides K (at most the lanes).  Memory is u groups of m vectors
  of n = lanes / u units of u elements.  In a group, unit l of vector v belongs to the class unit ``(n v + l) mod m``:
  with the vectors renumbered to ``n v mod m``, class unit c is found in vector ``c - l mod m``.  So unit l is rotated
  through the vectors by ``l mod m``, in one round of masked blends for each bit of that number.
- The groups' vectors, of n rows and u classes each, are then transposed among each other in log2(u) rounds of
  two-vector shuffles, the first of which also puts the rows in order.

That is 30 blends and 10 shuffles for ten classes (a square transposed is 64 shuffles, of which the machine does half as
many in a cycle), and 6 and 3 for three.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..simd.half import narrow
from ..simd.memory import cells_of, load_ir, pointer_to
from ..simd.vectors import I32, I64


class Network:
    """The ways of lanes for `classes` classes in vectors of `lanes`; `shuffle(a, b, lanes of both)` moves them."""

    def __init__(self, shuffle, lanes, classes):
        self.shuffle, self.lanes = shuffle, lanes
        self.unit = min(classes & -classes, lanes)
        self.groups, self.size = classes // self.unit, lanes // self.unit

    def _rotated(self, vectors, way):
        """The vectors of a group with their unit l moved on by ``l mod m`` (or back)."""
        m, bit = self.groups, 1
        while bit < min(m, self.size):
            moves = [bool(lane // self.unit % m & bit) * self.lanes + lane for lane in range(self.lanes)]
            vectors = [self.shuffle(vectors[c], vectors[(c - way * bit) % m], moves) for c in range(m)]
            bit *= 2
        return vectors

    def _units(self, c):
        """The place of each row in class unit number `c` of a group."""
        m, places = self.groups, {}
        for v in range(m):
            for unit in range(self.size):
                row, column = divmod(self.size * v + unit, m)
                if column == c:
                    places[row] = unit
        return [places[row] for row in range(self.size)]

    def _rounds(self):
        """(rows in a vector, classes in it) before each round of the transposition among groups."""
        rows, width = self.size, self.unit
        while width > 1:
            yield rows, width
            rows, width = rows * 2, width // 2

    def classes(self, memory):
        """One vector a class, of vectors as they are in memory."""
        m, n = self.groups, self.size
        groups = []
        for g in range(self.unit):
            placed = {n * v % m if n > 1 else v: memory[g * m + v] for v in range(m)}
            groups.append(self._rotated([placed[c] for c in range(m)], 1))
        return [vector for c in range(m) for vector in self._spread([group[c] for group in groups], self._units(c))]

    def _spread(self, vectors, units):
        """The classes of one vector a group."""
        if self.unit == 1:
            return [self.shuffle(vectors[0], vectors[0], units)]
        table = [vectors]  # by class block, then by block of rows
        for rows, width in self._rounds():
            place = units if rows == self.size else range(rows)
            lane = [
                [
                    g * self.lanes + place[r] * width + half * width // 2 + e
                    for g in (0, 1)
                    for r in range(rows)
                    for e in range(width // 2)
                ]
                for half in (0, 1)
            ]
            table = [
                [self.shuffle(a, b, lane[half]) for a, b in zip(line[::2], line[1::2], strict=True)]
                for line in table
                for half in (0, 1)
            ]
        return [line[0] for line in table]

    def memory(self, classes):
        """The way back of `classes`."""
        m, n, u = self.groups, self.size, self.unit
        columns = [self._gathered(classes[c * u : (c + 1) * u], self._units(c)) for c in range(m)]
        result = []
        for g in range(u):
            rotated = self._rotated([columns[c][g] for c in range(m)], -1)
            result += [rotated[n * v % m if n > 1 else v] for v in range(m)]
        return result

    def _gathered(self, vectors, units):
        """The way back of `_spread`."""
        if self.unit == 1:
            place = [units.index(unit) for unit in range(self.lanes)]
            return [self.shuffle(vectors[0], vectors[0], place)]
        table = [[vector] for vector in vectors]
        for rows, width in reversed(list(self._rounds())):
            place = [units.index(unit) for unit in range(rows)] if rows == self.size else range(rows)
            lane = [
                [
                    half * self.lanes + (g * rows + place[r]) * width // 2 + e
                    for r in range(rows)
                    for half in (0, 1)
                    for e in range(width // 2)
                ]
                for g in (0, 1)
            ]
            table = [
                [self.shuffle(a, b, lane[g]) for a, b in zip(low, high, strict=True) for g in (0, 1)]
                for low, high in zip(table[::2], table[1::2], strict=True)
            ]
        return table[0]


def _network(builder, r, classes):
    def shuffle(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    return Network(shuffle, r.vec.lanes, classes)


@intrinsic(prefer_literal=True)
def load_classes(_typing, r, classes):
    """A vector's worth of rows of `classes` (a constant) contiguous elements, side by side, as one vector a class."""
    count = classes.literal_value

    def emit(_context, builder, _sig, args):
        memory = [load_ir(builder, r, args[0], I64(i * r.vec.lanes)) for i in range(count)]
        return cgutils.pack_array(builder, _network(builder, r, count).classes(memory))

    return types.UniTuple(r.vec, count)(r, classes), emit


@intrinsic(prefer_literal=True)
def load_classes_where(_typing, r, mask, classes):
    """The same, plus what is at the same places of `mask`, that is -inf for some whatever they are."""
    count = classes.literal_value

    def emit(_context, builder, _sig, args):
        memory = []
        for i in range(count):
            x, by = (
                load_ir(builder, a, value, I64(i * a.vec.lanes)) for a, value in zip((r, mask), args, strict=False)
            )
            there = builder.fcmp_ordered("==", by, ir.Constant(by.type, [0.0] * by.type.count))
            memory.append(builder.select(there, x, by))
        return cgutils.pack_array(builder, _network(builder, r, count).classes(memory))

    return types.UniTuple(r.vec, count)(r, mask, classes), emit


@intrinsic
def store_classes(_typing, r, vectors):
    """The way back of `load_classes`."""

    def emit(context, builder, _sig, args):
        values = [builder.extract_value(args[1], i) for i in range(len(vectors))]
        for i, line in enumerate(_network(builder, r, len(vectors)).memory(values)):
            pointer = pointer_to(builder, r, args[0], I64(i * r.vec.lanes), cells_of(r))
            builder.store(narrow(builder, r, line), pointer, align=1)
        return context.get_dummy_value()

    return types.void(r, vectors), emit


def _called(typing, step, arguments):
    return step.get_call_type(typing, arguments, {})


def _caller(context, builder, step, sig):
    function = context.get_function(step, sig)
    context.add_linking_libs(getattr(function, "libs", ()))
    return lambda *args: function(builder, args)


def _lanes_of_class(builder, columns, values, j):
    """Class `j` of each of some tuples of vectors."""
    return [builder.extract_value(builder.extract_value(values, i), j) for i in range(len(columns))]


@intrinsic
def mapped(typing, step, shared, columns):
    """The tuple of ``step(shared, j, a[j], b[j], ...)`` for every j, of the tuples `columns`: unrolled here."""
    sig = _called(typing, step, (shared, types.int64, *(column.dtype for column in columns)))
    count = len(columns[0])

    def emit(context, builder, _sig, args):
        run = _caller(context, builder, step, sig)
        results = [run(args[1], I64(j), *_lanes_of_class(builder, columns, args[2], j)) for j in range(count)]
        return cgutils.pack_array(builder, results)

    return types.UniTuple(sig.return_type, count)(step, shared, columns), emit


@intrinsic
def folded(typing, step, shared, state, columns):
    """``state = step(shared, state, j, a[j], b[j], ...)`` for every j in turn, of tuples `columns`: unrolled here."""
    sig = _called(typing, step, (shared, state, types.int64, *(column.dtype for column in columns)))

    def emit(context, builder, _sig, args):
        run, state = _caller(context, builder, step, sig), args[2]
        for j in range(len(columns[0])):
            state = run(args[1], state, I64(j), *_lanes_of_class(builder, columns, args[3], j))
        return state

    return sig.return_type(step, shared, state, columns), emit

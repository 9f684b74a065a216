"""Two kernels of sums over all rows: the denominator of a mean, and the total of partial sums.

Both add up in float64 and in a fixed order, so that results are the same bits from run to run.
"""

from functools import lru_cache

from ...core.dtypes import FLOAT64, ITEMSIZE
from ..toolkit.compiler import cuda, device, types
from .memory import constant, load_float64, load_int32, load_int64, number_access, real, store_float64
from .reductions import make_scope
from .score import report

THREADS = 512
u32, i64 = types.uint32, types.int64
ZERO, ONE, NAN = (constant(FLOAT64, x) for x in (0.0, 1.0, float("nan")))


@lru_cache(maxsize=8)
def _make_weight(kind, label):
    """``weight(p, row)``: the weight of a row in the denominator; reports a label that is out of range."""
    read, size = number_access(kind)[0], ITEMSIZE[kind]
    read_label = load_int64 if label == 8 else load_int32

    @device
    def weight(p, row):
        value = ONE
        if p.target != 0:
            index = i64(read_label(p.target + row * label))
            inside = i64(0) <= index < p.classes
            if index == p.ignore_index:
                return ZERO
            report(p, row, not inside)
            if not inside:
                return NAN
            if p.class_weight != 0:
                value = types.float64(read(p.class_weight + index * size))
        if p.loss_factor != 0:
            value = value * types.float64(read(p.loss_factor + row * size))
        return value

    return weight


def make_count(kind, label):
    """The kernel that counts: block number b writes the weight of its rows to ``denominator[b]``."""
    weight, total = _make_weight(kind, label), make_scope(FLOAT64, THREADS, 1).total

    def kernel(p):
        thread, block = i64(u32(cuda.threadIdx.x)), i64(u32(cuda.blockIdx.x))
        value, row = ZERO, block * THREADS + thread
        while row < p.rows:
            value += weight(p, row)
            row += i64(u32(cuda.gridDim.x)) * THREADS
        value = total(value, ZERO, ZERO)[0]
        if thread == 0:
            store_float64(p.denominator + block * 8, value)

    return kernel


def make_total(kind):
    """The kernel of one block that adds up `n` partial sums, divides them, and writes a number of a computing dtype."""
    add, store, dtype = make_scope(FLOAT64, THREADS, 1).total, number_access(kind)[1], real(kind)

    def kernel(p):
        thread = i64(u32(cuda.threadIdx.x))
        value, k = ZERO, thread
        while k < p.n:
            value += load_float64(p.partial + k * 8)
            k += THREADS
        value = add(value, ZERO, ZERO)[0]
        if thread == 0:
            if p.denominator != 0:
                divisor = load_float64(p.denominator)
                value = value / (NAN if divisor == ZERO else divisor)
            store(p.result, dtype(value))

    return kernel

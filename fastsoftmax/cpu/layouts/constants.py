"""The layouts, and sizes of memory that plans and kernels agree on."""

# Classes in SIMD lanes, row by row; rows in lanes, copied to scratch; classes in lanes, a batch of rows at a time; rows
# in lanes, and all of their classes in registers; rows in lanes, a block of classes at a time.
ROWS, LANES, BATCHES, IN_REGISTERS, BLOCKS = range(5)

BATCH_HEADER = 384 + 3 * 1024  # bytes of scratch for what belongs to a batch of rows: six vectors and three squares
LANE_LINES = 9 * 64  # bytes of scratch for what belongs to a vector of rows whose classes go by in blocks
LANE_BLOCK = 32  # classes in a block of rows in lanes
BLOCK = 2048  # classes in a block of a long row: 8 KB of float32, a quarter of a first-level cache

PART = 8 * BLOCK  # classes in a part of a long row: some 10 microseconds
REDUCE, SCORE, EMIT = range(3)  # what is done with the parts of rows: all of one before the next
STATE_HEAD, STATE = 4, 4  # numbers in float64: of a row's score, and of the state of each of its blocks

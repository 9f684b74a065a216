"""The blocks of parameters of linear passes: 8-byte integers; lengths and strides are in bytes, unless said."""

# The pass over blocks of rows.  The features: x is read where it is if `direct`, else its rows are first copied.
NEXT_CHUNK, X, X_ROW, X_STEP, DIRECT, ROWS, FEATURES = range(7)
# The weights, of (classes, features): elements from one class to the next, or if flipped from one feature to the next;
# how many logits a row has: the classes, or twice as many for a product with the Hessian.
WEIGHT, WEIGHT_LEADING, WEIGHT_FLIPPED, BIAS, CLASSES, LOGITS = range(7, 13)
# What goes with each row: labels, soft targets, factors, losses.
TARGET, IGNORE_INDEX, Y, Y_ROW, LOSS_FACTOR, GRAD_FACTOR, RESULT = range(13, 20)
# The kernels that replace a block's logits, their parameters (every block fills in a copy), and the rows in one of
# their tiles.
FIRST_KERNEL, FIRST_PARAMS, SECOND_KERNEL, SECOND_PARAMS, LANES_TILE = range(20, 25)
# Rows in a block and in a chunk; the function that multiplies matrices.
BLOCK, CHUNK, GEMM = range(25, 28)
# What is written, or 0: gradients of weights and of biases (float64) by chunk, both so many bytes apart; gradients of
# the rows; sums of losses by chunk.
GRAD_WEIGHT, GRAD_BIAS, GRADS_SIZE, GRAD_X, GRAD_X_ROW, PARTIAL = range(28, 34)
# Each thread's scratch, and where things lie in it.
SCRATCH, SCRATCH_SIZE, AT_LOGITS, AT_X, AT_ROWS = range(34, 39)
# Sparse features: x is their values; where each row (CSR) or column (CSC) begins among them, and the columns or rows
# that they are in; how many values are stored.  The weights, and their gradients, are transposed: (features, logits).
STARTS, INDICES, STORED = range(39, 42)
FIELDS = 42

#: A thread's scratch begins with its copies of both kernels' parameters and the loss of a block, in bytes; what these
#: kernels need for themselves comes next.
FIRST, SECOND, LOSS, HEADER = 0, 512, 1024, 1088

# The product of two matrices ``C = A B + beta C`` in tiles.  Leading dimensions are in elements; sums are the sums of
# the rows of A, which is flipped then.
A, A_LEADING, A_FLIPPED, B, B_LEADING, B_FLIPPED, C, C_LEADING = range(1, 9)
M, N, INNER, TILE_M, TILE_N, ACCUMULATE, PRODUCT_BIAS, SUMS, MULTIPLY = range(9, 18)

#: Arrays with a number for each row of a block, in a thread's scratch, which ones count, with their labels;
#: where some rows are ignored what else goes with them, and at which place among them each row is (-1: ignored).
INDEX, LABELS, LOSS_FACTORS, GRAD_FACTORS, RESULTS, PLACES = range(6)
LINES = 6

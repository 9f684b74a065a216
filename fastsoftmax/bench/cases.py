"""The table of cases: what is computed, on what, and why it is measured."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from ..core.dtypes import SIZES

LOSS_AND_GRAD, LOSS = "cross_entropy_and_grad", "cross_entropy"
SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = "softmax", "log_softmax", "logsumexp"
FUNCTIONS = (LOSS_AND_GRAD, LOSS, SOFTMAX, LOG_SOFTMAX, LOGSUMEXP)
ROW_STATS, GRAD_HESS, DIVERGENCE = "row_stats", "cross_entropy_grad_hess", "kl_divergence_and_grad"
DERIVED = (ROW_STATS, GRAD_HESS, DIVERGENCE)
LOSSES = frozenset({LOSS_AND_GRAD, LOSS})
WRITERS = frozenset({LOSS_AND_GRAD, SOFTMAX, LOG_SOFTMAX})  # of as many numbers as they read

SHAPES, DTYPES, LAYOUTS, OPTIONS, ANSWERS, AUTOGRAD, SIZE, THREADS, BUSY, START = (
    "shapes", "dtypes", "layouts", "options", "answers", "autograd", "size", "threads", "busy", "start",
)  # fmt: skip
GROUPS = (SHAPES, DTYPES, LAYOUTS, OPTIONS, ANSWERS, AUTOGRAD, SIZE, THREADS, BUSY, START)

ROWS = "rows"  # the layout of a C-contiguous array with the classes last
AXIS_0, APART, SECOND, FORTRAN, UNALIGNED = "axis=0", "rows-apart", "every-second-class", "Fortran", "unaligned"
CACHE, DRAM = "cache", "DRAM"
DRAM_BYTES = 20e6  # of logits: with a result of their size they exceed the 32 MB of last-level cache a core complex has
SOFT = "soft_targets"
LAUNCH = "launch"  # host time of calls on a GPU: `cuda_cases`
LINEAR, LINEAR_PASS = "linear", "linear_cross_entropy_and_grad"  # from features, whose number is the option: "d=2048"
HOGS = {"one-hog": 1, "two-hogs": 2}  # how many other processes keep a core busy
BUSY_TORCH, BUSY_SKLEARN, BUSY_BLAS = "torch", "scikit-learn", "BLAS"
AT_ONCE, DASK = {"two-threads-call": 2, "four-threads-call": 4}, "dask"
IN_PYTHON = {"sixteen-threads-compute": 16}  # how many other threads compute in Python
EMPTY, RESTED = "empty_launch", "rested"  # two chunks of nothing, on which all threads are asked to work
IMPORT, FIRST_WARM, FIRST_EMPTY = "import", "first_call_cached", "first_call"

ITEMSIZE = SIZES
LABEL = 8  # bytes


class Case(NamedTuple):
    """A function on logits of a shape, dtype and layout, with an option, in a number of threads (0: all)."""

    group: str
    function: str
    shape: tuple[int, int]  # rows, classes
    dtype: str = "float32"
    layout: str = ROWS
    option: str = ""
    threads: int = 0
    memory: str = CACHE  # where the inputs lie: what the last call left in the caches, or never there
    reason: str = ""

    @property
    def name(self) -> str:
        """The case's own name, ``shapes/softmax/64x10/float32``, with what is not usual about it."""
        rows, classes = self.shape
        unusual = [self.layout] * (self.layout != ROWS) + [self.option] * bool(self.option)
        unusual += [f"threads={self.threads}"] * bool(self.threads)
        return "/".join([self.group, self.function, f"{rows}x{classes}", self.dtype, *unusual])

    @property
    def elements(self) -> int:
        """The number of logits."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes any implementation must move: logits and targets once in, the result once out; 0 of no kernel.

        Nor are there any of a linear pass, which need not have logits, and of what is held against a loss.
        """
        if self.group in {START, LAUNCH, LINEAR, ANSWERS} or self.function == EMPTY:
            return 0
        size = ITEMSIZE[self.dtype]
        arrays = 1 + (self.function in WRITERS) + (self.option == SOFT)
        labels = LABEL * self.shape[0] if self.function in LOSSES and self.option != SOFT else 0
        return arrays * self.elements * size + labels + (self.function == LOGSUMEXP) * self.shape[0] * size


def _case(
    group: str,
    function: str,
    shape: tuple[int, int],
    reason: str,
    dtype: str = "float32",
    layout: str = ROWS,
    option: str = "",
) -> Case:
    """A case whose inputs stay in the caches if they are small enough to do so anywhere."""
    large = shape[0] * shape[1] * ITEMSIZE[dtype] > DRAM_BYTES
    return Case(group, function, shape, dtype, layout, option, memory=DRAM if large else CACHE, reason=reason)


_SHAPES = {
    (64, 10): "a mini-batch of digits: what a call costs before it computes",
    (65536, 3): "fewest classes: rows are shorter than a SIMD vector",
    (65536, 10): "ten classes: MNIST, CIFAR-10",
    (65536, 100): "a hundred classes, past the caches",
    (4096, 1008): "ImageNet's classes, rounded up to a multiple of 16, in the last-level cache",
    (8192, 4096): "rows that fit in a first-level cache, past all caches as a whole",
    (1024, 32000): "the vocabulary of a language model",
    (256, 131072): "a large vocabulary: rows of half a megabyte",
}
_FEW, _MANY, _VOCABULARY = (65536, 10), (4096, 1008), (1024, 32000)
_THREE = (_FEW, _MANY, _VOCABULARY)
_ONE = (1, 10**7)  # a row that threads share
_DTYPES = ("bfloat16", "float16", "float64")
_LAYOUTS = {
    AXIS_0: "classes along the first axis, as in images of class scores",
    APART: "every second row of a larger array",
    SECOND: "every second class of a larger array: nothing is contiguous",
    FORTRAN: "column-major, as R, MATLAB and some solvers leave it",
    UNALIGNED: "one byte off: a column of a packed record",
}
_OPTIONS = {
    "": "the plain loss, which the others are held against",
    "class_weight": "one more factor a row, known before the gradient is written",
    "label_smoothing": "one more sum over the logits",
    "z_loss": "a function of the sum there is already",
    "ignore_index": "a tenth of the rows is left out",
    "focal_gamma": "a power a row",
    "softcap": "a tanh for every logit",
    "temperature": "a multiplication for every logit",
    "class_offset": "a number for each class is added to the logits, as log-priors are, or masks it",
    "where": "a mask, of a byte a logit",
    SOFT: "targets as large as the logits must be read",
}
_MILLION = (10**6, 10)
_ANSWERS = {
    ROW_STATS: "log-probability, entropy and accuracy of each row, which users take three to eight passes for",
    GRAD_HESS: "what gradient boosting asks for each round",
    DIVERGENCE: "distillation: two arrays of logits, and a gradient by one of them",
}
_LOGITS = (10**5, 10**6, 10**7, 10**8, 10**9)
_CLASSES = (2, 8, 32, 128, 512, 2048, 8192, 32768, 131072, 2**19, 2**20)


def _varied() -> Iterator[Case]:
    """Other dtypes, layouts and options."""
    for dtype, function, shape in itertools.product(_DTYPES, (LOSS_AND_GRAD, SOFTMAX), _THREE):
        yield _case(DTYPES, function, shape, f"{dtype}: {_SHAPES[shape]}", dtype)
    for (layout, reason), shape in itertools.product(_LAYOUTS.items(), (_FEW, _MANY)):
        yield _case(LAYOUTS, LOSS_AND_GRAD, shape, reason, layout=layout)
    for shape, (option, reason) in itertools.product(_THREE, _OPTIONS.items()):
        yield _case(OPTIONS, LOSS_AND_GRAD, shape, reason, option=option)


def _derived() -> Iterator[Case]:
    """Results of rows besides a loss."""
    for shape in (_MANY, _VOCABULARY, (256, 131072)):
        yield Case(ANSWERS, ROW_STATS, shape, reason=_ANSWERS[ROW_STATS])
    for shape in (_MILLION, (200_000, 100)):
        yield Case(ANSWERS, GRAD_HESS, shape, reason=_ANSWERS[GRAD_HESS])
    yield Case(ANSWERS, GRAD_HESS, _MILLION, "float64", FORTRAN, reason="float32 results, as LightGBM wants them")
    for shape in (_MANY, _VOCABULARY):
        yield Case(ANSWERS, DIVERGENCE, shape, reason=_ANSWERS[DIVERGENCE])


def _through_autograd() -> Iterator[Case]:
    """Loss and backward pass of tensors."""
    yield _case(AUTOGRAD, LOSS_AND_GRAD, (64, 10), "what a call through autograd costs before it computes")
    for dtype, shape in itertools.product(("float32", "bfloat16"), (_FEW, _MANY, (2048, 32000))):
        yield _case(AUTOGRAD, LOSS_AND_GRAD, shape, "as models are trained: the loss, and its backward pass", dtype)


def _grown() -> Iterator[Case]:
    """More logits, more classes, more threads."""
    for logits in _LOGITS:
        yield _case(SIZE, LOSS_AND_GRAD, (logits // 1000, 1000), f"{logits:.0e} logits: is the cost of each constant?")
    for classes in _CLASSES:
        yield _case(SIZE, LOSS_AND_GRAD, (2**24 // classes, classes), f"{classes} classes at 2**24 logits: is it?")
    for shape, (threads, which) in itertools.product((*_THREE, _ONE), ((1, "one thread"), (0, "all threads"))):
        case = _case(THREADS, LOSS_AND_GRAD, shape, f"{which}: what the others add")
        yield case._replace(threads=threads)


_BUSY = {
    "quiet": "nobody else works, which the others are held against",
    "one-hog": "a process of another session keeps a core busy",
    "two-hogs": "two of them do",
    BUSY_TORCH: "torch has worked just before, and its threads spin",
    BUSY_SKLEARN: "scikit-learn has, by OpenMP",
    BUSY_BLAS: "NumPy has multiplied matrices, and the threads of BLAS spin",
    "two-threads-call": "two Python threads call at once",
    "four-threads-call": "four of them do",
    DASK: "tasks of a Dask worker call, as many as there are cores",
    "sixteen-threads-compute": "sixteen other threads want Python's interpreter",
}


def _busy() -> Iterator[Case]:
    """Calls beside others, of a third of a thread's time that pays for a launch up to some milliseconds."""
    for shape, (option, reason) in itertools.product(((8192, 10), (65536, 3), _FEW, _MANY), _BUSY.items()):
        yield _case(BUSY, SOFTMAX, shape, reason, option=option)
    for option, count in IN_PYTHON.items():
        yield _case(BUSY, SOFTMAX, (64, 10), f"{count} other threads want Python's interpreter", option=option)
    yield _case(BUSY, EMPTY, (2, 1), "what a launch costs, its threads awake", option="quiet")
    yield _case(BUSY, EMPTY, (2, 1), "the same, its threads asleep", option=RESTED)


_STARTS = {
    IMPORT: "what a program pays for an import",
    FIRST_WARM: "a process's first call, kernels compiled by an earlier one",
    FIRST_EMPTY: "the first call ever: kernels are compiled",
}
CASES = (
    *(_case(SHAPES, function, shape, _SHAPES[shape]) for function in FUNCTIONS for shape in _SHAPES),
    *_varied(),
    *_derived(),
    *_through_autograd(),
    *_grown(),
    *_busy(),
    *(Case(START, function, (64, 10), reason=reason) for function, reason in _STARTS.items()),
)

_QUICK_SIZES = (10**5, 10**6, 10**7)
_QUICK_CLASSES = (2, 2048, 2**20)


def is_quick(case: Case) -> bool:
    """Whether the case belongs to the few that show all groups in two minutes."""
    if case.group in {SHAPES, START}:
        return case.function in (LOSS_AND_GRAD, SOFTMAX, IMPORT, FIRST_WARM)
    if case.group == BUSY:
        return case.shape == _FEW
    if case.group == SIZE:
        return case.elements in _QUICK_SIZES or case.shape[1] in _QUICK_CLASSES
    return case.shape == _MANY and case.function in {LOSS_AND_GRAD, ROW_STATS, DIVERGENCE}

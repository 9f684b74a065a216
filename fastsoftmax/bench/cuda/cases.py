"""The table of cases on a GPU, and who computes which."""

import math

from ..cases import DRAM, ITEMSIZE, LAUNCH, LINEAR, LINEAR_PASS, LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, WRITERS, Case
from ..results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH

MOST = 1 << 28  # logits: rows enough to fill a GPU at a quarter of a million classes, half a gigabyte of bfloat16
LEAST = 1 << 16
ARRAYS = 12  # of the logits' size that inputs, results and what the others keep on the way take, at most
SMALL = (64, 1024)

_CLASSES = {
    32: "fewest classes: several rows a warp",
    256: "a mini-batch of labels: from here on 80 % of a copy are expected",
    1024: "about ImageNet's classes",
    4096: "from here on 90 % of a copy are expected",
    16384: "rows of 32 to 64 KB: the others begin to read them twice",
    50257: "the vocabulary of GPT-2: an odd number, no row but the first is aligned",
    65536: "rows of 128 to 256 KB: as much as one multiprocessor holds",
    131072: "a large vocabulary, of Llama 3's size",
    262144: "the vocabulary of Gemma: half a megabyte to a megabyte a row",
}
_FEWER = (256, 4096, 65536, 262144)  # for the functions that are not the main one
_QUICK = (256, 4096, 65536)
_DTYPES = ("bfloat16", "float32")


def _case(function: str, classes: int, dtype: str) -> Case:
    """A case of about `MOST` logits."""
    return Case(SHAPES, function, (MOST // classes, classes), dtype, memory=DRAM, reason=_CLASSES[classes])


_LINEAR = {  # rows, classes, features, dtype
    (16384, 32000, 2048, "bfloat16"): "the last layer of a language model",
    (8192, 131072, 4096, "bfloat16"): "of a large one, whose logits alone take two gigabytes",
    (65536, 1000, 2048, "bfloat16"): "of a classifier of images",
    (16384, 32000, 2048, "float32"): "in float32, where products take longest",
}

#: The main function first: what time is left is for the others.
CASES = (
    *(
        Case(LAUNCH, function, SMALL, reason="what a call takes of the host's time, whatever the GPU does")
        for function in (LOSS_AND_GRAD, LOSS, SOFTMAX)
    ),
    *(_case(LOSS_AND_GRAD, classes, dtype) for classes in _CLASSES for dtype in _DTYPES),
    *(_case(function, classes, dtype) for function in (SOFTMAX, LOSS) for classes in _FEWER for dtype in _DTYPES),
    *(
        Case(LINEAR, LINEAR_PASS, (rows, classes), dtype, option=f"d={d}", memory=DRAM, reason=reason)
        for (rows, classes, d, dtype), reason in _LINEAR.items()
    ),
)

_WANTED = {
    LOSS_AND_GRAD: (OURS, INTO, IN_PLACE, TORCH, COMPILED, QUACK, QUACK_FUSED, LIGER),
    LOSS: (OURS, TORCH, COMPILED, QUACK, LIGER),
    SOFTMAX: (OURS, INTO, TORCH, COMPILED, QUACK, LIGER),
    LINEAR_PASS: (OURS, TORCH, LIGER),
}


def wanted(case: Case) -> list[str]:
    """The contestants of a case, whether they are installed or not: where time runs out, it does for the last."""
    return list(_WANTED[case.function])


def is_quick(case: Case) -> bool:
    """Whether the case belongs to the few that show the main function in two minutes."""
    return case.group == LAUNCH or (case.function == LOSS_AND_GRAD and case.shape[1] in _QUICK)


def fitted(case: Case, room: float) -> Case:
    """The case with as many rows as go into some bytes of memory with all that the contestants keep there."""
    size, (rows, classes) = ITEMSIZE[case.dtype], case.shape
    fit = max(LEAST, 2 ** int(math.log2(max(room, 1.0) / (ARRAYS * size))))
    return case._replace(shape=(max(1, min(rows, fit // classes)), classes))


def room(case: Case) -> int:
    """Bytes that a case takes, at most."""
    return ARRAYS * case.elements * ITEMSIZE[case.dtype]


def copied(case: Case) -> int:
    """Bytes of the array whose copy moves about as many as the case must."""
    return case.elements * ITEMSIZE[case.dtype] // (1 if case.function in WRITERS else 2)

"""The dtypes of elements, and the variants of maps: names, sizes, and the numbers by which kernels know them."""

from functools import lru_cache
from typing import Any

import numpy as np

# Storage kinds: how logits and results lie in memory.
FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = range(4)
#: Bytes of an element by the name of its dtype: of the storage kinds, in their order, and of class indices on a GPU.
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int64": 8, "int32": 4}
FLOATS, LABELS = tuple(SIZES)[:4], tuple(SIZES)[4:]
STORAGE = {name: kind for kind, name in enumerate(FLOATS)}
ITEMSIZE = {kind: SIZES[name] for name, kind in STORAGE.items()}
# A mask, of a byte a logit, which is read as what is added to logits: 0 or -inf, in float32 or in float64.
MASK32, MASK64 = 4, 5
ITEMSIZE |= {MASK32: 1, MASK64: 1}
MASK_OF = {FLOAT32: MASK32, FLOAT64: MASK64}
#: Storage kinds that others are computed in, and kept in while they are worked on.
COMPUTED = {FLOAT16: FLOAT32, BFLOAT16: FLOAT32, FLOAT32: FLOAT32, FLOAT64: FLOAT64}

_NATIVE = {np.dtype(name): kind for name, kind in STORAGE.items() if kind != BFLOAT16}  # which NumPy does not know


def storage_of(dtype: np.dtype[Any]) -> int:
    """The storage kind of a native dtype that the kernels read; -1 for any other."""
    known = _NATIVE.get(dtype)
    if known is None:
        known = BFLOAT16 if dtype.name == "bfloat16" and dtype.itemsize == 2 and dtype.isnative else -1
    return known


def computed(dtype: str) -> str:
    """The name of the dtype that logits of a dtype are computed in, and losses and weights are."""
    return "float64" if dtype == "float64" else "float32"


@lru_cache(maxsize=64)
def computing_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same of NumPy's dtypes."""
    return np.dtype(computed(dtype.name))


def named(dtype: Any) -> str:
    """The name of a dtype of any library, or whatever stands in its place."""
    name = str(getattr(dtype, "name", getattr(dtype, "__name__", dtype))).removeprefix("torch.")
    try:
        return np.dtype(name).name  # of "f4"
    except TypeError:  # of "bfloat16", which NumPy does not know
        return name


def readable_beside(dtype: str) -> tuple[str, ...]:
    """The dtypes of a second operand, gradients or probabilities: that of the logits, and that they are computed in."""
    return tuple(dict.fromkeys((dtype, computed(dtype))))


# Variants of the kernels for maps from rows to rows or numbers.
SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)
# Variants of divergences: what a teacher is, the direction, and what becomes of classes that a list leaves out.
LOGITS, LOG_PROB, PROB = range(3)
FORWARD, REVERSE, MIXED = range(3)
IGNORE, RENORMALIZE, BUCKET = range(3)

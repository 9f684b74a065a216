"""The vocabulary that plans and kernels share: storage kinds and variants, compile-time constants."""

from typing import Any

import numpy as np

# How elements lie in memory.
FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = range(4)
#: What a storage kind is computed in, and kept in while it is worked on.
COMPUTED = {FLOAT16: FLOAT32, BFLOAT16: FLOAT32, FLOAT32: FLOAT32, FLOAT64: FLOAT64}
ITEMSIZE = {FLOAT16: 2, BFLOAT16: 2, FLOAT32: 4, FLOAT64: 8}

_STORAGE: dict[np.dtype[Any], int] = {
    np.dtype(np.float16): FLOAT16,
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.float64): FLOAT64,
}


def storage_of(dtype: np.dtype[Any]) -> int:
    """The storage kind of a native dtype that the kernels read; -1 for any other."""
    known = _STORAGE.get(dtype)
    if known is None:
        known = BFLOAT16 if dtype.name == "bfloat16" and dtype.itemsize == 2 and dtype.isnative else -1
    return known


# Variants of the kernels for maps from rows to rows or numbers.
SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)

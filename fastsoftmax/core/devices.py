"""Whether arguments lie on a GPU: asked of the objects themselves, so that nothing has to be imported."""

from operator import attrgetter
from types import NoneType
from typing import Any

import numpy as np

from . import memo
from .untraced import skip_frames

CUDA, CUDA_MANAGED = 2, 13  # DLPack's device types
#: Types whose objects never lie there.
IN_MAIN_MEMORY = {NoneType, np.ndarray, bool, int, float, str, list, tuple, np.float32, np.float64, np.int64}

asks = memo.shared()  # by type: a function that says whether an object of it lies on a GPU


def library_of(kind: type) -> str:
    """The name of the library that a type comes from: of its first part, as ``"torch"``."""
    return kind.__module__.partition(".")[0]


def on_cuda(value: Any) -> bool:
    """Whether an argument lies on a GPU; `asks` says it of types that were met before."""
    kind = type(value)
    if kind in IN_MAIN_MEMORY:
        return False
    if hasattr(kind, "is_cuda") and "torch" in map(library_of, kind.__mro__):  # of a class derived from torch's, too
        skip_frames()
        asks[kind] = attrgetter("is_cuda")  # by its other attributes a tensor with a gradient raises
        return bool(value.is_cuda)
    if library_of(kind) == "cupy" and hasattr(kind, "__cuda_array_interface__"):
        asks[kind] = lambda _: True
        return True
    try:
        if not hasattr(kind, "__dlpack_device__"):
            return hasattr(value, "__cuda_array_interface__")
        return value.__dlpack_device__()[0] in (CUDA, CUDA_MANAGED)
    except Exception:  # of any object, and of any library for arrays that lie nowhere, or in several places
        return False


def in_main_memory(function: str, mend: str, **arguments: Any) -> None:
    """Refuse arguments on a GPU, for a function that does not go there; `mend` says what does, of an argument {0}."""
    for name, value in arguments.items():
        if on_cuda(value):
            kind = type(value)
            raise TypeError(
                f"{name} must lie in main memory for {function}, got a {library_of(kind)}.{kind.__name__} on a GPU; "
                f"{mend.format(name)}"
            )

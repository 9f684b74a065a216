"""Arguments as arrays and plain numbers: what cannot be one, and what to pass instead."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dtypes import storage_of
from .rules import shown

Array = NDArray[Any]
#: What makes an array of a tensor that does not give its memory as it is: the first chain of methods that works.
_OF_TENSORS = ("detach",), ("detach", "float"), ("detach", "resolve_neg"), ("detach", "resolve_conj"), ("to_dense",)
_NO_NUMBERS = (complex, np.complexfloating, str, bytes, bytearray, memoryview, np.ma.MaskedArray)


def is_read(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of a dtype are real numbers that kernels read, or that are converted for them."""
    if dtype.kind in "biu":
        return issubclass(dtype.type, (np.bool_, np.integer))
    return storage_of(dtype) >= 0 or (not dtype.isnative and storage_of(dtype.newbyteorder("=")) >= 0)


def is_masked(value: Any) -> bool:
    """Whether an argument is a masked array, or a list that holds one."""
    inside = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(one, np.ma.MaskedArray) for one in inside)


def array_of(name: str, value: Any) -> Array:
    """`value` as an array of whatever it holds."""
    if type(value) is np.ndarray:
        return value
    if is_masked(value):
        raise TypeError(
            f"{name} must not be a masked array, whose masked elements would be used as if they were valid; "
            f"pass numpy.ma.filled({name}, ...), which is {name}.filled(...), with what is to stand in their places"
        )
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # of any library
        kind = ValueError if isinstance(error, ValueError) else TypeError
        mend = _from_tensor(name, value)
        raise kind(f"{name} must be an array of numbers; NumPy cannot make one: {shown(error, 300)}{mend}") from None


def numbers(name: str, value: Any) -> Array:
    """`value` as an array of real numbers."""
    return real(name, value, array_of(name, value))


def real(name: str, value: Any, array: Array) -> Array:
    """The array of `value`, if it holds real numbers."""
    if is_read(array.dtype):
        return array
    raise TypeError(
        f"{name} must have dtype float16, bfloat16, float32, float64 or an integer dtype, got {array.dtype} "
        f"with shape {array.shape}{_of(value)}; {mend(name, value, array)}"
    )


def _of(value: Any) -> str:
    """The type of an argument that is no array."""
    return "" if isinstance(value, (np.ndarray, list, tuple)) else f", of a {type(value).__name__}"


def mend(name: str, value: Any, array: Array) -> str:
    """Advice on what to pass instead of `value`, of which NumPy made an array of no real numbers."""
    advice = "its elements are no numbers"
    if callable(getattr(type(value), "toarray", None)):
        advice = f"pass {name}.toarray()"
    elif isinstance(value, Mapping):
        advice = f"pass [{name}[key] for key in sorted({name})]"
    elif array.ndim == 0 and isinstance(value, Iterable) and not isinstance(value, (str, bytes, np.ndarray)):
        advice = f"pass list({name})"
    elif array.dtype.names:
        advice = f"pass numpy.stack([{name}[field] for field in {name}.dtype.names], axis=-1)"
    elif array.dtype.kind == "c":
        advice = f"pass numpy.real({name}), or numpy.abs({name})"
    elif is_convertible(array, np.float64):
        advice = f"pass numpy.asarray({name}, dtype=numpy.float64)"
    return advice


def is_convertible(array: Array, dtype: Any) -> bool:
    """Whether NumPy makes numbers of an array's elements."""
    try:
        with np.errstate(all="ignore"):
            array.astype(dtype)
    except Exception:  # of any object
        return False
    return True


def _from_tensor(name: str, value: Any) -> str:
    """Advice on an object that has the methods of PyTorch's tensors."""
    for chain in _OF_TENSORS:
        array = value
        try:
            for method in chain:
                array = getattr(array, method)()
            np.asarray(array)
        except Exception:  # there is no such method, or it does not help
            continue
        return f"; pass {name}{''.join(f'.{method}()' for method in chain)}"
    return ""


def number(name: str, value: Any, expected: str) -> float:
    """An option as a float: a real number, or an array of one without axes."""
    if type(value) is float:
        return value
    try:
        kind = getattr(getattr(value, "dtype", None), "kind", "f")
        if not isinstance(value, _NO_NUMBERS) and kind in "biuf" and not getattr(value, "ndim", 0):
            return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {expected} that float64 can hold, got {shown(value)}") from None
    except Exception:
        pass
    raise TypeError(f"{name} must be {expected}, got {shown(value)}")


def truth(name: str, value: Any) -> bool:
    """An option as a truth value."""
    try:
        return bool(value)
    except Exception:  # of any object; of arrays
        raise TypeError(f"{name} must be True or False, got {shown(value)}") from None


def dtype_of(name: str, value: Any) -> np.dtype[Any]:
    """A dtype of real numbers."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except Exception:  # of any object
        dtype = np.dtype(object)
    if is_read(dtype):
        return dtype
    raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {shown(value)}")


def whole(name: str, value: Any, expected: str) -> int:
    """An option as an integer."""
    if type(value) is int:
        return value
    try:
        return operator.index(value)
    except Exception:  # of any object
        raise TypeError(f"{name} must be {expected}, got {shown(value)}") from None


def natural(name: str, value: Any, low: int = 0, high: int | None = None) -> int:
    """A count: a whole number within bounds."""
    bounds = f">= {low}" if high is None else f"in [{low}, {high}]"
    number = whole(name, value, f"an integer {bounds}")
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {bounds}, got {shown(number)}")
    return number


def positive(name: str, value: Any, high: int | None = None) -> int:
    """A count that is not 0."""
    return natural(name, value, 1, high)


def positive_or_none(name: str, value: Any) -> int | None:
    """A count that is not 0, where there is one."""
    return None if value is None else positive(name, value)

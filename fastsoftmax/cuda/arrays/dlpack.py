"""DLPack's struct of an array, read from a capsule and written into one."""

import ctypes
from typing import Any

from ...core.devices import CUDA
from ...core.strides import contiguous
from .library import Description

_Word = ctypes.c_int64
_CODES = ("int", "uint", "float", "handle", "bfloat", "complex", "bool")
NAME = b"dltensor"


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(_Word)),
        ("strides", ctypes.POINTER(_Word)),
        ("offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_python = ctypes.pythonapi
_pointer = _python.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def read(capsule: Any) -> tuple[int, Description]:
    """(address, description) of a capsule's array; the capsule remains its owner's."""
    tensor = _Managed.from_address(_pointer(capsule, NAME)).tensor
    code = _CODES[tensor.code] if tensor.code < len(_CODES) else f"dtype {tensor.code} of "
    dtype = f"{code}{tensor.bits}" + (f"x{tensor.lanes}" if tensor.lanes != 1 else "")
    dtype = "bool" if dtype == "bool8" else dtype
    shape, itemsize = tuple(tensor.shape[: tensor.ndim]), tensor.bits // 8
    steps = tuple(s * itemsize for s in tensor.strides[: tensor.ndim]) if tensor.strides else None
    where = (tensor.data or 0) + tensor.offset
    return where, Description(shape, contiguous(shape, itemsize) if steps is None else steps, dtype, tensor.device)


#: What exported capsules point to, until their consumers delete it, with the arrays that own the memory.
_exported: dict[int, Any] = {}


def _delete(managed: int) -> None:
    _exported.pop(managed, None)


_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _python))
_dying = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))


def _unused(capsule: int) -> None:
    """Delete what nobody took out of a capsule."""
    if _valid(capsule, NAME):
        _exported.pop(_dying(capsule, NAME), None)


# C functions of these: held here, as capsules outlive whoever made them.
_deleter, _destructor = (
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete),
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_unused),
)
_capsule = _python.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def export(pointer: int, described: Description, owner: Any, device_type: int = CUDA) -> Any:
    """A capsule for an array at an address, whose memory `owner` holds."""
    shape, strides, name, device, _ = described
    kind = name.rstrip("0123456789")
    bits = int(name[len(kind) :] or 8)  # of "bool"
    sizes = (_Word * max(len(shape), 1))(*shape)
    steps = (_Word * max(len(shape), 1))(*(s // (bits // 8) for s in strides))
    tensor = _Tensor(
        *(pointer, device_type, device, len(shape)),
        *(_CODES.index(kind), bits, 1, sizes, steps, 0),
    )
    managed = _Managed(tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    where = ctypes.addressof(managed)
    _exported[where] = managed, sizes, steps, owner
    return _capsule(where, NAME, ctypes.cast(_destructor, ctypes.c_void_p))

"""Arrays with DLPack, and those of JAX, which never change."""

from typing import Any

from . import dlpack
from .array import Array
from .library import LEGACY, Description, Library, module


class Exchanged(Library):
    """Any array with DLPack: its producer makes our stream wait for what it still has to do."""

    current = False
    waits = True

    def key(self, array: Any, stream: int) -> tuple[Any, int, Any]:
        """Without its capsule an array's owner may overwrite the memory, as JAX does with donated arrays."""
        try:
            capsule = array.__dlpack__(stream=stream or LEGACY)
        except BufferError as error:
            raise TypeError(f"an array on a GPU cannot be read by DLPack: {error}") from error
        address, description = dlpack.read(capsule)
        return description, address, capsule

    def describe(self, array: Any, key: Any) -> Description:
        """The key itself."""
        description: Description = key
        return description

    def stream(self, array: Any) -> int:
        """DLPack has no current stream: the default one."""
        return LEGACY

    def empty(self, like: Any, shape: tuple[int, ...], dtype: str, stream: int) -> Any:
        """Of memory from NVIDIA's own pool."""
        return Array(shape, dtype, int(like.__dlpack_device__()[1]), stream)


class Jax(Exchanged):
    """JAX, whose arrays never change."""

    name = "jax"
    mutable = False
    to_device = "jax.device_put({0}, {1}.device)"
    cast = "{0}.astype({1!r})"
    contiguous = "a copy of {0} in the default layout"

    def exported(self, array: Any) -> Any:
        """A JAX array of the same memory."""
        return module("jax").dlpack.from_dlpack(array) if isinstance(array, Array) else array

"""For those who launch kernels themselves: the library's kernels by address, and its mathematics inside their own.

The functions of `fastsoftmax` take arrays on a GPU as they are: of CuPy, PyTorch, Numba, JAX (by DLPack), or with the
CUDA array interface or DLPack; the linear functions take PyTorch's and CuPy's.  Nothing is copied, and with ``out=``
nothing allocated but the loss.  Work goes to the library's current stream on the logits' GPU, or to the stream that the
logits are bound to (Numba, the interface's ``stream``; the default stream for DLPack); it waits for operands of other
streams, the caller for nothing.  Results are ordered on that stream: operands must not be freed before it has come so
far, which the libraries' own allocators see to; those of other streams, and of DLPack, are held until then.  Arrays of
no known library give an `Array`, which says its stream.

Calls may be captured (``torch.cuda.graph``) once the same call was made before, on any stream: that compiles, loads and
reserves.  Two graphs that were captured on one stream share its workspace: they must not run at the same time.

This module is for what lies below those functions:

- `launcher` gives a function of raw addresses and a stream, which allocates nothing, waits for nothing, and can be
  captured into a CUDA graph.
- `device_functions` gives the formulas (a row's state, how states merge, a row's score) as device functions of
  numba-cuda, to be called in kernels of one's own.

Everything is loaded when it is first asked for: ``import fastsoftmax`` loads nothing of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays.array import Array as Array
    from .by_address import Launcher as Launcher
    from .by_address import launcher as launcher
    from .formulas import device_functions as device_functions
    from .toolkit.compiler import Missing as Missing

_WHERE = {
    "Array": ".arrays.array",
    "Launcher": ".by_address",
    "Missing": ".toolkit.compiler",
    "device_functions": ".formulas",
    "launcher": ".by_address",
}
__all__ = ["Array", "Launcher", "Missing", "device_functions", "launcher"]


def __getattr__(name: str) -> Any:
    """A public name, from its module."""
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])

"""The compiler of the small functions that kernels are made of: they are inlined, and never called."""

from typing import Any

from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

#: Numba's passes that find nothing here, as there are no closures, arrays and literals to unroll: 6 % of the time.
NEEDLESS = {
    untyped_passes.FindLiterallyCalls,
    untyped_passes.InlineClosureLikes,
    untyped_passes.InlineInlinables,
    untyped_passes.LiteralUnroll,
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
}


class _Library(JITCodeLibrary):  # type: ignore[misc]  # Numba has no types
    """The code of one function, to be linked into kernels and optimised there.

    Numba would optimise it here too and turn it into machine code: a quarter of the time of a kernel's compilation.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No address.  What is linked into others is whole from now on: Numba asks once it has written all of it."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> "_Library":
        """Itself, asked to set the environment of the function (the objects of its messages), which has none."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        pass


class Inlined(Compiler):  # type: ignore[misc]
    """Numba's compiler, for functions that only compiled ones call."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *rest: Any) -> None:
        library = library or _Library(targetctx.codegen(), "inlined")
        super().__init__(typingctx, targetctx, library, *rest)

    def define_pipelines(self) -> list[Any]:
        """Numba's passes that have something to do."""
        (pipeline,) = super().define_pipelines()
        pipeline.passes = [one for one in pipeline.passes if one[0] not in NEEDLESS]
        pipeline.finalize()
        return [pipeline]

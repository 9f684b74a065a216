"""The only place that compiles for the CPU: compile options, and what tells kernels apart in the store."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import llvmlite
import numba
from llvmlite import binding
from numba import cfunc, njit, types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import Environment
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from ..core import store
from ..core.announcement import announced
from ..core.garbage import uncollected
from ..core.interrupts import Deferred, fork_waits
from ..core.options import Numbers
from ..core.rules import compiler_disabled
from .inlined import Inlined

#: What a kernel is to the launcher: parameters (an address), number of the chunk, number of the thread's scratch slot.
SIGNATURE = types.void(types.int64, types.int64, types.int64)

#: Numba's division would otherwise branch on every zero divisor and raise.
OPTIONS = {"error_model": "numpy"}

#: For the small functions that kernels are made of.  They have no wrappers for Python and C, in which two fifths of the
#: time went that a kernel took to compile: only compiled code may call them, from Python it is a crash.
inline = njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=Inlined, **OPTIONS)

#: The rooms and modules of what is compiled: an edit anywhere else recompiles nothing for the user.
COMPILED = (
    *("core/law", "core/law_of_divergence", "core/dtypes", "cpu/inlined", "cpu/jit", "cpu/parameters"),
    *("cpu/simd", "cpu/layouts", "cpu/threads"),
    *("cpu/linear/blas", "cpu/linear/block", "cpu/linear/kernels", "cpu/linear/parameters", "cpu/linear/product"),
    *("cpu/linear/sparse", "cpu/linear/tiles", "bench/cpu/ceilings"),
)


def _digest() -> str:
    """All that is compiled, as a hash of its text: kernels of an edited or upgraded package are others."""
    return f"{store.digest(*COMPILED)} {Numbers._fields}"


DIGEST = _digest()

#: Kernels and drivers of this process, by whether they were compiled here or loaded.
counts = Counter({"compiled": 0, "loaded": 0})


@contextmanager
def compiling() -> Iterator[None]:
    """A block that compiles: one thread at a time, and an interruption is raised at its end."""
    if config.DISABLE_JIT:
        raise compiler_disabled()
    with fork_waits, Deferred(), uncollected():
        yield


class Kernel(NamedTuple):
    """A C function that was loaded."""

    address: int
    library: Any  # frees the code once nothing refers to it


def kernel(function: Any) -> Any:
    """A function compiled (or loaded) as a C function with an ``address``.

    It releases the GIL by never holding it, and every thread may call it.
    """
    about = _identified(function, SIGNATURE, OPTIONS)
    with compiling(), global_compiler_lock:
        loaded = _load(about)
        if loaded is not None:
            return Kernel(loaded[0], loaded[1])
        with announced():
            compiled = cfunc(SIGNATURE, cache=False, **OPTIONS)(function)
        _keep(about, compiled._library, compiled.native_name)
        return compiled


class Driver:
    """A function that Python calls, compiled (or loaded) at its first call."""

    __slots__ = ("_entry", "_recipe")

    def __init__(self, *recipe: Any) -> None:
        self._entry: Any = None
        self._recipe = recipe

    def entry(self) -> Any:
        """The compiled function itself: calling that costs less."""
        if self._entry is None:
            with compiling(), global_compiler_lock:
                if self._entry is None:
                    self._entry = _driver(*self._recipe)
        return self._entry

    def __call__(self, *arguments: int) -> Any:
        """The function's result."""
        return (self._entry or self.entry())(*arguments)


def driver(function: Any, signature: Any, *, parallel: bool = False, releases: bool = True) -> Driver:
    """A function of integers for Python to call, which `releases` the interpreter meanwhile."""
    return Driver(function, signature, {"parallel": parallel, "nogil": releases, **OPTIONS})


def _driver(function: Any, signature: Any, options: dict[str, Any]) -> Any:
    about = _identified(function, signature, options)
    if options["parallel"]:
        from numba.np.ufunc.parallel import _launch_threads  # noqa: PLC0415  brings the symbols that it needs

        _launch_threads()
    loaded = _load(about)
    if loaded is None:
        with announced():
            compiled = njit(signature, cache=False, **options)(function).overloads[signature.args]
        names = compiled.fndesc.llvm_cpython_wrapper_name, compiled.fndesc.env_name
        if not compiled.environment.consts:  # objects, which are not kept
            _keep(about, compiled.library, *names)
        return compiled.entry_point
    address, library, environment_name = loaded
    environment = Environment(vars(sys.modules[function.__module__]))
    environment.env_name = environment_name
    module, name = sys.modules[function.__module__], function.__name__
    entry = numba._dynfunc.make_function(module, name, function.__doc__ or "", address, environment, (library,))
    library.codegen.set_env(environment_name, environment)
    return entry


@cache
def _target() -> str:
    """The compiler, and the machine and the switches that it compiles for."""
    names = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML"
    switches = [str(getattr(config, name, None)) for name in names]
    versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, getattr(sys, "abiflags", "")
    return repr((versions, cpu_target.target_context.codegen().magic_tuple(), switches))


def _identified(function: Any, signature: Any, options: dict[str, Any]) -> str:
    """All that makes a compiled function another than others; `function` gets a name, and so symbols, of its own."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    constants = list(zip(function.__code__.co_freevars, cells, strict=True))
    for variable, value in constants:
        if callable(value) or " at 0x" in repr(value):  # others may share it; an address changes
            raise TypeError(f"{function.__qualname__} closes over {variable}, which has no name of its own: {value!r}")
    name = f"{function.__module__}.{function.__qualname__}"
    about = repr((name, constants, str(signature), sorted(options.items()), _target(), DIGEST))
    function.__qualname__ += "-" + hashlib.sha256(about.encode()).hexdigest()[:16]
    return about


def _keep(about: str, library: Any, symbol: str, environment: str = "") -> None:
    """Put what was compiled into the store."""
    counts["compiled"] += 1
    if not store.enabled():
        return
    name, _, (code, bitcode) = library.serialize_using_object_code()
    module = binding.parse_bitcode(bitcode)
    declared = [x.name for x in (*module.functions, *module.global_variables) if x.is_declaration]
    needs = sorted(x for x in declared if binding.address_of_symbol(x))
    fields = {"library": name, "symbol": symbol, "environment": environment, "needs": needs}
    store.keep(store.CPU, about, fields, code)


def _load(about: str) -> tuple[int, Any, str] | None:
    """The address of what the store has, its library, and the name of its environment; None if there is nothing.

    Numba would load all that it compiles with beforehand: a quarter of a second.  Needed are the few functions that the
    code calls, without which LLVM ends the process.
    """
    kept = store.load(store.CPU, about)
    if kept is None:
        return None
    fields, code = kept
    context = cpu_target.target_context
    rtsys.initialize(context)
    if not all(map(binding.address_of_symbol, fields["needs"])):
        context.refresh()
        if not all(map(binding.address_of_symbol, fields["needs"])):
            return None
    symbol = fields["symbol"]
    names = binding.parse_assembly(f'define void @"{symbol}"() {{ unreachable }}').as_bitcode()
    library = context.codegen().unserialize_library((fields["library"], "object", (code, names)))
    counts["loaded"] += 1
    return library.get_pointer_to_function(symbol), library, fields["environment"]


def target() -> tuple[str, str]:
    """(name, features) of the CPU that kernels are compiled for: this machine's, or what NUMBA_CPU_NAME says."""
    name = config.CPU_NAME or binding.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        return name, config.CPU_FEATURES
    return name, "" if config.CPU_NAME else binding.get_host_cpu_features().flatten()

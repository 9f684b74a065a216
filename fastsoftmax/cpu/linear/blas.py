"""Matrix products by the BLAS that SciPy brings, called from kernels, with its own threads kept out of the way.

Each of our threads has BLAS multiply a block of its own.  A BLAS that used threads of its own in every such call would
have them fight for the cores (80 times slower was seen), so its pool is held to one thread while such kernels run.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from threadpoolctl import ThreadpoolController

from ...core.interrupts import Deferred
from ..jit import inline
from ..simd.vectors import I8, I32


@cache
def gemm_address(dtype: np.dtype[Any]) -> int:
    """The address of the matrix product for a dtype: a parameter of kernels, as it differs from process to process."""
    name = {4: "sgemm", 8: "dgemm"}[dtype.itemsize]
    address: int = get_cython_function_address("scipy.linalg.cython_blas", name)
    return address


@intrinsic(prefer_literal=True)
def _gemm(_typing, address, kind, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc):
    """``C = op(A) op(B) + beta C`` for column-major matrices; `kind` is a reference to elements of their type."""
    element = kind.vec.llvm.element
    word = types.int64

    def emit(_context, builder, _sig, args):
        def by_reference(value):
            # In the entry block: a slot that is allocated inside a loop would grow the stack at every turn.
            slot = cgutils.alloca_once(builder, value.type)
            builder.store(value, slot)
            return slot

        def letter(transposed):
            return by_reference(
                builder.select(builder.icmp_signed("!=", transposed, transposed.type(0)), I8(84), I8(78))
            )

        def integer(value):
            return by_reference(builder.trunc(value, I32))

        def matrix(value):
            return builder.inttoptr(value, element.as_pointer())

        address, _, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc = args
        factor = builder.sitofp(beta, element)
        operands = [
            *(letter(ta), letter(tb), integer(m), integer(n), integer(k), by_reference(ir.Constant(element, 1.0))),
            *(matrix(a), integer(lda), matrix(b), integer(ldb), by_reference(factor), matrix(c), integer(ldc)),
        ]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in operands]).as_pointer()
        builder.call(builder.inttoptr(address, function), operands)
        return _context.get_dummy_value()

    return types.void(word, kind, *[word] * 12), emit


@inline
def multiply(address, kind, m, n, k, a, a_ld, a_flipped, b, b_ld, b_flipped, beta, c, c_ld):
    """``C = A B + beta C`` (beta is 0 or 1) of row-major matrices of shapes (m, k), (k, n) and (m, n).

    A flipped matrix lies in memory as its transpose.  Leading dimensions are in elements.  BLAS sees the transposes of
    all three, as its matrices are column-major.
    """
    if m > 0 and n > 0:
        _gemm(address, kind, b_flipped, a_flipped, n, m, k, b, max(b_ld, 1), a, max(a_ld, 1), beta, c, max(c_ld, 1))


def _set_threads(library: Any, threads: int) -> None:
    """Set the threads of a BLAS from whatever thread this is.

    threadpoolctl from 3.7 on ignores every Python thread but the first that ever set OpenBLAS's, unless that is taken
    back: here who may set them is decided by `_Pool`.
    """
    forget = getattr(library, "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)
    library.set_num_threads(threads)
    if forget is not None:
        forget(force=True)


class _Pool:
    """The threads of the BLAS that kernels call, and who holds them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held = 0
        self.before: list[tuple[Any, int]] = []

    def hold(self) -> None:
        """One thread from now on; what was set is remembered by the first who asks."""
        with self.lock:
            if not self.held:
                self.before = [(library, library.num_threads) for library in _libraries()]
                for library, _ in self.before:
                    _set_threads(library, 1)
            self.held += 1

    def release(self) -> None:
        """Set back the threads, once the last who asked is done."""
        with self.lock:
            self.held -= 1
            if not self.held:
                self.restore()

    def restore(self) -> None:
        """Set what was set before."""
        for library, threads in self.before:
            _set_threads(library, threads)
        self.before = []


@cache
def _libraries() -> tuple[Any, ...]:
    """The BLAS of `scipy.linalg.cython_blas`: the library that came with SciPy, or all of them where none did."""
    gemm_address(np.dtype(np.float32))  # loads it
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    own = tuple(x for x in libraries if {"scipy.libs", "scipy"} & set(Path(x.filepath).parts))
    return own or tuple(libraries)


_pool = _Pool()


def _after_fork() -> None:
    """Whoever held the pool in the parent does not run here."""
    global _pool
    if _pool.held:
        _pool.restore()
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold BLAS to one thread; for any number of threads at once, and whatever is raised."""
    pool = _pool  # a child that is forked meanwhile has another
    with Deferred():
        pool.hold()
        try:
            yield
        finally:
            pool.release()

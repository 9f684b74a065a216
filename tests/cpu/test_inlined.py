"""Functions that kernels are made of: compiled into them, and nowhere else."""

import ctypes

import numpy as np

from fastsoftmax.core import store
from fastsoftmax.cpu import jit
from fastsoftmax.cpu.simd.hints import not_unrolled, opaque
from fastsoftmax.cpu.simd.words import put_integer

I64 = ctypes.c_int64


@jit.inline
def twice(number):
    return opaque(number) * 2


def kernel(params, chunk, slot):
    for place in range(slot):
        not_unrolled()
        put_integer(params, place, twice(chunk + place))


def test_they_have_no_machine_code_of_their_own(monkeypatch):
    monkeypatch.setattr(store, "enabled", lambda: False)
    monkeypatch.setattr(store, "load", lambda *_: None)
    compiled, numbers = jit.kernel(kernel), np.zeros(9, np.int64)
    ctypes.CFUNCTYPE(None, I64, I64, I64)(compiled.address)(numbers.ctypes.data, 7, 9)
    assert numbers.tolist() == [14, 16, 18, 20, 22, 24, 26, 28, 30]
    (overload,) = twice.overloads.values()
    assert overload.library.get_pointer_to_function(overload.fndesc.mangled_name) == 0
    assert compiled._library.get_pointer_to_function(compiled.native_name) == compiled.address

"""Arrays between pages of memory that nobody may touch, and numbers that change right after they were checked."""

import ctypes
import mmap
from contextlib import contextmanager
from unittest import mock

import numpy as np

from fastsoftmax.core import memo
from fastsoftmax.cpu import run
from fastsoftmax.cpu.linear import run as linear_run

_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
NOBODY = 0  # may read or write

#: No class of any number of classes, near and far.
BAD = (1 << 40, -1, 1 << 62, -(1 << 40), (1 << 31) + 5, -(1 << 63), 1 << 22)


def guarded(array):
    """A C-contiguous copy that ends where a page ends, between two pages whose every access ends the process."""
    page = mmap.PAGESIZE
    room = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (begin, begin + page + room):
        assert _protect(guard, page, NOBODY) == 0, ctypes.get_errno()
    copy = np.ndarray(array.shape, array.dtype, memory, page + room - array.nbytes)
    copy[...] = array
    return copy


def spoiled(target, classes):
    """(which rows are spoiled, labels of which those are no classes): the first, the last and some that count."""
    rows = np.arange(len(target)) % 3 == 0
    rows[-1] = True
    rows &= target != -100
    labels = target.copy()
    labels[rows] = np.resize([classes, *BAD], rows.sum())
    labels[np.flatnonzero(rows)[-1]] = classes  # past the end of the logits' memory in the last row
    return rows, labels


@contextmanager
def checked_before(array, values):
    """Whatever is checked of `array` meanwhile, it holds other `values` by the time that kernels read it."""
    counted = run.counted

    def then(problem):
        found = counted(problem)
        array[...] = values
        return found

    memo.clear()  # prepared calls check and compute in one piece of compiled code
    with mock.patch.object(run, "counted", then):
        yield
    memo.clear()


@contextmanager
def structure(spoil):
    """Sparse features whose guarded structure is changed by ``spoil(features)`` after the check."""
    features = linear_run.features_of

    def changed(problem):
        x = features(problem)
        x = x._replace(values=guarded(x.values), starts=guarded(x.starts), indices=guarded(x.indices))
        spoil(x)
        return x

    with mock.patch.object(linear_run, "features_of", changed):
        yield

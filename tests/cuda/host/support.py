"""What the tests of the host's part of GPU calls share: data, tolerances, and what was launched."""

import numpy as np
from ml_dtypes import bfloat16

from fastsoftmax import reference
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed

DTYPES = [np.dtype(t) for t in (np.float16, bfloat16, np.float32, np.float64)]


def drawn(*shape, dtype=np.float32, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def near(actual, expected, dtype=np.float32, size=1.0):
    """Within the rounding of what is stored, and of numbers on the way in the computing dtype."""
    error = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 1e-13}[np.dtype(dtype).name]
    actual = np.asarray(actual).astype(np.float64)
    np.testing.assert_allclose(actual, expected, rtol=error, atol=error * size)


def of(function):
    return getattr(reference, function.__name__)


def entries(driver):
    return [launched.entry for launched in driver.launches]


def spread(x):
    """Every second element of every axis, between others."""
    room = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view

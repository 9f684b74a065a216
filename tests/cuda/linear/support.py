"""What the tests of linear passes on a GPU share: operands on it, and the comparison with the reference."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.backends import Gpu
from tests.cuda.host.support import near
from tests.linear.support import ALL
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed
from tests.support import computed

SHAPE = 50, 7, 9  # rows, features, classes
every = pytest.mark.parametrize("name", ["torch", "cupy"])
torch = pytest.mark.parametrize("name", ["torch"])


def on(library, *arrays, **options):
    return [None if a is None else library.array(a, **options) for a in arrays]


def wide(arrays):
    """Operands in float64, and labels as they are."""
    return [a if a is None or a.dtype.kind == "i" else a.astype(np.float64) for a in arrays]


def as_reference(library, given, options, *, size=1.0, wrt=ALL, **more):
    """Loss and gradients of a pass on a GPU against float64."""
    dtype, gpu = given[0].dtype, Gpu(library.driver, library, forget=False)
    result = gpu.call(fs.linear_cross_entropy_and_grad, *given, wrt=wrt, **options, **more)
    more = {k: v for k, v in more.items() if k not in ("block_rows", "check_targets")}
    right = reference.linear_cross_entropy_and_grad(*wide(given), wrt=wrt, **options, **more)
    for value, expected, kind in zip(result, right, (computed(dtype), *[dtype] * 3), strict=True):
        assert (value is None) == (expected is None)
        if value is not None:
            assert (value.dtype, value.shape) == (kind, np.shape(expected))
            near(value, expected, dtype, size)

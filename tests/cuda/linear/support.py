"""What the tests of linear passes on a GPU share: operands on it, and the comparison with the reference."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.cuda.host.support import near
from tests.linear.support import ALL
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed

SHAPE = 50, 7, 9  # rows, features, classes
every = pytest.mark.parametrize("name", ["torch", "cupy"])
torch = pytest.mark.parametrize("name", ["torch"])


def on(library, *arrays, **options):
    return [None if a is None else library.array(a, **options) for a in arrays]


def moved(library, options, real=np.float32):
    return {k: library.array(v.astype(real)) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def as_reference(library, dtype, given, options, *, size=1.0, wrt=ALL, **more):
    """Loss and gradients of a pass on a GPU against float64; what they are is handed back."""
    real = np.float64 if dtype == np.float64 else np.float32
    result = fs.linear_cross_entropy_and_grad(*on(library, *given), wrt=wrt, **moved(library, options, real), **more)
    more = {k: v for k, v in more.items() if k not in ("block_rows", "check_targets", "out")}
    wide = [a if a is None or a.dtype.kind == "i" else a.astype(np.float64) for a in given]
    right = reference.linear_cross_entropy_and_grad(*wide, wrt=wrt, **options, **more)
    assert type(result.loss) is library.type
    assert result.loss.values.dtype == real
    near(library.host(result.loss), right.loss, dtype, size)
    for which, like in (("x", given[0]), ("weight", given[1]), ("bias", given[3])):
        found, expected = getattr(result, f"grad_{which}"), getattr(right, f"grad_{which}")
        assert (found is None) == (expected is None)
        if found is not None:
            assert type(found) is library.type
            assert (found.values.dtype, found.shape) == (dtype, like.shape)
            near(library.host(found), expected, dtype, size)
    return result

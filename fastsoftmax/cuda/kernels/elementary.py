"""exp of numbers up to 0 in float32: exact to 2 or 3 ulps, or quick.

The instruction ``ex2.approx`` has an error of 2 ulps.  An exponential loses more by the rounding of its argument times
log2(e), which grows with the argument: 44 ulps at exp(-88).  `exp` adds that part again, for results that are stored in
float32; `quick` does not, for those that are stored in half types.  Sums of exponentials are the same either way, as
``d exp(d)`` is never below -1/e.
"""

from ...core.dtypes import FLOAT32
from ..toolkit.compiler import cuda, device, types
from .memory import assembly, constant

LOG2E = constant(FLOAT32, 1.4426950408889634)
LOG2E_REST = constant(FLOAT32, 1.4426950408889634 - float(LOG2E))
LN2 = constant(FLOAT32, 0.6931471805599453)
LOWEST = constant(FLOAT32, -200.0)  # exp is 0 there, and -inf would make the rest of its product NaN


ex2 = assembly("ex2.approx.ftz.f32 $0, $1;", "=f,f", types.float32, types.float32)
_max = assembly("max.NaN.f32 $0, $1, $2;", "=f,f,f", types.float32, types.float32, types.float32)  # a NaN stays one


@device
def quick(x):
    """exp(x) for x <= 0 or NaN, in float32: 0 below 1e-38."""
    return ex2(x * LOG2E)


@device
def exp(x):
    """The same within 2 or 3 ulps, however small it is."""
    x = _max(x, LOWEST)
    product = x * LOG2E
    rest = cuda.fma(x, LOG2E_REST, cuda.fma(x, LOG2E, -product))
    e = ex2(product)
    return cuda.fma(e, rest * LN2, e)

"""The formulas as device functions, for kernels that users write."""

from types import SimpleNamespace
from typing import Any

from ..core.dtypes import STORAGE
from .kernels.laws import LAWS


def device_functions(dtype: Any = "float32") -> SimpleNamespace:
    """The formulas of the library as device functions of numba-cuda.

    A row of logits z is summarised by its state ``(m, s)``: its largest logit, and ``sum exp(z_j - m)``.  States of
    parts of a row merge in any order; one that holds nothing is ``(-inf, 0)``.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
        What is computed in; arguments have to be of this dtype, constants in a kernel too (``numpy.float32(0)``).

    Returns
    -------
    namespace
        ``merge(m, s, m2, s2)`` gives the state of two parts together, ``shift(m)`` what to subtract before exp,
        ``normaliser(m, s)`` is s, or NaN where there are no probabilities, ``log_sum_exp(m, s)``,
        ``exp(x)`` for x <= 0, ``log_total(d, others, s)`` and ``negative_log_likelihood(d, others, s)``
        for ``d = z_t - m`` and the sum without the target's term, and all other functions of the formulas; they are
        described where they are written, in ``fastsoftmax/core/law.py``.

    Raises
    ------
    Missing
        If numba-cuda is not installed; the message names the command that installs it.
    ValueError
        If the dtype is another one.

    Notes
    -----
    Take a function out of the namespace before the kernel: Numba compiles names, not attributes.

    Examples
    --------
    >>> import numpy as np
    >>> from numba import cuda
    >>> law = device_functions("float32")
    >>> merge, log_sum_exp, low, zero, one = law.merge, law.log_sum_exp, *map(np.float32, (-np.inf, 0, 1))
    >>> @cuda.jit
    ... def row_wise(x, lse):  # a thread a row
    ...     i = cuda.grid(1)
    ...     if i < x.shape[0]:
    ...         m, s = low, zero
    ...         for j in range(x.shape[1]):
    ...             m, s = merge(m, s, x[i, j], one)
    ...         lse[i] = log_sum_exp(m, s)
    """
    name = str(getattr(dtype, "name", getattr(dtype, "__name__", dtype)))
    if STORAGE.get(name) not in LAWS:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}; half types are computed in float32")
    return SimpleNamespace(**{n: f for n, f in LAWS[STORAGE[name]].items() if n != "__builtins__"})

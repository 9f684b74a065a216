"""The library's functions for JAX: arrays and tracers in, differentiable, under jit, vmap and grad.

XLA calls the kernels on its own buffers: nothing is copied on the CPU, and what is read is never written to.  First
gradients by logits and features come from the kernels; those by probabilities, weights and offsets, and second
derivatives, from plain JAX.

On a GPU the CUDA kernels run on XLA's buffers and stream: *this has not run on a GPU yet*, only on a stand-in for one.
There losses and sums are copied once more, `linear_cross_entropy` is refused, class numbers of statistics need JAX's
64-bit dtypes, and a label out of range makes its row NaN instead of an error.

>>> import jax, jax.numpy as jnp, fastsoftmax.jax as fj
>>> print(jax.jit(jax.grad(fj.cross_entropy))(jnp.zeros((1, 2)), jnp.array([0])))
[[-0.5  0.5]]
"""

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fastsoftmax.jax needs jax 0.7 or newer ({error}); install it with: pip install 'jax>=0.7'"
    ) from error

from .divergence import kl_divergence
from .losses import cross_entropy, linear_cross_entropy
from .rows import log_softmax, logsumexp, softmax
from .statistics import row_stats

__all__ = [
    "cross_entropy",
    "kl_divergence",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "row_stats",
    "softmax",
]

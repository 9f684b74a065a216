"""The library's functions for torch: tensors in, tensors out, differentiable as often as anybody likes.

`cross_entropy` takes the place of ``torch.nn.functional.cross_entropy``: the same classes in dimension 1, the same
names, and the options of `fastsoftmax.cross_entropy` besides.  Tensors in main memory are read where they are, bfloat16
and float16 too; tensors on a GPU on the current stream.  ``torch.compile`` sees one operator, and no graph ends there.

>>> import torch, fastsoftmax.torch as ft
>>> logits = torch.zeros(1, 2, requires_grad=True)
>>> ft.cross_entropy(logits, torch.tensor([0])).backward()
>>> logits.grad
tensor([[-0.5000,  0.5000]])
"""

try:
    import ml_dtypes as _ml_dtypes  # noqa: F401
    import torch as _torch
except ImportError as error:
    raise ImportError(
        f"fastsoftmax.torch needs torch 2.4 or newer, and ml_dtypes ({error}); "
        "install them with: pip install 'torch>=2.4' ml_dtypes"
    ) from error
if not hasattr(_torch.library, "custom_op"):
    raise ImportError(
        f"fastsoftmax.torch needs torch 2.4 or newer, got {_torch.__version__}; "
        "install it with: pip install 'torch>=2.4' ml_dtypes"
    )

from . import hf
from .functions import (
    CrossEntropy,
    cross_entropy,
    kl_divergence,
    linear_cross_entropy,
    row_stats,
)
from .maps import log_softmax, logsumexp, softmax
from .modules import CrossEntropyLoss, LinearCrossEntropyLoss

__all__ = [
    "CrossEntropy",
    "CrossEntropyLoss",
    "LinearCrossEntropyLoss",
    "cross_entropy",
    "hf",
    "kl_divergence",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "row_stats",
    "softmax",
]

"""Modules, whose options are those of the functions."""

from typing import Any

import torch

from .functions import cross_entropy, linear_cross_entropy


class _Loss(torch.nn.Module):
    """A loss with options, and weights of the classes that follow the module's device."""

    def __init__(self, function: Any, weight: Any, options: dict[str, Any]) -> None:
        super().__init__()
        allowed = {*function.__kwdefaults__} - {"class_weight", "sample_weight"}
        for name in options:
            if name not in allowed:
                raise TypeError(f"{name} is no option; they are {', '.join(sorted(allowed))}")
        self.register_buffer("weight", weight)
        self.options = options

    def extra_repr(self) -> str:
        """The options as they were given."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class CrossEntropyLoss(_Loss):
    """`cross_entropy` as a module, of weights of the classes and any of its keywords.

    >>> import torch, fastsoftmax.torch as ft
    >>> ft.CrossEntropyLoss(label_smoothing=0.1)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    weight: Any

    def __init__(self, weight: Any = None, **options: Any) -> None:
        super().__init__(cross_entropy, weight, options)

    def forward(self, input: Any, target: Any, *, sample_weight: Any = None) -> Any:
        """The loss of logits."""
        return cross_entropy(input, target, self.weight, sample_weight=sample_weight, **self.options)


class LinearCrossEntropyLoss(_Loss):
    """A `torch.nn.Linear`, `linear`, and the loss of its logits, which are never there all at once.

    `weight` are weights of the classes, and other keywords those of `linear_cross_entropy`.

    >>> import torch, fastsoftmax.torch as ft
    >>> criterion = ft.LinearCrossEntropyLoss(8, 100, shift=1)
    >>> criterion(torch.zeros(2, 5, 8), torch.zeros(2, 5, dtype=torch.int64)).isfinite()
    tensor(True)
    """

    weight: Any

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        weight: Any = None,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(linear_cross_entropy, weight, options)
        self.linear = torch.nn.Linear(in_features, num_classes, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Any, target: Any, *, sample_weight: Any = None) -> Any:
        """The loss of features."""
        return linear_cross_entropy(
            *(input, self.linear.weight, target, self.linear.bias),
            class_weight=self.weight,
            sample_weight=sample_weight,
            **self.options,
        )

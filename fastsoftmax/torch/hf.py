"""A loss for models of Hugging Face's transformers: ``model.loss_function = causal_lm_loss``."""

from typing import Any

import torch

from .functions import cross_entropy


def causal_lm_loss(
    logits: Any,
    labels: Any,
    vocab_size: int,
    num_items_in_batch: Any = None,
    ignore_index: int = -100,
    shift_labels: Any = None,
    **options: Any,
) -> Any:
    """The loss of next tokens, by the arguments that transformers' models call it with.

    Logits are not converted to float32: they are computed in it as they are read.  The sum of the losses is divided by
    `num_items_in_batch`, or by the number of labels that count.  `shift_labels` are labels that were shifted already.
    Keywords of `cross_entropy` are used; others, which models hand on, are not.

    >>> import torch
    >>> from fastsoftmax.torch import hf
    >>> hf.causal_lm_loss(torch.zeros(1, 3, 8), torch.tensor([[1, 2, 3]]), 8)
    tensor(2.0794)
    """
    if shift_labels is None:
        shift_labels = torch.nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    target = shift_labels.reshape(-1).to(logits.device)
    known = cross_entropy.__kwdefaults__ or {}
    options = {name: value for name, value in options.items() if name in known and name != "reduction"}
    reduction = "mean" if num_items_in_batch is None else "sum"
    flat = logits.reshape(-1, vocab_size)
    loss = cross_entropy(flat, target, ignore_index=ignore_index, reduction=reduction, **options)
    if num_items_in_batch is None:
        return loss
    return loss / (num_items_in_batch.to(loss.device) if torch.is_tensor(num_items_in_batch) else num_items_in_batch)

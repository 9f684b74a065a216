"""A classifier in torch whose last layer and loss are one pass: ``python examples/torch_training_loop.py``.

The logits of the last layer are never there all at once: `fastsoftmax.torch.linear_cross_entropy` gives the loss, and
the gradients of features, weights and bias.  With ``FASTSOFTMAX_TOY=1`` in the environment it runs on next to nothing.
Needs ``pip install torch ml_dtypes``.
"""

import os

import torch

import fastsoftmax.torch as ft

ROWS, FEATURES, HIDDEN, CLASSES, STEPS = (
    (200, 8, 16, 10, 5) if os.environ.get("FASTSOFTMAX_TOY") else (20_000, 32, 64, 1000, 100)
)


def main():
    """Train by Adam, and print how it goes."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, FEATURES)
    y = (x @ torch.randn(FEATURES, CLASSES)).argmax(1)
    body = torch.nn.Sequential(torch.nn.Linear(FEATURES, HIDDEN), torch.nn.GELU())
    head = torch.nn.Linear(HIDDEN, CLASSES)
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-2)
    for number in range(STEPS):
        loss = ft.linear_cross_entropy(body(x), head.weight, y, head.bias, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if number % max(1, STEPS // 5) == 0 or number == STEPS - 1:
            print(f"step {number}: loss {loss.item():.3f}")
    with torch.no_grad():
        found = ft.row_stats(head(body(x)), y, want=("correct", "entropy"))
    print(f"accuracy {found.correct.float().mean():.3f}, mean entropy {found.entropy.mean():.3f}")


if __name__ == "__main__":
    main()

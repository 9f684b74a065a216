"""A model of Hugging Face's transformers with this library's loss: ``python examples/transformers_loss.py``.

The model is small and starts from random weights; it learns to count.  Its own loss and ours are printed side by side.
With ``FASTSOFTMAX_TOY=1`` in the environment it runs on next to nothing.  Needs
``pip install torch ml_dtypes transformers``.
"""

import os

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fastsoftmax.torch.hf import causal_lm_loss

WORDS, WIDTH, STEPS = (50, 16, 3) if os.environ.get("FASTSOFTMAX_TOY") else (2000, 64, 60)


def model():
    """A model of two layers."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    )


def curve(learner):
    """The losses of a few steps of training."""
    optimiser, random = torch.optim.AdamW(learner.parameters(), 5e-3), torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        first = torch.randint(WORDS, (8, 1), generator=random)
        tokens = (first + torch.arange(32)) % WORDS
        loss = learner(input_ids=tokens, labels=tokens).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


def main():
    """Train twice from the same weights, and print both losses."""
    theirs, ours = model(), model()
    ours.loss_function = causal_lm_loss
    for step, losses in enumerate(zip(curve(theirs), curve(ours), strict=True)):
        if step % max(1, STEPS // 6) == 0 or step == STEPS - 1:
            print("step {}: {:.4f} with its own loss, {:.4f} with ours".format(step, *losses))


if __name__ == "__main__":
    main()

"""A classifier in JAX and optax whose last layer and loss are one pass: ``python examples/jax_training_loop.py``.

The logits of the last layer are never there all at once: `fastsoftmax.jax.linear_cross_entropy` gives the loss and the
gradients of features, weights and bias.  With ``FASTSOFTMAX_TOY=1`` in the environment it runs on next to nothing.
Needs ``pip install jax optax``.
"""

import os

import jax
import jax.numpy as jnp
import optax

import fastsoftmax.jax as fj

ROWS, FEATURES, HIDDEN, CLASSES, STEPS = (
    (200, 8, 16, 10, 5) if os.environ.get("FASTSOFTMAX_TOY") else (20_000, 32, 64, 1000, 100)
)


def hidden(parameters, x):
    """The features that the last layer is given."""
    return jax.nn.gelu(x @ parameters["first"])


def loss(parameters, x, y):
    """The mean cross-entropy, with label smoothing."""
    last = parameters["last"], y, parameters["bias"]
    return fj.linear_cross_entropy(hidden(parameters, x), *last, label_smoothing=0.05)


@jax.jit
def accuracy(parameters, x, y):
    """The part of the rows whose class is found, and the mean entropy of the predictions."""
    logits = hidden(parameters, x) @ parameters["last"].T + parameters["bias"]
    found = fj.row_stats(logits, y, want=("correct", "entropy"))
    return found.correct.mean(), found.entropy.mean()


def main():
    """Train by Adam, and print how it goes."""
    of_x, of_y, of_first, of_last = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(of_x, (ROWS, FEATURES))
    y = jnp.argmax(x @ jax.random.normal(of_y, (FEATURES, CLASSES)), axis=1)
    parameters = {
        "first": jax.random.normal(of_first, (FEATURES, HIDDEN)) / FEATURES**0.5,
        "last": jax.random.normal(of_last, (CLASSES, HIDDEN)) / HIDDEN**0.5,
        "bias": jnp.zeros(CLASSES),
    }
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(parameters, state):
        value, grads = jax.value_and_grad(loss)(parameters, x, y)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(parameters, updates), state, value

    state = optimiser.init(parameters)
    for number in range(STEPS):
        parameters, state, value = step(parameters, state)
        if number % max(1, STEPS // 5) == 0 or number == STEPS - 1:
            print(f"step {number}: loss {value:.3f}")
    right, entropy = accuracy(parameters, x, y)
    print(f"accuracy {right:.3f}, mean entropy {entropy:.3f}")


if __name__ == "__main__":
    main()

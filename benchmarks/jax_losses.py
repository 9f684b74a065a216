"""Losses and gradients in JAX, beside jitted JAX and optax: ``python -m benchmarks.jax_losses``.

The mean loss and its gradient under `jax.jit`, by itself and behind a product of matrices that XLA computes with
threads of its own.  Results are compared before anything is timed.  The direct call, of NumPy's arrays, is what the
adapter costs more than.  Needs ``pip install jax optax``; prints Markdown.
"""

import argparse
import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fastsoftmax as fs
import fastsoftmax.jax as fj
from fastsoftmax.bench import machine, timing

from .files import head, listed, row

SHAPES = ((64, 10), (65536, 10), (65536, 100), (4096, 1008), (1024, 32000))
FEATURES = 64
Loss = Callable[[Any, Any], Any]


def of_jax(logits: Any, target: Any) -> Any:
    """The loss as JAX's users write it."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=1).mean()


def losses() -> dict[str, Loss]:
    """The contestants that are installed."""
    found: dict[str, Loss] = {"ours": fj.cross_entropy, "JAX": of_jax}
    if importlib.util.find_spec("optax"):
        import optax

        found["optax"] = lambda x, t: optax.softmax_cross_entropy_with_integer_labels(x, t).mean()
    return found


def behind_a_product(loss: Loss) -> Callable[[Any, Any, Any], Any]:
    """The loss of a linear map's logits, as a function of features, weights and target."""
    return lambda x, weight, target: loss(x @ weight, target)


def ready(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call and wait."""
    return jax.block_until_ready(function(*arguments))


def timed(calls: dict[str, timing.Call], seconds: float) -> dict[str, float]:
    """The least time of each, whose results are the same."""
    results = {name: jax.tree.leaves(call()) for name, call in calls.items()}
    for found in results.values():
        for got, right in zip(found, results["JAX"], strict=True):
            np.testing.assert_allclose(np.asarray(got), np.asarray(right), rtol=2e-4, atol=1e-6)
    times = timing.measure(calls, seconds=seconds, pause=timing.PAUSE)
    return {name: time.least for name, time in times.items()}


def measured(rows: int, classes: int, seconds: float) -> list[str]:
    """A row of the table, in milliseconds."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, classes), dtype=np.float32)
    target = random.integers(0, classes, rows).astype(np.int32)
    arguments = jnp.asarray(x), jnp.asarray(target)
    made = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in losses().items()}
    calls: dict[str, timing.Call] = {name: functools.partial(ready, f, *arguments) for name, f in made.items()}
    labels = target.astype(np.int64)
    calls["direct"] = lambda: tuple(fs.cross_entropy_and_grad(x, labels))
    alone = timed(calls, seconds)
    features = jnp.asarray(random.standard_normal((rows, FEATURES), dtype=np.float32))
    weight = jnp.asarray(random.standard_normal((FEATURES, classes), dtype=np.float32)) * 0.1
    made = {name: jax.jit(jax.value_and_grad(behind_a_product(loss), 1)) for name, loss in losses().items()}
    linear = timed(
        {name: functools.partial(ready, f, features, weight, arguments[1]) for name, f in made.items()}, seconds
    )
    cells = [alone[name] for name in ("direct", "ours", "JAX")] + [alone.get("optax", np.nan)]
    cells += [linear["ours"], linear["JAX"]]
    ratios = [f"{alone['JAX'] / alone['ours']:.2f}", f"{linear['JAX'] / linear['ours']:.2f}"]
    return [f"{rows}×{classes}", *(f"{cell * 1e3:.3g}" for cell in cells[:4]), ratios[0],
            *(f"{cell * 1e3:.3g}" for cell in cells[4:]), ratios[1]]  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each table's cell (default: %(default)s)")
    parser.add_argument("--most", type=int, default=1 << 26, help="elements of logits (default: %(default)s)")
    given = parser.parse_args(arguments)
    cells = ["rows × classes", "direct", "ours", "JAX", "optax", "× JAX", "behind a product: ours", "JAX", "× JAX"]
    lines = [*listed(machine.facts("jax", "optax")), "", *head(cells)]
    print("\n".join(lines))
    for rows, classes in SHAPES:
        if rows * classes <= given.most:
            print(row(measured(rows, classes, given.seconds)), flush=True)


if __name__ == "__main__":
    main()

"""The benchmark of losses in JAX runs, at toy size, and compares results before it times anything."""

import numpy as np
import pytest

pytest.importorskip("jax")


def test_runs(capsys, monkeypatch):
    from benchmarks import jax_losses

    monkeypatch.setattr(jax_losses, "SHAPES", ((64, 10), (4096, 1008)))
    jax_losses.main(["--seconds", "0.01", "--most", "1000"])
    printed = capsys.readouterr().out
    assert "| 64×10 |" in printed
    assert "4096" not in printed


def test_what_is_wrong_is_not_timed():
    from benchmarks import jax_losses

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        jax_losses.timed({"JAX": lambda: (np.ones(2),), "ours": lambda: (np.zeros(2),)}, 0.01)

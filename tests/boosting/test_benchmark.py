"""The benchmark of the objectives runs, at toy size, and compares results before it times anything."""

import numpy as np
import pytest

from benchmarks import boosting

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")


def test_runs(capsys, monkeypatch):
    monkeypatch.setattr(boosting, "CLASSES", (3,))
    boosting.main(["--rows", "300", "--rounds", "1", "--seconds", "0.01"])
    printed = capsys.readouterr().out
    for booster in ("lightgbm", "xgboost"):
        assert f"| {booster} | 300×3 |" in printed


def test_what_is_wrong_is_not_timed(monkeypatch):
    monkeypatch.setattr(boosting, "by_numpy", lambda _: lambda margins, data: (np.zeros_like(margins),) * 2)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        boosting.calls("xgboost", 300, 3, 0.01)

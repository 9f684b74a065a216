"""The benchmark of the plans' constants runs, at toy size, leaves them as they were, and tells whose results differ."""

import importlib

import pytest

from benchmarks import constants
from fastsoftmax.cpu import plan


@pytest.mark.parametrize("where", sorted({case[:2] for case in constants.CASES}), ids=".".join)
def test_they_are_there(where):
    module, name = where
    assert type(getattr(importlib.import_module(f"fastsoftmax.cpu.{module}"), name)) is int


def cells(case):
    return constants.measured(constants.Case(*case), 0.01)


def test_the_same_bits_and_others():
    assert cells(("plan", "PARALLEL", 1, "loss and gradient", (16, 20)))[-1] == "same"
    assert cells(("plan", "FEW_CLASSES", 16, "softmax", (16, 20)))[-1] == "others"
    assert (plan.PARALLEL, plan.FEW_CLASSES) == (1 << 16, 24)


def test_a_constant_is_what_it_was_after_an_error(monkeypatch):
    monkeypatch.setattr(constants, "bits", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cells(("plan", "PARALLEL", 1, "softmax", (16, 20)))
    assert plan.PARALLEL == 1 << 16


def test_runs(capsys):
    constants.main(["FEW_CLASSES", "--seconds", "0.01", "--most", "1000"])
    assert "| constant | now |" in capsys.readouterr().out

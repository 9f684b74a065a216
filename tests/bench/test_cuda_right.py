"""Contestants on a GPU, without one: whether results are right, and the others by stand-ins with their signatures.

Times are those of a stand-in's counter: nothing here is a measurement.
"""

import sys
from types import ModuleType

import numpy as np
import pytest

from fastsoftmax.bench.cases import LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, Case
from fastsoftmax.bench.cuda import cases, contestants
from fastsoftmax.bench.results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH
from tests.standins.gpu import HAS_TORCH, LOSS_CASE, TOY, StandIn

needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


# Whether results are right.


def right(case=LOSS_CASE):
    """What a case is made of, its right result, and what is expected."""
    d = contestants.drawn(StandIn(), case)
    call = contestants.CONTESTANTS[OURS].make(case, d)
    return d, call(), contestants.inputs.expected_of(case, d.rows, case.shape[0])


def test_inputs_repeat_after_the_distinct_rows(monkeypatch):
    monkeypatch.setattr(contestants, "DISTINCT", 70)
    d = contestants.drawn(StandIn(), LOSS_CASE)
    assert (len(d.rows.x), d.x.shape, d.target.shape) == (10, (300, 7), (300,))
    np.testing.assert_array_equal(d.x.reshape(30, 10, 7), np.broadcast_to(d.rows.x, (30, 10, 7)))
    np.testing.assert_array_equal(d.target.reshape(30, 10), np.broadcast_to(d.rows.target, (30, 10)))
    assert len(np.unique(d.rows.x, axis=0)) == 10


@pytest.mark.parametrize("case", TOY, ids=lambda case: case.name)
def test_right_results_are_right(case, monkeypatch):
    monkeypatch.setattr(contestants, "DISTINCT", 3 * case.shape[1])
    d, result, expected = right(case)
    assert contestants.disagreement(case, d, result, expected) == ""


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (0, 0.01, "wrong: numbers off by"),
        (9, np.nan, "wrong: numbers off by"),
        (10, 0.01, "wrong: rows of the same logits differ by"),
        (157, np.nan, "wrong: rows of the same logits differ by"),
        (299, 0.01, "wrong: rows of the same logits differ by"),
    ],
)
def test_a_wrong_number_in_any_row_is_found(row, value, message, monkeypatch):
    monkeypatch.setattr(contestants, "DISTINCT", 70)
    d, (loss, grad), expected = right()
    grad[row, 3] += value
    assert contestants.disagreement(LOSS_CASE, d, (loss, grad), expected).startswith(message)


def test_a_wrong_loss_is_found():
    d, (loss, grad), expected = right()
    assert contestants.disagreement(LOSS_CASE, d, (loss * 1.01, grad), expected).startswith("wrong: a loss of")
    case = LOSS_CASE._replace(function=LOSS)
    assert contestants.disagreement(case, d, loss * 1.01, (expected[0], None)).startswith("wrong: a loss of")


def test_who_is_wrong_is_not_timed(gpu, monkeypatch):
    wrong = contestants.Contestant(lambda case, d: lambda: (1.0, d.x))
    monkeypatch.setitem(contestants.CONTESTANTS, TORCH, wrong)
    calls, skipped = contestants.prepared(LOSS_CASE, contestants.drawn(gpu, LOSS_CASE), [OURS, TORCH])
    assert list(calls) == [OURS]
    assert skipped[TORCH].startswith("wrong: a loss of 1 where")


# The others, by stand-ins with their signatures.


@pytest.fixture
def others(monkeypatch):
    """Modules of QuACK and Liger as far as they are called, computing by torch; what was asked of them is in a list."""
    torch = pytest.importorskip("torch")
    asked = []

    def forward(x, target, *, return_dx=False):
        """Losses and gradients of the rows, without a reduction."""
        asked.append("fused")
        leaf = x.detach().requires_grad_()
        losses = torch.nn.functional.cross_entropy(leaf, target, reduction="none").float()
        return (losses, torch.autograd.grad(losses.sum(), leaf)[0]) if return_dx else losses

    def cross_entropy(x, target, *, reduction):
        asked.append(("quack", x.requires_grad))
        return torch.nn.functional.cross_entropy(x, target, reduction=reduction)

    class Loss(torch.nn.CrossEntropyLoss):
        def forward(self, x, target):
            asked.append(("liger", x.requires_grad, x.data_ptr()))
            return super().forward(x, target)

    contents = {
        "quack": {},
        "quack.cross_entropy": {"cross_entropy": cross_entropy, "cross_entropy_fwd": forward},
        "quack.softmax": {"softmax": lambda x: torch.softmax(x, -1)},
        "liger_kernel": {},
        "liger_kernel.transformers": {},
        "liger_kernel.transformers.cross_entropy": {"LigerCrossEntropyLoss": Loss},
        "liger_kernel.transformers.softmax": {"LigerSoftmax": lambda: lambda x: torch.softmax(x, -1)},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


@needs_torch
@pytest.mark.parametrize("function", [LOSS_AND_GRAD, LOSS, SOFTMAX])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_others_compute_the_same(function, dtype, others):
    case = Case(SHAPES, function, (30, 7), dtype)
    d = contestants.drawn(StandIn(), case)
    names = [name for name in cases.wanted(case) if name != COMPILED]
    calls, skipped = contestants.prepared(case, d, names)
    assert (list(calls), skipped) == (names, {})
    leaves = [asked[1] for asked in others if asked != "fused"]
    assert all(leaf == (function == LOSS_AND_GRAD) for leaf in leaves)
    assert ("fused" in others) == (function == LOSS_AND_GRAD)
    assert all(asked[2] != d.x.ctypes.data for asked in others if asked[0] == "liger")  # it overwrites its logits


def test_arrays_that_are_no_tensors_leave_the_others_out():
    gpu = StandIn()
    gpu.tensors, gpu.absent = False, {"torch": "torch sees no GPU"}
    calls, skipped = contestants.prepared(LOSS_CASE, contestants.drawn(gpu, LOSS_CASE), cases.wanted(LOSS_CASE))
    assert list(calls) == [OURS, INTO, IN_PLACE]
    assert skipped == dict.fromkeys([TORCH, QUACK, QUACK_FUSED, LIGER, COMPILED], "torch sees no GPU")

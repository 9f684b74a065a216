"""Linear passes in the benchmark on a GPU, without one: whether results are right, who takes part, what is timed.

Times are those of a stand-in's counter: nothing here is a measurement.
"""

import sys
from types import ModuleType

import numpy as np
import pytest

from fastsoftmax.bench import results
from fastsoftmax.bench.cases import LINEAR, LINEAR_PASS, Case
from fastsoftmax.bench.cpu import contestants
from fastsoftmax.bench.cuda import linear, suite
from fastsoftmax.bench.results import LIGER, OURS, TORCH
from tests.standins.gpu import HAS_TORCH, TICK, StandIn

CASE = Case(LINEAR, LINEAR_PASS, (300, 70), "float32", option="d=6")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


@pytest.fixture
def small(monkeypatch):
    """Weights repeat after 30 classes, and the last time not all of them."""
    monkeypatch.setattr(linear, "BLOCK", 30)
    monkeypatch.setattr(linear, "OTHERS", 20)
    with contestants.same_threads(1, [TORCH]):  # which would wait for one another on a few numbers
        yield


def test_what_repeats(small):
    d = linear.drawn(StandIn(), CASE)
    assert (d.x.shape, d.weight.shape, d.target.shape) == ((300, 6), (70, 6), (300,))
    np.testing.assert_array_equal(d.weight[30:60], d.weight[:30])
    np.testing.assert_array_equal(d.weight[60:], d.weight[:10])
    np.testing.assert_array_equal(d.x[8:16], d.rows)
    assert len(np.unique(d.weight, axis=0)) == 30


def test_what_is_expected(small):
    """From a few rows, what the reference finds for all of them."""
    from fastsoftmax import reference

    d = linear.drawn(StandIn(), CASE)
    found = linear.expected(CASE, d)
    right = reference.linear_cross_entropy_and_grad(d.x, d.weight, d.target, wrt=("x", "weight"))
    np.testing.assert_allclose(found.loss, right.loss, rtol=1e-12)
    np.testing.assert_allclose(found.grad_x, right.grad_x[:8], atol=1e-12)
    np.testing.assert_allclose(found.grad_weight, right.grad_weight[found.classes], atol=1e-12)
    assert {*d.labels, *range(20), 69} == set(found.classes)


@pytest.mark.parametrize(
    ("which", "at", "message"),
    [
        (0, (), "the loss is off by"),
        (1, (3, 2), "the features' gradient is off by"),
        (1, (299, 2), "gradients of the same features differ by up to"),
        (2, ("named", 2), "the weights' gradient is off by"),
        (2, ("other", 2), "the weights' gradient of other classes is off by"),
    ],
)
def test_a_wrong_number_is_found(small, which, at, message):
    d = linear.drawn(StandIn(), CASE)
    right, result = linear.expected(CASE, d), [np.array(a) for a in linear.CONTESTANTS[OURS](d)()[:3]]
    assert linear.disagreement(CASE, d, result, right) == ""
    place = {"named": d.labels[0], "other": min(set(range(20)) - set(d.labels))}
    at = tuple(place.get(i, i) for i in at)
    result[which][at] += 0.002
    assert linear.disagreement(CASE, d, result, right).startswith(f"wrong: {message}")


@needs_torch
def test_others_compute_the_same(small, monkeypatch):
    """Liger by a stand-in with its signature: weights first."""
    import torch

    class Fused(torch.nn.Module):
        def forward(self, lin_weight, _input, target, bias=None):
            return torch.nn.functional.cross_entropy(_input @ lin_weight.T, target)

    module = ModuleType("liger_kernel.transformers.fused_linear_cross_entropy")
    module.LigerFusedLinearCrossEntropyLoss = Fused
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    calls, skipped = linear.prepared(CASE, linear.drawn(StandIn(), CASE), [OURS, TORCH, LIGER])
    assert (list(calls), skipped) == ([OURS, TORCH, LIGER], {})


def test_a_case_is_timed_beside_its_products(small, gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    gpu.memory = 1e9
    run, clock = results.Run({}, {}, []), suite.Clock(1000.0)
    suite.add(run, clock, [CASE], suite.Settings(seconds=0.0))
    (found,) = run.results
    assert set(found.timings) == {OURS} | ({TORCH} if HAS_TORCH else set())
    assert found.floor == (results.PRODUCTS_FLOOR, TICK)
    assert found.fraction(OURS) == 1
    assert "liger_kernel is not installed" in found.skipped[LIGER] or not HAS_TORCH
    assert found.case.nbytes == 0
    assert found.gbps(OURS) is None
    gpu.memory = 1e3
    suite.add(run, clock, [CASE], suite.Settings(seconds=0.0))
    assert run.results[1].skipped[OURS].startswith("needs 0.0 GB on the GPU")


def test_products():
    d = linear.drawn(StandIn(), CASE)
    z, weights, features = (np.asarray(a, np.float64) for a in linear.products(d)())
    np.testing.assert_allclose(z, d.x @ d.weight.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights, z.T @ d.x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features, z @ d.weight, rtol=1e-4, atol=1e-4)

"""Training loops: modules, a small transformer, transformers' loss, two processes, tensors spread over processes."""

import os
import sys

import pytest

from tests.support import child
from tests.torch.support import classes, normal, positive, torch

ft = pytest.importorskip("fastsoftmax.torch")
F, nn = torch.nn.functional, torch.nn


class Language(nn.Module):
    """A transformer of one layer that predicts the next token."""

    def __init__(self, words=50, width=16):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, words, bias=False)

    def features(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.layer(self.embed(tokens), src_mask=mask, is_causal=True)

    def forward(self, tokens):
        return self.head(self.features(tokens))


def torchs(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def ours(model, tokens):
    return ft.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def fused(model, tokens):
    return ft.linear_cross_entropy(model.features(tokens), model.head.weight, tokens, shift=1)


def transformers(model, tokens):
    return ft.hf.causal_lm_loss(model(tokens), tokens, 50, num_items_in_batch=torch.tensor(tokens[:, 1:].numel()))


def curve(loss_of, steps=50):
    torch.manual_seed(0)
    model, random = Language(), torch.Generator().manual_seed(1)
    optimizer, losses = torch.optim.AdamW(model.parameters(), 1e-2), []
    for _ in range(steps):
        tokens = torch.randint(50, (4, 1), generator=random) + torch.arange(12)  # the next token is the next number
        loss = loss_of(model, tokens % 50)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.fixture(scope="module")
def expected():
    return curve(torchs)


@pytest.mark.parametrize("loss_of", [ours, fused, transformers])
def test_a_transformer_learns_as_with_torch(loss_of, expected):
    found = curve(loss_of)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert found[-1] < 0.3 * found[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_loss_of_transformers(dtype):
    """Labels shifted here or there, divided by their number or a given one; other keywords are not looked at."""
    logits, labels = normal(2, 6, 5, dtype=dtype), classes(2, 6, most=5)
    flat, ahead = logits.double()[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    found = ft.hf.causal_lm_loss(logits, labels, 5, use_cache=True)
    torch.testing.assert_close(found.double(), F.cross_entropy(flat, ahead), rtol=1e-5, atol=1e-6)
    for items in (7, torch.tensor(7)):
        found = ft.hf.causal_lm_loss(logits, labels, 5, items)
        torch.testing.assert_close(found.double(), F.cross_entropy(flat, ahead, reduction="sum") / 7, rtol=1e-5, atol=0)
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    given = ft.hf.causal_lm_loss(logits, None, 5, shift_labels=shifted, label_smoothing=0.1)
    torch.testing.assert_close(given.double(), F.cross_entropy(flat, ahead, label_smoothing=0.1), rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(given, logits)[0].dtype == dtype


def test_module():
    w = positive(5).float()
    module = ft.CrossEntropyLoss(w, label_smoothing=0.1, stats="correct")
    x, t, s = normal(6, 5, dtype=torch.float32), classes(6, most=5), positive(6, seed=1).float()
    found = module(x, t, sample_weight=s)
    torch.testing.assert_close(found.loss, ft.cross_entropy(x, t, w, sample_weight=s, label_smoothing=0.1))
    assert found.correct.dtype == torch.bool
    assert set(module.state_dict()) == {"weight"}
    with pytest.raises(TypeError, match="smoothing is no option; they are"):
        ft.CrossEntropyLoss(smoothing=0.1)


def test_a_gradient_scaler():
    """Scaled upstream gradients, in the two ways that they go."""
    for dtype in (torch.float32, torch.float16):
        x, t = normal(6, 5, dtype=dtype), classes(6, most=5)
        (ft.cross_entropy(x, t) * 1024.0).backward()
        wide = x.detach().double().requires_grad_()
        (F.cross_entropy(wide, t) * 1024.0).backward()
        torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-3, atol=1e-2)


PARALLEL = """
import os, sys
import torch, torch.distributed as dist
import fastsoftmax.torch as ft
try:
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
except ImportError:  # before torch 2.5
    from torch.distributed._tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
x, t, model = torch.randn(8, 6), torch.randint(5, (8,)), torch.nn.Linear(6, 5)
whole = torch.nn.functional.cross_entropy(model(x), t)
expected = torch.autograd.grad(whole, list(model.parameters()))
parallel = torch.nn.parallel.DistributedDataParallel(model)
part = slice(4 * rank, 4 * rank + 4)
ft.cross_entropy(parallel(x[part]), t[part]).backward()
for p, e in zip(model.parameters(), expected): torch.testing.assert_close(p.grad, e)

mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
logits = distribute_tensor(model(x).detach(), mesh, [Replicate()]).requires_grad_()
loss = ft.cross_entropy(logits, distribute_tensor(t, mesh, [Replicate()]))
torch.testing.assert_close(loss, whole)
loss.backward()
assert type(logits.grad) is DTensor
for placement in (Shard(0), Partial()):
    spread = DTensor.from_local(model(x).detach(), mesh, [placement])
    try: ft.cross_entropy(spread, t)
    except TypeError as error: print("pass input.full_tensor()" in str(error))
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo")
def test_two_processes(tmp_path):
    """DistributedDataParallel, and tensors that are spread over a mesh."""
    from concurrent.futures import ThreadPoolExecutor

    quiet = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    with ThreadPoolExecutor() as pool:
        ranks = [pool.submit(child, PARALLEL, str(rank), str(tmp_path / "meeting"), **quiet) for rank in range(2)]
    for done in (rank.result() for rank in ranks):
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["True", "True"]

"""torch.compile does not look into the library: it calls its functions as they are, whichever is imported first."""

import inspect

import pytest

import fastsoftmax
from fastsoftmax.core import untraced
from tests.support import child

pytest.importorskip("torch")

#: A graph before our function, one behind it, and nothing else that was traced; `f` is traced at its second call too.
CODE = """
import sys
for name in sys.argv[1:]: __import__(name)
import fastsoftmax, numpy, torch
from torch._dynamo.utils import counters
graphs = []
def backend(module, examples):
    graphs.append([node.name for node in module.graph.nodes if node.op.startswith("call")])
    return module.forward
def f(x): return fastsoftmax.softmax(x + 1), fastsoftmax.cross_entropy(x, [0, 2]), x - 1
x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
compiled = torch.compile(f, backend=backend)
for _ in range(3): p, loss, y = compiled(x)
numpy.testing.assert_allclose(p, torch.softmax(x, 1), rtol=1e-6)
numpy.testing.assert_allclose(loss, torch.nn.functional.cross_entropy(x, torch.tensor([0, 2])), rtol=1e-6)
assert torch.equal(y, x - 1)
print(graphs, counters["frames"]["total"])
try: torch.compile(f, backend="eager", fullgraph=True)(x)
except Exception as error: print("it reads addresses of arrays" in str(error))
"""


def traced(*first):
    done = child(CODE, *first, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_graph_ends_at_our_functions():
    """Traced are the caller, and what is left of it behind each of the two calls."""
    assert traced("torch") == ["[['add'], ['sub']] 3", "True"]


def test_torch_may_be_imported_later():
    """Of the first call some is looked at, until the first tensor is seen; nothing of it gets into a graph."""
    graphs, said = traced("fastsoftmax")
    assert graphs.startswith("[['add'], ['sub']] ")
    assert said == "True"


def test_public_functions_are_marked():
    """By what torch asks for; what is already imported has had its frames marked."""
    functions = [getattr(fastsoftmax, name) for name in fastsoftmax.__all__]
    for function in filter(inspect.isfunction, functions):
        assert function._torchdynamo_disable
    untraced.skip_frames()
    assert untraced._functions == []

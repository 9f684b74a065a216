"""Settings of hypothesis for machines on which a first call compiles for seconds, and fixtures of several modules."""

import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy.sparse import csr_array

from fastsoftmax.core import memo
from tests.backends import Cpu, Gpu

# Kernels of the tests lie in the clone: there are hundreds that no user wants.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".kernels"))

settings.register_profile(
    "usual",
    deadline=None,
    derandomize=True,
    max_examples=20,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],  # `backend` may serve all examples
)
settings.register_profile("exhaustive", settings.get_profile("usual"), max_examples=60)

# Interpreted kernels make so many objects that looking for cycles after every 700th new one took an eighth of the time.
gc.set_threshold(50_000, 50, 100)


def pytest_configure(config):
    """Random examples: a few by default, more in the exhaustive run."""
    settings.load_profile("exhaustive" if config.option.markexpr == "exhaustive" else "usual")


def pytest_addoption(parser):
    """One part of the test files, where all of them take too long."""
    parser.addoption("--part", default="1/1", metavar="K/N", help="run the K-th of N parts of the files")


def pytest_collection_modifyitems(config, items):
    """Leave out the files of other parts; whole files, as the tests of one share kernels."""
    part, parts = map(int, config.option.part.split("/"))
    files = sorted({str(item.path) for item in items})
    mine = set(files[part - 1 :: parts])
    others = [item for item in items if str(item.path) not in mine]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if str(item.path) in mine]


@pytest.fixture(scope="session")
def digits_files(tmp_path_factory):
    """A folder with scikit-learn's digits in each format that the command line reads."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    frame = load_digits(as_frame=True).frame
    frame[frame.columns[:-1]] /= 16
    x, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    frame.to_csv(folder / "digits.csv", index=False)
    frame.to_csv(folder / "digits.tsv", index=False, sep="\t")
    np.save(folder / "digits.npy", np.c_[y, x])
    np.save(folder / "named.npy", frame.to_records(index=False).view(np.ndarray))
    np.savez_compressed(folder / "digits.npz", X=x, y=y, other=x[:, :3])
    np.savez(folder / "columnwise.npz", data=np.asfortranarray(x), y=y)
    sparse = csr_array(x)
    parts = {"data": sparse.data, "indices": sparse.indices, "indptr": sparse.indptr}
    np.savez(folder / "sparse.npz", format="csr", shape=sparse.shape, y=y, **parts)
    return folder


@pytest.fixture
def nothing_prepared():
    """Nothing is known of earlier calls and devices, nor of those of this test later."""
    memo.clear()
    yield
    memo.clear()


@pytest.fixture
def driver(monkeypatch, nothing_prepared):
    """Two GPUs that are none: kernels are NumPy's, for tests of what the host does."""
    from tests.standins.numpy_kernels import NumpyDriver

    return NumpyDriver(devices=2).install(monkeypatch)


@pytest.fixture(params=["cpu", "gpu"])
def backend(request):
    """A device that functions compute on: main memory, and bare arrays on such a GPU."""
    return Cpu() if request.param == "cpu" else Gpu(request.getfixturevalue("driver"))


@pytest.fixture
def few_objects():
    """Collections of garbage look at what the test makes, and not at what all tests before it have left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def interpreted(monkeypatch, nothing_prepared):
    """A GPU that is none, whose kernels are the compiled ones: interpreted from their PTX."""
    pytest.importorskip("cuda.bindings", reason="numba-cuda is not installed")
    from tests.standins.driver import Driver

    return Driver().install(monkeypatch)


@pytest.fixture
def library(name, monkeypatch, driver):
    """A stand-in for the array library of that name, on such a GPU."""
    from tests.standins.libraries import LIBRARIES

    return LIBRARIES[name](monkeypatch, driver)


@pytest.fixture
def gpu(monkeypatch):
    """A stand-in in the place of the GPU that is measured, and no tool that looks for a real one."""
    from fastsoftmax.bench.cuda import arrays, memcheck
    from tests.standins.gpu import StandIn

    gpu = StandIn()
    monkeypatch.setattr(arrays, "first_gpu", lambda: gpu)
    monkeypatch.setattr(memcheck.shutil, "which", lambda _: None)
    return gpu


@pytest.fixture
def toy(gpu, monkeypatch):
    """A toy list of cases for it; torch.compile, which compiles for seconds, is eager."""
    from fastsoftmax.bench.cpu import contestants
    from fastsoftmax.bench.cuda import cases, suite
    from fastsoftmax.bench.cuda import contestants as cuda_contestants
    from fastsoftmax.bench.results import COMPILED, TORCH
    from tests.standins.gpu import TOY

    gpu.memory = 1e8  # for the copy: a quarter of it
    monkeypatch.setattr(suite, "CASES", TOY)
    monkeypatch.setattr(suite, "time", SimpleNamespace(perf_counter=lambda: 1.0))  # no budget is ever over
    monkeypatch.setattr(cases, "LEAST", 1)
    monkeypatch.setitem(cuda_contestants.CONTESTANTS, COMPILED, cuda_contestants.CONTESTANTS[TORCH])
    monkeypatch.setitem(sys.modules, "quack", None)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with contestants.same_threads(1, [TORCH]):  # which would wait for one another on a few numbers
        yield gpu

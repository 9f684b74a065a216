"""The one module that asks a driver, with the real cuda-core on a stand-in: arguments, devices, streams, errors.

The stand-in (tests/standins/c_driver.c) is built here; IT IS NO GPU.  A process that has loaded it takes it for
NVIDIA's: all scenarios of `driven` run in one of their own.
"""

import json
import subprocess
import sys

import pytest

from tests.cuda.kernels import machine_code  # noqa: F401  skips these tests where numba-cuda is not installed
from tests.standins import c_driver
from tests.standins.driven import SCENARIOS
from tests.support import HANG, ROOT


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """Tracebacks, by the scenario that they come from."""
    library = c_driver.build(tmp_path_factory.mktemp("driver"))
    if library is None:
        pytest.skip("a C compiler is needed to build the stand-in driver")
    command = [sys.executable, "-m", "tests.standins.driven", library]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=HANG, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCENARIOS)
def test_package(wrong, name):
    assert name not in wrong, wrong[name]

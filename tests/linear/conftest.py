"""A device for linear functions."""

import pytest

from tests.backends import Cpu, Gpu


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    """Main memory, and a GPU with arrays of PyTorch's stand-in, which multiplies them."""
    if request.param == "cpu":
        return Cpu()
    driver = request.getfixturevalue("driver")
    from tests.standins.libraries import LIBRARIES

    return Gpu(driver, LIBRARIES["torch"](monkeypatch, driver))

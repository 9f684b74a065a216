"""Modules of tests that import what needs numba-cuda are skipped where that is missing, each as a whole."""

import pytest

COMMAND = "pip install 'numba-cuda[cu13]>=0.30,<0.31'"


class Module(pytest.Module):
    """A module of tests, or one line that says what it lacks."""

    def collect(self):
        try:
            return super().collect()
        except self.CollectError as error:
            if COMMAND not in str(error):
                raise
            pytest.skip(f"numba-cuda is not installed: {COMMAND}")


def pytest_pycollect_makemodule(module_path, parent):
    return Module.from_parent(parent, path=module_path)

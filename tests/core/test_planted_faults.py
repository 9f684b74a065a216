"""The list of planted faults is up to date; `tests.planted_faults` plants them, which takes a quarter of an hour."""

import pytest

from tests.planted_faults import FAULTS, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.file}: {fault.old.strip()}")
def test_faults_can_be_planted(fault):
    text = (ROOT / "fastsoftmax" / fault.file).read_text("utf-8")
    assert text.count(fault.old) == 1
    assert fault.new != fault.old
    for path in fault.tests.removeprefix("*").partition(" -k ")[0].split():
        assert (ROOT / "tests" / path).exists()


def test_there_are_enough_of_them():
    assert len(FAULTS) >= 40
    rooms = {"core", "cpu", "cuda", "cuda/kernels", "cuda/linear", "cpu/linear", "cpu/layouts", "cli", "regression"}
    assert rooms <= {fault.file.rpartition("/")[0] for fault in FAULTS}

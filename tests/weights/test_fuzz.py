"""A short run of the fuzzer; docs/checkpoints.md records the long one."""

import sys

import pytest

from tests.weights import fuzz


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal")
@pytest.mark.parametrize("form", fuzz.FORMATS)
def test_damaged_files_are_read_or_refused(form, tmp_path):
    outcomes = fuzz.fuzz(form, 400, 1, tmp_path)
    assert outcomes.total() == 400
    assert outcomes["refused"] > 100  # the damage gets through to the readers
    assert outcomes["read"] > 10

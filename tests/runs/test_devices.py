"""What `configure_jax` sets for the process."""

import json
import subprocess
import sys

import pytest

from tests.helpers.scripts import command
from wsss_jax.runs import devices

PAGE_FAULTS = """
import json, resource
from wsss_jax.config import defaults
from wsss_jax.runs.devices import configure_jax

def faults():
    b"x" * (64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

config = defaults()
found = [faults()]
for config.cpu_keep_memory in (False, True):
    configure_jax(config)
    found.append(faults())
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_freed_memory_is_kept_if_wanted():
    done = subprocess.run(command(PAGE_FAULTS), capture_output=True, text=True, check=True)
    start, off, on = json.loads(done.stdout)
    assert start > 0.9 * 5 * 32  # 32 huge pages each, or 16,384 small ones
    assert off > 0.9 * start
    assert on < start / 10


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: object())
    assert not devices.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(devices.ctypes, "CDLL", None)
    assert not devices.keep_freed_memory()

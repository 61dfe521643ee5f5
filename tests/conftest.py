"""Eight faked CPU devices for every test, and slow tests only where there is time for them."""

import gc
import os
import sys

import pytest

# Before anything imports JAX. The tests compile much and compute little, so XLA should not optimise for long.
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_addoption(parser):
    """Adds `--slow`."""
    parser.addoption("--slow", action="store_true", help="also run the slow tests, as CI does")


def pytest_collection_modifyitems(config, items):
    """Skips slow tests but for CI and on demand."""
    if config.getoption("--slow") or os.environ.get("CI"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs in CI, or with --slow"))


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Compiled programs stay in memory for as long as the process runs, some gigabytes over all tests."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()

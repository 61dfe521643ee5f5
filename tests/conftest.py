"""Eight faked CPU devices for every test, and slow tests only where there is time for them."""

import gc
import os
import shutil
import signal
import sys
import tempfile

import pytest

# Before anything imports JAX. The tests compile much and compute little, so XLA should not optimise for long.
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What a shell starts in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same small programs are compiled by several files and, when runs go on after a stop, several times by
# one: all processes of a session share them in a folder that the first of them makes and removes.
_CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_own_cache = ""
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _own_cache = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="wsss_jax_programs_")
    os.environ.update(_CACHE)


def pytest_addoption(parser):
    """Adds `--slow`."""
    parser.addoption("--slow", action="store_true", help="also run the slow tests, as CI does")


def pytest_unconfigure(config):
    """Removes the session's compiled programs."""
    if _own_cache:
        shutil.rmtree(_own_cache, ignore_errors=True)


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

"""Eight faked CPU devices for every test, so that what runs on many devices is tested on any machine."""

import os

# Before anything imports JAX. The tests compile much and compute little, so XLA should not optimise for long.
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

"""Eight faked CPU devices for every test, so that what runs on many devices is tested on any machine."""

import os

# Before anything imports JAX. One thread pool serves all eight.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

"""What a measurement was made on."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import wsss_jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


def machine(load_before: float) -> dict[str, Any]:
    """CPU model, usable cores, load before and after, accelerators; starts JAX's backend."""
    import jax

    devices = jax.devices()
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "load": f"{load_before:.1f} before, {load():.1f} after",
        "devices": f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})",
        "system": platform.platform(),
    }


def load() -> float:
    """Processes that ran or wanted to run during the last minute, other users' among them."""
    return os.getloadavg()[0]


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with."""
    ours = {"python": platform.python_version(), "wsss_jax": wsss_jax.__version__}
    return ours | {name: metadata.version(name) for name in _PACKAGES}


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux knows it; elsewhere what Python knows."""
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use, which `taskset` and containers restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

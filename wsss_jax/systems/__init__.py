"""The systems: one folder each. Importing this loads no JAX, so that settings are known without it."""

import functools
import importlib.util
import pkgutil

from wsss_jax.settings import Section

# What reports call the methods of `config.method`.
TITLES = {
    "cam": "ordinary classifier",
    "cse": "OC-CSE",
    "sc_cam": "SC-CAM",
    "cpn": "CPN",
    "infer_cam": "InferCam",
    "seam": "SEAM's network",
    "affinity": "AffinityNet",
}


@functools.cache
def sections() -> tuple[Section, ...]:
    """What the folders of systems declare as `SECTIONS` in their `settings.py`, for those that have one."""
    found: list[Section] = []
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        if folder.ispkg and importlib.util.find_spec(f"{folder.name}.settings"):
            found += importlib.import_module(f"{folder.name}.settings").SECTIONS
    return tuple(found)

"""Settings of JAX and of the process: precision, compilation cache, several hosts, memory on CPUs."""

import ctypes
import os
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

# 'fast' leaves the choice to XLA: TF32 on NVIDIA GPUs, one bfloat16 pass on TPUs.
_MATMUL = {"float32": "highest", "fast": None, "bfloat16": None}
# Parameters of glibc's mallopt (malloc.h) and their values: never trim, map no block for itself, one arena.
_KEEP = ((-1, -1), (-4, 0), (-8, 1))


def configure_jax(config: ConfigDict) -> None:
    """Applies `distributed`, `precision`, `compilation_cache` and `cpu_keep_memory`.

    Call it before anything is computed.
    """
    if config.distributed:
        _meet_other_hosts()
    jax.config.update("jax_default_matmul_precision", _MATMUL[config.precision])
    if config.compilation_cache:
        folder = Path(config.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if config.cpu_keep_memory and jax.default_backend() == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Makes glibc keep what is freed for what is allocated next; returns False where there is no glibc.

    XLA allocates its temporary buffers at every call of a program. By default glibc maps large blocks from
    the system and gives them back when they are freed, so that every call pays a page fault for each of
    their pages. From here on the process holds its largest need of memory until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    done = [mallopt(parameter, value) for parameter, value in _KEEP]
    return done == [1] * len(_KEEP)


def _meet_other_hosts() -> None:
    """Clusters that JAX knows need no arguments; elsewhere three variables say who is who.

    JAX itself reads JAX_COORDINATOR_ADDRESS, but not JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    given = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    count, number = (None if text is None else int(text) for text in given)
    jax.config.update("jax_enable_preemption_service", False)  # `wsss_jax.hosts` does what it is for
    jax.distributed.initialize(num_processes=count, process_id=number)

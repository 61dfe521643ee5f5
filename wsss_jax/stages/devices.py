"""JAX's own settings: precision, compilation cache, several hosts."""

import os
from pathlib import Path

import jax
from ml_collections import ConfigDict

# 'fast' leaves the choice to XLA: TF32 on NVIDIA GPUs, one bfloat16 pass on TPUs.
_MATMUL = {"float32": "highest", "fast": None, "bfloat16": None}


def configure_jax(config: ConfigDict) -> None:
    """Applies `distributed`, `precision` and `compilation_cache`; call it before anything is computed."""
    if config.distributed:
        _meet_other_hosts()
    jax.config.update("jax_default_matmul_precision", _MATMUL[config.precision])
    if config.compilation_cache:
        folder = Path(config.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _meet_other_hosts() -> None:
    """Clusters that JAX knows need no arguments; elsewhere three variables say who is who.

    JAX itself reads JAX_COORDINATOR_ADDRESS, but not JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    given = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    count, number = (None if text is None else int(text) for text in given)
    jax.distributed.initialize(num_processes=count, process_id=number)

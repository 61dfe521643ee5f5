"""JAX's own settings: precision, compilation cache, several hosts."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

# 'fast' leaves the choice to XLA: TF32 on NVIDIA GPUs, one bfloat16 pass on TPUs.
_MATMUL = {"float32": "highest", "fast": None, "bfloat16": None}


def configure_jax(config: ConfigDict) -> None:
    """Applies `distributed`, `precision` and `compilation_cache`; call it before anything is computed."""
    if config.distributed:
        jax.distributed.initialize()
    jax.config.update("jax_default_matmul_precision", _MATMUL[config.precision])
    if config.compilation_cache:
        folder = Path(config.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

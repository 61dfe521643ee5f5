"""Host side of the data: sources, transforms and the loader.

NumPy and Pillow only: importing it does not load JAX, so that loader workers start fast.
"""

from wsss_jax.data.source import VOID, Source, label_matrix, make_source

__all__ = ["VOID", "Source", "label_matrix", "make_source"]

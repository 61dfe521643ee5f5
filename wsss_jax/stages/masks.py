"""Where the masks are that a run trains its segmentation network on."""

from pathlib import Path

from wsss_jax.data.masks import Masks
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.runs.context import Run

TRUE = "true"  # as `config.masks`: the data set's own, which are full supervision


def training_masks(run: Run) -> tuple[Masks, tuple[str, ...]]:
    """The masks to train on, and the ids of their images.

    Raises:
      ConfigError: there is no such folder.
      RunError: the run has no pseudo masks.
    """
    split = run.config.dataset.train_split if run.config.masks else run.config.dataset.infer_split
    folder = run.layout.pseudos(split)
    if run.config.masks == TRUE:
        return Masks(run.source, None), run.ids(split)
    if run.config.masks:
        folder = Path(run.config.masks).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"config.masks={run.config.masks!r}: there is no such folder")
    elif not folder.is_dir():
        raise RunError(
            f"{folder}: there are no pseudo masks of {split}; make them by a --config.refinement "
            "that ends with them, or name a folder of masks (--config.masks)"
        )
    return Masks(run.source, folder), run.ids(split)

"""Files of class scores with a background plane, as the dense CRF writes them."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsss_jax.data.arrays import DAMAGE, read_npz
from wsss_jax.errors import DataError


class Scores(NamedTuple):
    """Class scores of a picture."""

    keys: np.ndarray  # int32[K + 1]: -1 for background, then the classes, counted from 0
    planes: np.ndarray  # float32[K + 1, H, W]


def read_scores(path: str | os.PathLike[str], image_id: str, stage: str) -> Scores:
    """Reads `keys` and `scores` of an .npz file.

    Args:
        path: the file.
        image_id: the image that the scores are of, for messages.
        stage: the stage that writes such files, for messages.

    Raises:
        DataError: the file is missing or damaged, or has no background plane first.
    """
    where = f"scores of image {image_id!r}: {os.fspath(path)}"
    if not Path(path).exists():
        raise DataError(f"{where} is missing; run the stage {stage} first")
    try:
        keys, planes = read_npz(path, "keys", "scores")
    except DAMAGE as e:
        raise DataError(f"{where} is damaged; delete it and run the stage {stage} again") from e
    if planes.ndim != 3 or keys.shape != planes.shape[:1] or not len(keys) or keys[0] != -1:
        raise DataError(
            f"{where} has keys {keys.tolist()} for scores of shape {planes.shape}; expected [K + 1, H, W] "
            f"with the background's key -1 first; delete it and run the stage {stage} again"
        )
    return Scores(keys, planes)

"""What was scored: how a report calls it, and the maps behind the score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsss_jax.report import GalleryCam

OWN, COMPARED, CRF, PSEUDO, SEGMENTED, OTHER = range(6)  # kinds of results, the most telling first

Map = GalleryCam | np.ndarray
Read = Callable[[str], Map]


@dataclass(frozen=True, eq=False)
class Scored:
    """A scored stage.

    Attributes:
      name: such as the title of the system for its CAMs, or 'CRF, alpha 4'.
      kind: OWN for the run's own CAMs, COMPARED for those that they are compared with, CRF, PSEUDO masks,
        SEGMENTED by a network that learnt from these, or OTHER.
      metrics: as the stage wrote them.
      read: given an image id, what was scored, a CAM or a label map uint8[H, W]; None if it is not on disk.
      order: among what the same stage has scored.
      threshold: what its thresholds are, see `report.Result`.
      warning: a sentence for the top of the report.
    """

    name: str
    kind: int
    metrics: dict[str, Any]
    read: Read | None
    order: float = 0.0
    threshold: str = "background score"
    warning: str = ""

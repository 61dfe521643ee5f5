"""What a benchmark is told and what it answers. Imports nothing heavy, for the command's flags need it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to measure; the defaults suit two CPU cores.

    Attributes:
      width: multiplier of the network's channel counts; 1 is the published network.
      blocks: the network's plain blocks in b2 to b5; (2, 2, 5, 2) is the published network.
      crop: side of the training crops in pixels; 384 in the published runs.
      batch_size: images per batch and device; 8 in the published runs.
      images: number of images for inference and the loader.
      side: longest side of inference's images in pixels, larger ones are shrunk; 0 leaves them as they are.
      scales: of inference.
      repeats: measurements of which the median counts.
      precision: 'float32', 'fast' or 'bfloat16', as in the configuration.
      data: folder VOC2012 of a devkit; '' draws images of such sizes.
    """

    width: float = 0.125
    blocks: tuple[int, int, int, int] = (2, 2, 5, 2)
    crop: int = 96
    batch_size: int = 4
    images: int = 16
    side: int = 128
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    repeats: int = 5
    precision: str = "float32"
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
      name: what was measured.
      value: the median.
      unit: of `value`, `low` and `high`.
      low, high: smallest and largest measurement; None where nothing varies or only one was made.
      ratio: how many times better than `versus`, that is faster or fewer; below 1 it is worse.
      versus: what the ratio compares with, '' without ratio.
      note: what else must be known to read the value.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    versus: str = ""
    note: str = ""

"""Where InferCam cuts an image into four overlapping crops, and the crops at every scale.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022, section 3.2. A classifier looks at each crop on its own, so that the most
discriminative part of an object cannot outshine the rest of it.
"""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsss_jax.data.images import decode_image, header_size
from wsss_jax.data.source import Source
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import DataError
from wsss_jax.systems.infer_cam.settings import SplitRule


class Box(NamedTuple):
    """A crop of an image, in pixels; ends are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.bottom - self.top, self.right - self.left


def mass_centre(cam: np.ndarray) -> tuple[int, int]:
    """Returns (row, column) of a map's centre of mass, cut to whole pixels; the middle of a map of zeros.

    Args:
        cam: float[H, W], values >= 0.
    """
    rows, columns = cam.sum(1, dtype=np.float64), cam.sum(0, dtype=np.float64)
    total = rows.sum()
    if not total > 0:
        return cam.shape[0] // 2, cam.shape[1] // 2
    centres = (line @ np.arange(len(line)) / total for line in (rows, columns))
    y, x = (int(centre) for centre in centres)
    return y, x


def split_boxes(cams: np.ndarray, rule: SplitRule) -> tuple[Box, Box, Box, Box]:
    """Returns the four crops of an image: top left, top right, bottom left, bottom right.

    Each reaches from its corner beyond the farthest class's centre. With three or more classes, all four are
    the whole image, and so they are without any, of which the authors' program knows nothing.

    Args:
        cams: float[K, H, W], the maps of the classes in the image.
        rule: the margins.
    """
    H, W = cams.shape[1:]
    if not 0 < len(cams) < 3:
        whole = Box(0, H, 0, W)
        return whole, whole, whole, whole
    margin = rule.margins[len(cams) - 1]
    ys, xs = zip(*(mass_centre(cam) for cam in cams), strict=True)
    upper, left = (0, min(max(ys) + margin, H)), (0, min(max(xs) + margin, W))
    lower, right = (_start(min(ys) - margin, H, rule), H), (_start(min(xs) - margin, W, rule), W)
    return Box(*upper, *left), Box(*upper, *right), Box(*lower, *left), Box(*lower, *right)


def _start(start: int, length: int, rule: SplitRule) -> int:
    return slice(start if rule.wrap else max(start, 0), None).indices(length)[0]


@dataclasses.dataclass(frozen=True)
class Crops:
    """The crops of images as InferCam's second program reads them: through JPEG files.

    Attributes:
        source: reads the images.
        jpeg_quality: 1 to 100, the quality of those files; 0 for crops as they are cut.
        folder: with `<id>_1.jpg` to `<id>_4.jpg`, as the authors' first program writes them; "" to cut crops
            out of the images.
    """

    source: Source
    jpeg_quality: int = 0
    folder: str = ""

    @property
    def exact(self) -> bool:
        """Whether crops are cut from the images and not changed."""
        return not (self.jpeg_quality or self.folder)

    def read(self, image_id: str, boxes: Sequence[Box]) -> list[np.ndarray]:
        """Returns uint8[h, w, 3] for each different box of an image, in their order.

        Raises:
            DataError: a file cannot be read.
        """
        if self.folder:
            numbers = [boxes.index(box) + 1 for box in dict.fromkeys(boxes)]
            return [decode_image(crop_file(self.folder, image_id, number), image_id) for number in numbers]
        image = self.source.image(image_id)
        crops = [cut(image, box) for box in dict.fromkeys(boxes)]
        return [through_jpeg(crop, self.jpeg_quality) for crop in crops] if self.jpeg_quality else crops


@dataclasses.dataclass(frozen=True)
class CropViews:
    """Crops at all scales; a function for loader workers.

    Called with (image id, boxes), it returns for each different box the crop at every scale s,
    uint8[round(h * s), round(w * s), 3], and last as it was read, uint8[h, w, 3].
    """

    crops: Crops
    scales: tuple[float, ...]

    def __call__(self, job: tuple[str, Sequence[Box]]) -> list[list[np.ndarray]]:
        """Returns the views."""
        return [self._views(crop) for crop in self.crops.read(*job)]

    def _views(self, crop: np.ndarray) -> list[np.ndarray]:
        return [*(rescale(crop, scale) for scale in self.scales), crop]


def boxes_of_files(folder: str, image_id: str, size: tuple[int, int]) -> tuple[Box, Box, Box, Box]:
    """Returns where the four crops in a folder lie in an image of `size` (H, W), each in its own corner.

    Raises:
        DataError: one is missing, cannot be read, or is larger than the image.
    """
    (H, W), sizes = size, []
    for number in range(1, 5):
        path = crop_file(folder, image_id, number)
        if not path.is_file():
            raise DataError(
                f"{path}: there is no such file; infer_cam.split_path is a folder with four crops of every "
                "image, ID_1.jpg to ID_4.jpg, as the authors' first program or the stage split writes them"
            )
        sizes.append(header_size(path, image_id))
        if sizes[-1][0] > H or sizes[-1][1] > W:
            raise DataError(
                f"{path} is {sizes[-1]} pixels (height, width), but image {image_id!r} only {size}"
            )
    (a, b), (c, d), (e, f), (g, h) = sizes
    return Box(0, a, 0, b), Box(0, c, W - d, W), Box(H - e, H, 0, f), Box(H - g, H, W - h, W)


def crop_file(folder: str | Path, image_id: str, number: int) -> Path:
    """A crop, 1 to 4: top left, top right, bottom left, bottom right, named as the authors' program does."""
    return Path(folder).expanduser() / f"{image_id}_{number}.jpg"


def encode_jpeg(crop: np.ndarray, quality: int) -> bytes:
    """A crop uint8[h, w, 3] as OpenCV's `imwrite` writes it: JPEG with colours at half resolution (4:2:0).

    OpenCV 5.0 and Pillow 13.0 gave the same bytes for 120 crops of photographs at quality 95.
    """
    content = io.BytesIO()
    Image.fromarray(crop).save(content, format="JPEG", quality=quality, subsampling="4:2:0")
    return content.getvalue()


def through_jpeg(crop: np.ndarray, quality: int) -> np.ndarray:
    """A crop uint8[h, w, 3] as it comes back out of such a file."""
    with Image.open(io.BytesIO(encode_jpeg(crop, quality))) as image:
        return np.asarray(image)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Returns the crop of an image [H, W, ...] that lies in a box."""
    return image[box.top : box.bottom, box.left : box.right]

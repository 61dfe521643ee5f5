"""A user's own image, whatever it comes as: a file, a PIL image or an array.

Unlike a data set's images (see `data.images`), which are kept as stored because masks go with them, these are
turned upright as their EXIF orientation says.
"""

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from wsss_jax.data.images import decode_image, header_size, open_image
from wsss_jax.errors import DataError

UserImage = str | os.PathLike[str] | Image.Image | np.ndarray

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
# What Pillow raises on a damaged EXIF block.
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)


def upright_rgb(image: UserImage) -> np.ndarray:
    """Returns an image as uint8[H, W, 3].

    Args:
        image: a file's path, a PIL image of 8 bits a channel, or uint8[H, W, 3] RGB, taken as it is.

    Raises:
        DataError: the file cannot be read, or the image or array is none of these.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(f"an image is uint8[H, W, 3], not {image.dtype}{list(image.shape)}")
        return image
    if isinstance(image, Image.Image):
        if image.mode not in _EIGHT_BIT:
            raise DataError(f"an image of mode {image.mode} has no known range; convert it to RGB")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    path = Path(image).expanduser()
    upright = Image.fromarray(decode_image(path, path.name))
    upright.getexif()[ExifTags.Base.Orientation] = _orientation(path)
    return np.asarray(ImageOps.exif_transpose(upright))


def check_file(path: Path) -> None:
    """Raises DataError if a path is no image's, as far as its header tells."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give its images, such as {path}/*.jpg")
    header_size(path, path.name)


def _orientation(path: Path) -> int:
    """EXIF's number of how the camera was held; 1, upright, where the tag is missing or damaged."""
    with contextlib.suppress(*_EXIF_ERRORS), open_image(path) as image:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1

"""A user's own picture, whatever it comes as: a file, a PIL image or an array.

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

Picture = str | os.PathLike[str] | Image.Image | np.ndarray

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
# What Pillow raises on a damaged EXIF block.
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)


def upright_rgb(picture: Picture) -> np.ndarray:
    """Returns a picture as uint8[H, W, 3].

    Args:
        picture: a file's path, a PIL image of 8 bits a channel, or uint8[H, W, 3] RGB, taken as it is.

    Raises:
        DataError: the file cannot be read, or the image or array is none of these.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise DataError(f"a picture is uint8[H, W, 3], not {picture.dtype}{list(picture.shape)}")
        return picture
    if isinstance(picture, Image.Image):
        if picture.mode not in _EIGHT_BIT:
            raise DataError(f"a picture of mode {picture.mode} has no known range; convert it to RGB")
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    path = Path(picture).expanduser()
    upright = Image.fromarray(decode_image(path, path.name))
    upright.getexif()[ExifTags.Base.Orientation] = _orientation(path)
    return np.asarray(ImageOps.exif_transpose(upright))


def check_file(path: Path) -> None:
    """Raises DataError if a path is no picture's, as far as its header tells."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give its pictures, such as {path}/*.jpg")
    header_size(path, path.name)


def _orientation(path: Path) -> int:
    """EXIF's number of how the camera was held; 1, upright, where the tag is missing or damaged."""
    with contextlib.suppress(*_EXIF_ERRORS), open_image(path) as picture:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return 1

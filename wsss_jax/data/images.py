"""Reading images and masks from image files, with errors that name the image and the file.

The EXIF orientation tag is deliberately not applied: the published systems decode the pixels as they are
stored, and masks are drawn in that orientation. Turning only the image would move it away from its mask.
"""

import contextlib
import functools
import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsss_jax.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Of the images that are looked for in folders."""

# Of all that Pillow reads, which by an EPS file starts Ghostscript, whatever the file is called.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_INDEX_MODES = ("P", "L", "1")
# What Pillow's decoders raise on damaged files besides OSError; found by feeding them damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
)


class Content(NamedTuple):
    """A file's content that lies in another file, and where that is, for messages."""

    content: bytes
    where: str


File = str | os.PathLike[str] | Content


def open_image(path: File) -> Image.Image:
    """Opens a JPEG, PNG, WebP, BMP, GIF or TIFF file, of several images in it the first; others are not
    read. Raises what Pillow raises."""
    return Image.open(io.BytesIO(path.content) if isinstance(path, Content) else path, formats=_FORMATS)


def decode_image(path: File, image_id: str) -> np.ndarray:
    """Returns the image in a file as uint8[H, W, 3], RGB, in the stored orientation.

    Grayscale, palette, CMYK and bilevel files are converted; an alpha channel is dropped, and of 16-bit
    samples the high byte is kept.

    Raises:
        DataError: the file is missing, truncated, damaged, no image, too large, or holds float samples.
    """
    with _reading(path, image_id, "image"), open_image(path) as image:
        image.load()
        if image.mode in _SIXTEEN_BIT:
            high = np.clip(np.asarray(image), 0, 65535).astype(np.uint16) >> 8
            return np.repeat(high.astype(np.uint8)[:, :, None], 3, axis=2)
        image.info.pop("transparency", None)  # dropped; Pillow would warn
        if image.mode != "F":
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    raise DataError(
        f"image {image_id!r}: {_where(path)} holds 32-bit float samples, whose range is unknown; "
        "convert it to 8 bits a channel"
    )


def header_size(path: File, image_id: str) -> tuple[int, int]:
    """Returns (H, W) of an image file in pixels; only the header is read."""
    with _reading(path, image_id, "image"), open_image(path) as image:
        return image.height, image.width


def read_mask(path: File, image_id: str, num_classes: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns a mask file's class indices, uint8[H, W]: 0 background, `c + 1` class `c`, 255 void.

    Args:
        path: an 8-bit PNG holding indices, with a palette (its colours are ignored) or as grayscale.
        image_id: the image that the mask belongs to, for messages.
        num_classes: number of foreground classes C; indices C + 1 to 254 are refused.
        size: (H, W) that the mask must have, or None to accept any.

    Raises:
        DataError: the file is unreadable, colour-coded, of another size, or has an index beyond the classes.
    """
    with _reading(path, image_id, "mask"), open_image(path) as image:
        _verify(path)
        image.load()
        mode, pixels = image.mode, np.asarray(image)
    if mode not in _INDEX_MODES:
        raise DataError(f"mask of {image_id!r}: {_where(path)} {_why_not_indices(mode, pixels)}")
    mask = pixels.astype(np.uint8)
    if size is not None and mask.shape != size:
        raise DataError(f"mask of {image_id!r}: {_where(path)} {_why_wrong_size(mask.shape, size)}")
    beyond = np.unique(mask[(mask > num_classes) & (mask != 255)])
    if beyond.size:
        raise DataError(
            f"mask of {image_id!r}: {_where(path)} has index {beyond[0]}, but there are {num_classes} "
            f"classes: only 0 (background), 1 to {num_classes} and 255 (void) may occur"
        )
    return mask


def _verify(path: File) -> None:
    """Compares a PNG's checksums, which decoding does not: one flipped bit can be another class."""
    with open_image(path) as image:
        image.verify()


@functools.cache
def voc_palette() -> np.ndarray:
    """Returns PASCAL VOC's colour of each index, uint8[256, 3] RGB, read-only.

    The index's bits are dealt out to R, G and B, from the highest bit of the colour down (the colour map of
    the VOC development kit): 0 is black, 1 (128, 0, 0), 15 (192, 128, 128) and 255 (224, 224, 192).
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    palette = colours.astype(np.uint8)
    palette.setflags(write=False)
    return palette


def palette_png(labels: np.ndarray) -> bytes:
    """Returns a label map uint8[H, W] as an 8-bit palette PNG file in VOC's colours.

    Raises:
        ValueError: the array is of another type or number of axes.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"a label map is uint8[H, W], not {labels.dtype}{list(labels.shape)}")
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().tobytes())  # makes it an image of mode P; the pixels stay
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def indices_from_colours(rgb: np.ndarray) -> np.ndarray:
    """Converts a mask painted in PASCAL VOC's colours to indices.

    Args:
        rgb: uint8[H, W, 3].

    Returns:
        uint8[H, W].

    Raises:
        DataError: a colour is not in VOC's palette (as after JPEG compression or smoothing).
    """
    weights = np.array([65536, 256, 1])
    known = voc_palette() @ weights
    order = np.argsort(known)
    codes = rgb @ weights
    index = order[np.searchsorted(known[order], codes).clip(max=255)]
    wrong = np.argwhere(known[index] != codes)
    if wrong.size:
        y, x = wrong[0]
        raise DataError(f"colour {tuple(rgb[y, x].tolist())} at row {y}, column {x} is not in VOC's palette")
    return index.astype(np.uint8)


def _why_not_indices(mode: str, pixels: np.ndarray) -> str:
    """Returns the rest of a message about a mask whose mode cannot hold indices."""
    if mode in ("RGB", "RGBA"):
        if (pixels[..., :1] == pixels[..., 1:3]).all():
            return "has three equal colour channels instead of class indices; save it as 8-bit grayscale"
        return (
            "is colour-coded instead of holding class indices; convert it with "
            "wsss_jax.data.images.indices_from_colours and save the result as PNG"
        )
    return f"has pixel mode {mode} instead of 8-bit class indices; save it as 8-bit grayscale or palette PNG"


def _why_wrong_size(mask: tuple[int, ...], image: tuple[int, int]) -> str:
    """Returns the rest of a message about a mask whose (H, W) differs from its image's."""
    message = f"is {mask[1]}x{mask[0]} pixels, but its image is {image[1]}x{image[0]} (width x height)"
    if mask == image[::-1]:
        return f"{message}; the image may carry an EXIF orientation, which is not applied: turn its pixels"
    return f"{message}; masks must have the size of their images"


@contextlib.contextmanager
def _reading(path: File, image_id: str, what: str) -> Iterator[None]:
    """Turns what goes wrong while a file is opened and decoded into a DataError."""
    where = f"{what} of {image_id!r}" if what == "mask" else f"image {image_id!r}"
    try:
        yield
    except FileNotFoundError as e:
        raise DataError(f"{where}: no such file: {_where(path)}") from e
    except Image.DecompressionBombError as e:
        raise DataError(f"{where}: {_where(path)} has too many pixels; shrink it ({_one_line(e)})") from e
    except _DECODE_ERRORS as e:
        raise DataError(
            f"{where}: {_where(path)} cannot be decoded ({_one_line(e)}); "
            "restore the file from its origin or take the image out of the list"
        ) from e


def _where(path: File) -> str:
    return path.where if isinstance(path, Content) else os.fspath(path)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

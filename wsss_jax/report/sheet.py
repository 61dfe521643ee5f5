"""A sheet of thumbnails in named rows, as a PNG file."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE = 88  # of a thumbnail, in pixels
_GAP = 4
_LABEL = 96  # width of the column of names
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """Draws a row of thumbnails behind each name.

    Args:
      rows: (name, images uint8[H, W, 3] of any sizes); rows may differ in length.

    Returns:
      A PNG of at most 256 colours, which a sheet of thumbnails hardly shows and which takes a third of the
      space.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    step = _SIDE + _GAP
    columns = max(len(images) for _, images in rows)
    sheet = Image.new("RGB", (_LABEL + columns * step + _GAP, len(rows) * step + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for r, (name, images) in enumerate(rows):
        top = _GAP + r * step
        draw.text((_GAP, top + _SIDE // 2), name, fill=_INK, font=font, anchor="lm")
        for c, image in enumerate(images):
            sheet.paste(_thumbnail(image), (_LABEL + c * step, top))
    content = io.BytesIO()
    sheet.quantize(256).save(content, "PNG", optimize=True)
    return content.getvalue()


def _thumbnail(image: np.ndarray) -> Image.Image:
    """The image inside a square, on paper."""
    small = Image.fromarray(image)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    square.paste(small, ((_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    return square

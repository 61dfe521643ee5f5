"""Images as parts of the page: data addresses and the HTML elements around them."""

import base64
import io

import numpy as np
from PIL import Image


def jpeg_uri(image: np.ndarray, *, quality: int) -> str:
    """An image uint8[H, W, 3] as a data address of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
    return _uri("jpeg", buffer.getvalue())


def grey_png_uri(plane: np.ndarray) -> str:
    """A plane uint8[H, W] as a data address of a grey PNG, which keeps its values."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, format="PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def png_uri(content: bytes) -> str:
    """A PNG file as a data address."""
    return _uri("png", content)


def img(uri: str, size: tuple[int, int], alt: str, css_class: str = "") -> str:
    """An image element of size (h, w); `alt` is HTML already."""
    return f'<img class="{css_class}" src="{uri}" width="{size[1]}" height="{size[0]}" alt="{alt}">'


def figure(content: str, caption: str, css_class: str = "") -> str:
    """A figure element of HTML content and HTML caption."""
    name = f' class="{css_class}"' if css_class else ""
    return f"<figure{name}>{content}<figcaption>{caption}</figcaption></figure>"


def shrunken_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(H, W) with a long side of at most `longest`, keeping the aspect; smaller sizes stay as they are."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8[H, W, 3] resized to (h, w) with antialiasing."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

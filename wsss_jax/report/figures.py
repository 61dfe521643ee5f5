"""Images outside the gallery."""

from html import escape

from wsss_jax.report import embed
from wsss_jax.report.contents import Figure

MAX_SIDE = 1600  # pixels; fills the page's width on screens of usual density
_JPEG_QUALITY = 85


def figure_card(content: Figure) -> str:
    """The HTML card of one figure: title, image, caption."""
    size = embed.shrunken_size(content.image.shape[:2], MAX_SIDE)
    uri = embed.jpeg_uri(embed.shrink(content.image, size), quality=_JPEG_QUALITY)
    title, caption = escape(content.title), escape(content.caption)
    image = embed.img(uri, size, f"{title}: {caption}" if caption else title)
    return f'<article class="sheet"><h3>{title}</h3>{embed.figure(image, caption)}</article>'

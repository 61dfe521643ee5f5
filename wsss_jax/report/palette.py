"""Colours: the VOC palette of classes and a heat scale for scores."""

import functools

import numpy as np

# Dark violet over red to pale yellow, brightness rising evenly, so that the map also reads in greyscale.
_HEAT_ANCHORS = np.array(
    [
        (8, 6, 36),
        (54, 14, 92),
        (112, 26, 110),
        (170, 44, 96),
        (219, 80, 62),
        (246, 136, 24),
        (252, 199, 62),
        (252, 250, 170),
    ],
    np.float64,
)


@functools.cache
def voc_palette() -> np.ndarray:
    """The PASCAL VOC colour of every label, uint8[256, 3] RGB, read-only.

    The bits of the label are dealt in turn to red, green and blue, from the highest bit of the colour down
    (the colour map of the VOC development kit): 0 is black, 1 (128, 0, 0), 15 (192, 128, 128) and 255
    (224, 224, 192).
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            source = 3 * bit + channel
            if source < 8:
                colours[:, channel] |= (labels >> source & 1) << 7 - bit
    palette = colours.astype(np.uint8)
    palette.setflags(write=False)
    return palette


@functools.cache
def heat_scale() -> np.ndarray:
    """A sequential scale of colours for scores, uint8[256, 3] RGB, read-only: entry 255 is score 1."""
    position = np.linspace(0, 1, 256)
    anchors = np.linspace(0, 1, len(_HEAT_ANCHORS))
    channels = [np.interp(position, anchors, _HEAT_ANCHORS[:, channel]) for channel in range(3)]
    scale = np.round(np.stack(channels, axis=1)).astype(np.uint8)
    scale.setflags(write=False)
    return scale

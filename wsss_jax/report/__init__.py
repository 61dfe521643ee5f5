"""The HTML report of a run, and pictures of scores and labels."""

from wsss_jax.report.contents import (
    Figure,
    GalleryCam,
    GalleryItem,
    ReportData,
    Result,
    Series,
    select_gallery,
)
from wsss_jax.report.overlay import cam_overlay, label_overlay, palette_png
from wsss_jax.report.page import write_report
from wsss_jax.report.palette import heat_scale, voc_palette
from wsss_jax.report.sheet import contact_sheet

__all__ = [
    "Figure",
    "GalleryCam",
    "GalleryItem",
    "ReportData",
    "Result",
    "Series",
    "cam_overlay",
    "contact_sheet",
    "heat_scale",
    "label_overlay",
    "palette_png",
    "select_gallery",
    "voc_palette",
    "write_report",
]

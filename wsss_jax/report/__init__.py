"""The HTML report of a run, and images of scores and labels."""

from wsss_jax.report.contents import (
    Figure,
    GalleryCam,
    GalleryItem,
    ReportData,
    Result,
    Series,
    select_gallery,
)
from wsss_jax.report.overlay import cam_overlay, heat_scale, label_overlay
from wsss_jax.report.page import write_report
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
    "select_gallery",
    "write_report",
]

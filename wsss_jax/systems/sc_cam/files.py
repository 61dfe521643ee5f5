"""Where a run of SC-CAM keeps what no other system has."""

from pathlib import Path

from wsss_jax.data.lists import split_name
from wsss_jax.files import file_name
from wsss_jax.runs.layout import Layout


def round_layout(layout: Layout, number: int) -> Layout:
    """A run within the run: one of the rounds before the last, counted from 1."""
    outer = layout.outer or layout.workdir
    return Layout(outer / f"round_{number}", outer)


def features_folder(layout: Layout, split: str) -> Path:
    """Folder of a split's pooled features."""
    return layout.workdir / "features" / split_name(split)


def feature_file(layout: Layout, split: str, image_id: str) -> Path:
    """feature float32[4096 * width], conv6's mean over the image."""
    return features_folder(layout, split) / f"{image_id}.npz"


def sub_labels_file(layout: Layout, split: str) -> Path:
    """Which subcategories each image of a split shows, and of which list, k and weights."""
    return layout.workdir / "sub_labels" / f"{split_name(split)}.npz"


def subcategory_file(layout: Layout, name: str) -> Path:
    """The image of the subcategories of a class."""
    return layout.workdir / "subcategories" / f"{file_name(name)}.png"

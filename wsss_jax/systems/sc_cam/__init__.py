"""SC-CAM: sub-category exploration."""

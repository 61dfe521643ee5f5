"""SC-CAM: subcategory exploration."""

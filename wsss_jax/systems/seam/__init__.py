"""The maps of SEAM's published network."""

"""CAM inference: shape buckets, compiled multi-scale programs, a stream of results."""

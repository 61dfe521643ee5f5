"""DeepLab-v2: the segmentation network that most papers train on their pseudo masks."""

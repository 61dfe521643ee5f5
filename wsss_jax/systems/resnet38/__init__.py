"""What the systems on ResNet-38 have in common."""

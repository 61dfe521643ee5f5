"""What the systems on ResNet-50 have in common."""

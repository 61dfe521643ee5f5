"""The ordinary classifier on ResNet-50: IRN's first step, and WaveCAM's."""

"""The one training loop, its step, optimisers, checkpoints and metric writers."""

"""IRN: where the boundaries between pixels of different classes lie, and the random walk that stops there."""

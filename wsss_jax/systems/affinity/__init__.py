"""AffinityNet: which neighbouring pixels belong together, and the random walk along it."""

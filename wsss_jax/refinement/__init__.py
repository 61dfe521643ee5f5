"""From class activation maps to pseudo masks: dense CRF and random walks."""

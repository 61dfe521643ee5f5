"""The ordinary classifier and its class activation maps."""

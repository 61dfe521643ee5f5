"""Commands beside the package."""

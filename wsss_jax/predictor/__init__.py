"""A trained network that is shown images of one's own."""

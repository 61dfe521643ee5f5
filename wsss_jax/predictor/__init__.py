"""A trained network that is shown pictures of one's own."""

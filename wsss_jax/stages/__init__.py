"""What a run is made of; the only code that knows the layout of its folder."""

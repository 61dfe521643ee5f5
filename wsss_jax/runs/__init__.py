"""What a run is: its folder, its stages, the runs within it, and how all of them are run."""

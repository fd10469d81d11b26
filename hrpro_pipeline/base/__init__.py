"""What all parts stand on: processes, progress, compiled functions. Nothing here knows videos or networks."""

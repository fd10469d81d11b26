"""Video files: what the container says, the clock, the decoders, and the process that they run in."""

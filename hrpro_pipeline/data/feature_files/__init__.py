"""Feature files of other programs: read, recognized, and imported."""

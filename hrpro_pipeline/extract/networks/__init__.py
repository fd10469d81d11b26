"""Networks of RGB frames: one file for each library that they come from, and one for networks of the user's own."""

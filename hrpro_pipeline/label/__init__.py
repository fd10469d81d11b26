"""Labeling in the browser: points, their journal, the media that the page shows, and its server."""

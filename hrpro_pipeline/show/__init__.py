"""What people look at: the report, overlays, clips and figures."""

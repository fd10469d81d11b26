"""Pages and pictures for people: the report, overlays, clips, figures, TensorBoard."""

"""Settings: what can be set, what it means, and the presets."""

"""Raw video to features: decoding, TV-L1 flow, two-stream I3D."""

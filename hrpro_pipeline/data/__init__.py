"""Files and records: annotations, points, features, detections. Numpy only, no networks."""

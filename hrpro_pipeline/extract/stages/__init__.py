"""The three stages that a video passes: decoding, inputs of the networks, networks."""

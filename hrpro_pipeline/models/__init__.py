"""Networks, candidate proposals and model files, which training and inference share."""

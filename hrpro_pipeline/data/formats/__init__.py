"""Files of labeling tools: read to labels, and written from them. `known.py` lists the formats."""

"""Detection, evaluation and the report."""

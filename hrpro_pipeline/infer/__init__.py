"""Detection and evaluation."""

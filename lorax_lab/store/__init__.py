"""What is kept: records, published lines, checkpoints, provenance, and the W&B window."""

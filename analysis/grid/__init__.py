"""Published sweeps of learning rates as tables, read by the rules of our own studies: which comparisons are fair."""

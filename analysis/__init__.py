"""Reads records, makes tables, draws figures: `python -m analysis`. Knows no model, no W&B, no GPU."""

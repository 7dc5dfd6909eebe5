"""Measure a pair of checkpoints, or an adapter, without training: `python -m lorax_lab.audit BASE TUNED`."""

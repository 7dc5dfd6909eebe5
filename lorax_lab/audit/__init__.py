"""Measures two checkpoints, or an adapter, without training: `python -m lorax_lab.audit BASE TUNED`."""

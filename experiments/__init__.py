"""The runs that each study needs: one file per study. `python -m experiments.rank_sweep --help`."""

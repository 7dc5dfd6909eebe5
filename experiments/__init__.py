"""Says which runs a study needs: one file per study. `python -m experiments.rank_sweep --help`."""

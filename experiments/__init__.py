"""The runs that each study needs: one file per study. What a study asked and predicted stands in its declaration,
`records/<study>/declaration.json`, and in its help: `python -m experiments.rank_sweep --help`."""

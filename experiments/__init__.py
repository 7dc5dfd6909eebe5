"""The runs that each study needs: one file per study, or its declaration alone. What a study asked and predicted stands
there, in `records/<study>/declaration.json`, and in its help: `python -m experiments rank_sweep --help`."""

"""A card of any adapter or fine-tune on disk, on one page: `python -m lorax_lab.card ADAPTER`."""

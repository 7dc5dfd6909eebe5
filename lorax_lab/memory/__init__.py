"""The memory ledger: what one training step holds, by category, measured and predicted."""

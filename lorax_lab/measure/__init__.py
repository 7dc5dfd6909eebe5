"""From a trained model to measures: one row per matrix, truncation and its controls."""

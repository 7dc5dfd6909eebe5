"""Windows on runs: W&B, Trackio and dashboards. A window never holds a run up."""

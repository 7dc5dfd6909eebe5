"""One self-contained HTML page of a folder of runs, or of a published study."""

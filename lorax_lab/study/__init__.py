"""Published studies: what was declared, and the lines of their runs."""

"""From a command line to runs that are tried, each once."""

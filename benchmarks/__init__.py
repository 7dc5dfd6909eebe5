"""The lab timed against its peers, as ratios on the same work in one session."""

"""Serves many tasks from one base: adapters are exchanged in place, and a batch may mix the tasks of its rows."""

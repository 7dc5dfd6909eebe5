"""Serves many tasks from one base: adapters are exchanged in place."""

"""The dashboards of runs, as code: a workspace and a report of W&B, and Trackio's page on this machine.

This room makes no run and measures nothing. It knows the keys under which `lorax_lab.record` shows a run, and lays
panels over them. It is the door to `wandb_workspaces`; `wandb` itself is imported only to save what was laid out.
"""

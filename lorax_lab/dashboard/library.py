"""The door to `wandb_workspaces`: imported by the modules that build panels, and by none that only reads arguments."""

from __future__ import annotations

import os
import warnings

from lorax_lab.errors import ConfigError

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
try:
    with warnings.catch_warnings():  # it still has validators of pydantic's first version
        warnings.simplefilter("ignore")
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces.expr import Config
        from wandb_workspaces.reports.v2.internal import ReportViewspec
        from wandb_workspaces.workspaces.internal import View
except ModuleNotFoundError as error:
    package = str(error.name).partition(".")[0].replace("_", "-")
    raise ConfigError(f"{package} is not installed; type pip install lorax_lab") from None

__all__ = ["Config", "ReportViewspec", "View", "reports", "workspaces"]

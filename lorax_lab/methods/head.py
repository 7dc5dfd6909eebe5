"""Nothing but the head: what a task can be solved with while the body stays as it was pretrained."""

from __future__ import annotations

from dataclasses import dataclass

from lorax_lab.config import MethodConfig
from lorax_lab.methods import part


@dataclass
class HeadConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "head"


METHOD = part.method("head", HeadConfig, lambda model: set(), "")

"""The device that dense updates are decomposed on."""

from __future__ import annotations

import torch

from lorax_lab.errors import ConfigError


def device_of(name: str | None) -> torch.device:
    """The device of `--device`; without a name CUDA where there is one.

    Raises:
        ConfigError: it is not available here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} is not available here ({reason}); type --device cpu") from None
    return device

"""The lab timed against its peers, as ratios on the same work in one session."""

import os
import subprocess
import sys
import time
from typing import Any

import torch

from lorax_lab.launch.workers import MALLOC


def timed(arguments: list[str], **variables: str) -> tuple[float, str]:
    """Seconds that Python takes with these arguments, and what it prints. Peers keep freed memory as our workers do."""
    start, environment = time.perf_counter(), MALLOC | os.environ | variables
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return time.perf_counter() - start, done.stdout


def now() -> float:
    """Seconds, when the device has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def one_pass(what: str, ours: float, theirs: float, aim: str) -> dict[str, Any]:
    """The row of two times in seconds."""
    return {"what": what, "ratio": ours / theirs, "spread": f"{ours:.0f} s / {theirs:.0f} s, one pass", "aim": aim}

"""Where a record comes from: configuration, versions, git commit, hardware, time."""

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import plain
from lorax_lab.record.record import Record, Status
from lorax_lab.record.result import Git

HOME = Path(__file__).parents[1]
"""The package's folder."""
ROOMS = ("data", "tasks", "models", "methods", "memory", "measure", "spectra")
FILES = ("execute.py", "train.py", "distributed.py", "findings.py", "comparison.py", "streams.py")
"""The rooms and files whose code decides a record's numbers; the others plan, store and show."""
PACKAGES = ("lorax_lab", "torch", "transformers", "safetensors", "numpy", "scipy")


def new_record(config: RunConfig, run_id: str, status: Status, kernel: str, **outcome: Any) -> Record:
    """The record of a run of this process, written now; `outcome` is its result, or the reason and error of its end."""
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    dials = (plain(config), config.method.name, config.rank, config.seed)
    code = (versions(config.method.packages), git(), code_sha256())
    return Record(run_id, status, written, *dials, *code, hardware(kernel), **outcome)


def versions(of_method: tuple[str, ...]) -> dict[str, str | None]:
    """Versions of Python, of `PACKAGES` and of those that the method adds; None of what is not installed."""
    installed: dict[str, str | None] = {"python": platform.python_version()}
    for package in (*PACKAGES, *of_method):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = None
    return installed


@lru_cache(maxsize=8)
def code_sha256(package: Path = HOME) -> str:
    """The version of the code that decides a run's numbers: the SHA-256 of the names and contents of its files, 64 hex
    digits. A comment that is changed changes it too."""
    paths = [path for room in ROOMS for path in (package / room).rglob("*.py")]
    paths += [package / name for name in FILES if (package / name).is_file()]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes() + b"\n")
    return digest.hexdigest()


def git() -> Git:
    """Commit and dirty flag of the checkout this package runs from; None where it is not in one."""

    def ask(*arguments: str) -> str | None:
        command = ["git", "-C", str(HOME), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    if ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return Git(None, None)
    changes = ask("status", "--porcelain", "--untracked-files=no", "--", str(HOME))
    return Git(ask("rev-parse", "HEAD"), bool(changes))


def hardware(kernel: str | None = None) -> dict[str, Any]:
    """Machine, system, processor and its instruction set, cores, torch threads and the accelerator's name; and the
    kernel of linear layers, where a model was run."""
    import torch

    from lorax_lab.distributed import processes

    machine: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "processor": _processor()}
    machine |= {"instruction_set": torch.backends.cpu.get_cpu_capability(), "processors": os.cpu_count()}
    machine |= {"threads": torch.get_num_threads()}
    without_cuda = "mps" if torch.backends.mps.is_available() else "cpu"
    machine |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else without_cuda}
    machine |= {"processes": processes()} if processes() > 1 else {}
    return machine | ({"kernel": kernel} if kernel else {})


def same_hardware(machines: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Of each machine the values that all of them state, in one order; older records state less: no kernel where
    torch's was the only one, and no processes where there was one."""
    with_kernel = [{"kernel": "torch", "processes": 1, **machine} for machine in machines]
    common = sorted(set.intersection(*map(set, with_kernel))) if with_kernel else []
    return [[machine[key] for key in common] for machine in with_kernel]


@lru_cache(maxsize=1)
def _processor() -> str | None:
    """The processor's name, with family and model: makers give one name to processors of several kinds."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor() or None
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    kind = [f"{key} {facts[name]}" for key, name in (("family", "cpu family"), ("model", "model")) if name in facts]
    return " ".join([facts.get("model name", platform.machine()), *kind])

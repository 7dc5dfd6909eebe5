"""Checkpoints of a training run. A run that resumes from one ends in the same bits.

`<run>/checkpoints/step-000050/` holds `state.safetensors` (trained parameters, buffers, optimizer, random streams, and
the weights of the best validation where they are kept) and `state.json` (position, learning curve, versions). Several
processes write their parts at once, as torch.distributed.checkpoint does; any number of processes goes on from them. A
checkpoint is written under another name and renamed once it is whole. The last two are kept.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lorax_lab import distributed
from lorax_lab.record.files import save_tensors, sync, write_json
from lorax_lab.record.redact import redacted

FOLDER = "checkpoints"
TENSORS, STATE = "state.safetensors", "state.json"
KEPT = 2
MOST_OF_THE_TIME = 0.05
"""Share of a run's time that checkpoints may take."""


@dataclass
class Position:
    """How far a run is: steps taken, the epoch, the first batch of the next step in it, and what it cost so far.

    Attributes:
        waited: validations since the best one.
        best_score: of the best validation, higher being better.
        best_step: when it was; 0 before the first.
        best: what was trained then, by name, on the CPU; empty where it is not kept.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    waited: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the folder of the run.
        identity: what must be equal for the bits to be equal: run id, versions of the code. A checkpoint of another
            identity is not used.
        seconds: the least time between checkpoints, which is longer where writing one takes more than a twentieth of
            it; 0 makes one at every step, None makes none.
        tell: called with a sentence for the user.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], seconds: float | None, tell: Callable[[str], None]
    ) -> None:
        self.folder, self.seconds, self.tell = folder / FOLDER, seconds, tell
        self.identity = redacted(json.loads(json.dumps(identity)))  # as it is written
        self.last, self.took = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether it is time for the next."""
        passed, most = time.monotonic() - self.last, MOST_OF_THE_TIME
        return self.seconds is not None and (not self.seconds or passed >= max(self.seconds, self.took / most))

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, position: Position
    ) -> None:
        """Write a checkpoint whole, then remove all but the last two; an `OSError` leaves those before it untouched."""
        start = time.monotonic()
        target = self.folder / f"step-{position.step:06d}"
        scratch = self.folder / f".{target.name}"
        if distributed.is_first():
            shutil.rmtree(scratch, ignore_errors=True)
        state = {key: value for key, value in vars(position).items() if key != "best"}
        state |= {"identity": self.identity, "scaler": scaler.state_dict()}
        best = {f"best/{name}": tensor for name, tensor in position.best.items()}
        tensors = _tensors(model, optimizer) | best
        if distributed.processes() > 1:
            distributed.agreed(True)  # the first has made room
            distributed.save(scratch, tensors)
        else:
            save_tensors(scratch / TENSORS, tensors)
        if distributed.is_first():
            write_json(scratch / STATE, state | {"processes": distributed.processes()})
            shutil.rmtree(target, ignore_errors=True)
            os.replace(scratch, target)
            sync(self.folder)
            for old in self._all()[KEPT:]:
                shutil.rmtree(old, ignore_errors=True)
        distributed.agreed(True)
        self.last = time.monotonic()
        self.took = self.last - start

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Position | None:
        """Load the newest whole checkpoint into a model, its optimizer and torch's random streams; None where there is
        none. A damaged checkpoint is reported and removed, and the one before it is used."""
        for folder in distributed.from_first(self._all()):
            try:
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                tensors = _read(folder, model, optimizer)
                if changed := self._changed(state):
                    self.tell(f"{folder} is of another {', '.join(changed)}; training starts from the beginning")
                    distributed.agreed(True)  # all have read it
                    if distributed.is_first():  # else `save` would keep these, whose steps are higher
                        shutil.rmtree(self.folder, ignore_errors=True)
                    return None
                best = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}
                position = Position(**{key: state[key] for key in vars(Position()) if key != "best"}, best=best)
                _restore(model, optimizer, tensors)
                _set_streams(tensors, state.get("processes", 1), position.step)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                self.tell(f"a checkpoint is damaged and removed: {folder}: {error}")
                shutil.rmtree(folder, ignore_errors=True)
                continue
            scaler.load_state_dict(state["scaler"])
            return position
        return None

    def _changed(self, state: dict[str, Any]) -> list[str]:
        """What is not as it was. Several processes round otherwise than one, whatever their threads."""
        alone = max(distributed.processes(), state.get("processes", 1)) == 1
        keys = [key for key in self.identity if alone or key != "threads"]
        return [key for key in keys if state["identity"].get(key) != self.identity[key]]

    def _all(self) -> list[Path]:
        """The newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model/{name}": tensor for name, tensor in trained_tensors(model).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    for number, streams in enumerate(distributed.of_all(_streams())):
        tensors |= {f"random{number or ''}/{device}": stream for device, stream in streams.items()}
    return tensors


def _streams() -> dict[str, Tensor]:
    """The states of this process's random streams, by device."""
    cuda = {f"cuda/{device}": torch.cuda.get_rng_state(device) for device in range(torch.cuda.device_count())}
    mps = {"mps": torch.mps.get_rng_state()} if torch.backends.mps.is_available() else {}
    return {"cpu": torch.get_rng_state()} | cuda | mps


def _set_streams(tensors: dict[str, Tensor], processes: int, step: int) -> None:
    """Go on with this process's streams. Where there were more or fewer processes, each begins one anew."""
    if processes != distributed.processes():
        torch.manual_seed(torch.initial_seed() + step)
        return
    prefix = f"random{distributed.rank() or ''}"
    torch.set_rng_state(tensors[f"{prefix}/cpu"])
    if torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors[f"{prefix}/mps"])
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(tensors[f"{prefix}/cuda/{device}"], device)


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and saved buffers, by name; what several layers share, once, by its first name."""
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    changing = {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}
    first = {
        (pointer, tensor.shape) if (pointer := distributed.local(tensor).data_ptr()) else name: name
        for name, tensor in reversed(changing.items())
    }
    return {name: changing[name] for name in reversed(first.values())}


@torch.no_grad()
def load_trained(model: nn.Module, saved: dict[str, Tensor]) -> None:
    """Put back what `trained_tensors` gave.

    Raises:
        ValueError: other names or shapes; the model is as it was.
    """
    tensors = trained_tensors(model)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in saved.items()}:
        raise ValueError("it holds other parameters than this run trains")
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    load_trained(model, {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            index, _, key = rest.partition("/")
            states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _read(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    trained = trained_tensors(model)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def like(name: str) -> Tensor | None:
        kind, _, rest = name.partition("/")
        return parameters[int(rest.partition("/")[0])] if kind == "optimizer" else trained.get(rest)

    if (folder / distributed.METADATA).exists():
        return distributed.load(folder, like)
    return {name: distributed.placed(tensor, like(name)) for name, tensor in load_file(folder / TENSORS).items()}

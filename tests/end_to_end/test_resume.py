"""Checkpoints: what is put back is what was, to the bit; what is damaged, or of another run, is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Lab
from safetensors.torch import load_file
from torch import nn

from lorax_lab import console
from lorax_lab.config import KERNELS
from lorax_lab.models import use_kernel
from lorax_lab.record import provenance, read_record
from lorax_lab.record.checkpoints import Checkpoints, Position
from lorax_lab.streams import generator

IDENTITY = {"run_id": "tiny", "versions": {"torch": "2"}}


class Net(nn.Module):
    """A frozen layer, a trained one with dropout, and a buffer that training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.trained, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(nn.functional.dropout(self.trained(self.frozen(x)), 0.3, self.training))


def made(seed: int = 0) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    net = Net()
    return net, torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1, fused=True)


def train(net: Net, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(8, 4, generator=generator(step, "x"))
        loss = (net(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def checkpoints(folder: Path, messages: list[str] | None = None, seconds: float | None = 0.0) -> Checkpoints:
    return Checkpoints(folder, IDENTITY, seconds, (messages if messages is not None else []).append)


def saved(folder: Path, *steps: int) -> Checkpoints:
    store = checkpoints(folder)
    net, optimizer = made()
    for step in steps:
        train(net, optimizer, range(1))
        store.save(net, optimizer, None, Position(step=step, history=[{"step": step, "train/loss": 0.1}]))
    return store


@pytest.mark.parametrize("kernel", KERNELS)
def test_training_goes_on_to_the_same_bits(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorax_lab.models.kernel.SMALL", 0)
    net, optimizer = made()
    use_kernel(net, kernel)
    losses = train(net, optimizer, range(5))
    position = Position(5, 1, 2, 40, 160, 1.5, [{"step": 5, "train/loss": losses[-1]}])
    checkpoints(tmp_path).save(net, optimizer, None, position)
    losses = train(net, optimizer, range(5, 10))

    other, its_optimizer = made(seed=9)
    use_kernel(other, kernel)
    other.frozen.load_state_dict(net.frozen.state_dict())
    assert checkpoints(tmp_path).load(other, its_optimizer, None) == position
    assert train(other, its_optimizer, range(5, 10)) == losses
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_last_two_are_kept_and_all_go_in_the_end(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, 30, 1000)
    assert sorted(path.name for path in store.folder.iterdir()) == ["step-000030", "step-001000"]
    assert sorted(path.name for path in store.folder.glob("step-001000/*")) == [
        "manifest.json", "state.json", "state.safetensors",
    ]  # fmt: skip
    store.clear()
    assert not store.folder.exists()


def test_none_are_made_without_an_interval_and_one_when_it_is_time(tmp_path: Path) -> None:
    none = checkpoints(tmp_path, seconds=None)
    none.save(*made(), None, Position(step=1))
    assert not none.due()
    assert not none.folder.exists()
    later = checkpoints(tmp_path, seconds=1000)
    assert not later.due()
    later.last -= 1001
    assert later.due()
    later.save(*made(), None, Position(step=1))
    assert not later.due()


@pytest.mark.parametrize(
    ("name", "damage"), [("manifest.json", "gone"), ("state.json", "cut"), ("state.safetensors", "flip")]
)
def test_a_damaged_one_is_set_aside_and_the_one_before_it_used(tmp_path: Path, name: str, damage: str) -> None:
    store = saved(tmp_path, 1, 2)
    path = store.folder / "step-000002" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
    elif damage == "cut":
        del content[-5:]
    path.write_bytes(content)
    if damage == "gone":
        path.unlink()
    messages: list[str] = []
    position = checkpoints(tmp_path, messages).load(*made(), None)
    assert position is not None
    assert position.step == 1
    assert len(messages) == 1
    assert str(store.folder / "step-000002") in messages[0]
    assert sorted(p.name for p in store.folder.iterdir()) == ["damaged-step-000002", "step-000001"]


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Interrupt the run after so many steps of this process; gives the steps that it makes."""
    on_step = console.Steps.__call__

    def watch(last: int) -> list[int]:
        steps: list[int] = []

        def watched(self: Any, at: int, *rest: Any) -> None:
            on_step(self, at, *rest)
            steps.append(at)
            if len(steps) == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(console.Steps, "__call__", watched)
        return steps

    return watch


@pytest.mark.parametrize("change", ["code", "versions", "kernel", "threads"])
def test_a_run_of_other_code_or_arithmetic_begins_anew_and_says_so(
    change: str, small_run: list[str], lab_here: Lab, interrupted_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*small_run, "rank=2", "reference=false", "train.max_steps=4", "checkpoint_seconds=0"]
    steps = interrupted_at(2)
    assert lab_here(*overrides, "train.kernel=torch").returncode == 130
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    elif change != "kernel":
        name, value = ("code_sha256", "f" * 64) if change == "code" else ("versions", {"torch": "1.0"})
        monkeypatch.setattr(provenance, name, lambda *_: value)
    done = lab_here(*overrides, f"train.kernel={'onednn' if change == 'kernel' else 'torch'}")
    assert done.returncode == 0, done.stdout
    assert f"is of another {change};" in " ".join(done.stdout.split())
    assert steps == [1, 2, 1, 2, 3, 4]


@pytest.mark.parametrize("words", [["method=full", "train.kernel=torch"], ["rank=2", "train.kernel=onednn"]], ids=str)
def test_an_interrupted_run_ends_in_the_same_bits(
    words: list[str], small_run: list[str], lab_here: Lab, interrupted_at: Any, tmp_path: Path
) -> None:
    overrides = [word for word in small_run if not word.startswith("runs_dir=")]
    overrides += [*words, "reference=false", "checkpoint_seconds=0", "train.max_steps=6"]
    assert lab_here(*overrides, f"runs_dir={tmp_path / 'at once'}").returncode == 0
    steps = interrupted_at(3)
    assert [lab_here(*overrides, f"runs_dir={tmp_path / 'twice'}").returncode for _ in range(2)] == [130, 0]
    assert steps == [1, 2, 3, 4, 5, 6]
    folders = [next((tmp_path / name).glob("tiny-bert-*")) for name in ("at once", "twice")]
    before, after = map(read_record, folders)
    assert after.hardware["kernel"] == words[-1].partition("=")[2]
    assert before.completed.metrics == after.completed.metrics
    weights = [load_file(next(folder.glob("*.safetensors"))) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_one_of_other_parameters_is_damaged(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    net = nn.Linear(3, 3)
    messages: list[str] = []
    assert checkpoints(tmp_path, messages).load(net, torch.optim.AdamW(net.parameters()), None) is None
    assert "other parameters than this run trains" in messages[0]


def test_nothing_is_put_in_place_before_all_of_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)
    net, optimizer = made(seed=5)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for part in ("save_tensors", "write_json", "sync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"lorax_lab.record.checkpoints.{part}", full)
            with pytest.raises(OSError, match="No space"):
                checkpoints(tmp_path).save(net, optimizer, None, Position(step=2))
        position = checkpoints(tmp_path).load(*made(), None)
        assert position is not None
        assert position.step == (2 if part == "sync" else 1)


def test_the_scaler_comes_back(tmp_path: Path) -> None:
    class Scaler:
        def __init__(self, scale: float) -> None:
            self.state: dict[str, Any] = {"scale": scale, "_growth_tracker": 3}

        def state_dict(self) -> dict[str, Any]:
            return self.state

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.state = state

    checkpoints(tmp_path).save(*made(), Scaler(1024.0), Position(step=1))
    scaler = Scaler(1.0)
    assert checkpoints(tmp_path).load(*made(), scaler) is not None
    assert scaler.state == {"scale": 1024.0, "_growth_tracker": 3}

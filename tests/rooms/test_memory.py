"""The ledger against sizes that can be worked out by hand."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from torch import nn

from lorax_lab.memory import CATEGORIES, measure_step, peak_of, peak_resident_bytes, reset_peak
from lorax_lab.methods import METHODS
from lorax_lab.models import select
from lorax_lab.streams import generator

ACCELERATOR = SimpleNamespace(backward=lambda loss: loss.backward(), autocast=nullcontext)
IN, HIDDEN, ROWS = 1000, 500, 100


class TwoLayers(nn.Module):
    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.first = nn.Linear(IN, HIDDEN, bias=False).requires_grad_(not frozen)
        self.second = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.second(torch.relu(self.first(x))).square().mean())


def ledger(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[dict[str, int], int]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.0, weight_decay=0.1, fused=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measured = measure_step(model, optimizer, batch, ACCELERATOR)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert list(measured.by_category) == list(CATEGORIES)
    assert sum(measured.by_category.values()) == measured.peak_bytes
    return measured.by_category, measured.peak_bytes


@pytest.mark.parametrize("frozen", [False, True])
def test_two_layers_by_hand(frozen: bool) -> None:
    by_category, _ = ledger(TwoLayers(frozen), {"x": torch.randn(ROWS, IN)})
    big, small = 4 * IN * HIDDEN, 4 * HIDDEN
    trained = small if frozen else big + small
    assert by_category["weights"] == big + small
    assert by_category["optimizer_states"] == pytest.approx(2 * trained, abs=16)
    if frozen:  # the peak is in the forward pass: before and after relu
        assert by_category["gradients"] == 0
        assert by_category["activations"] == 4 * ROWS * IN + 4 * ROWS * HIDDEN
        assert by_category["temporaries"] == 4 * ROWS * HIDDEN
    else:  # the peak is where the first layer's gradient appears
        assert by_category["gradients"] == trained
        assert by_category["activations"] - 4 * ROWS * IN < 64
        assert by_category["temporaries"] - 4 * ROWS * HIDDEN < 64


def test_lora_holds_fewer_gradients_and_states_than_full() -> None:
    tokens = torch.randint(1, 60, (4, 16), generator=generator(0, "tokens"))
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": torch.tensor([0, 1, 0, 1])}
    sizes = {}
    for name in ("full", "lora"):
        model = tiny_model("bert").train()
        method = METHODS[name]
        rank = 2 if method.has_rank else None
        method.attach(model, select(model, ["all-linear"]), method.settings(), rank, generator(0, "adapter"))
        sizes[name], _ = ledger(model, batch)
        trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
        states = len([p for p in model.parameters() if p.requires_grad]) * 4
        assert sizes[name]["optimizer_states"] == 2 * trained + states
    assert sizes["lora"]["optimizer_states"] < 0.2 * sizes["full"]["optimizer_states"]
    assert sizes["lora"]["weights"] > sizes["full"]["weights"]


def test_the_process_peak_rises_with_what_is_held_and_can_start_anew() -> None:
    fresh = reset_peak()
    before = peak_resident_bytes()
    block = torch.ones(64, 2**20)
    after = peak_resident_bytes()
    del block
    assert after - before > 0.8 * 4 * 64 * 2**20 or not fresh
    assert not reset_peak() or peak_resident_bytes() < after - 0.5 * 4 * 64 * 2**20


def test_the_peak_of_a_call_leaves_out_what_was_there() -> None:
    held = torch.zeros(1000)

    @torch.inference_mode()
    def call() -> None:
        first = held + 1
        second = first + 1
        del first
        _ = second + held.view(-1)

    assert peak_of(call, [held]) == 2 * held.nbytes


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 5\ninactive_file 200\n"}, 500),
        ({"memory.max": "max", "memory.current": "700", "memory.stat": "inactive_file 200\n"}, None),
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 5\n"}, None),
        ({}, None),
    ],
)
def test_what_a_containers_limit_leaves(files: dict[str, str], free: int | None, tmp_path: Path) -> None:
    from lorax_lab.memory.shortage import container_bytes

    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert container_bytes(tmp_path) == free


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorax_lab.memory import shortage

    monkeypatch.setattr(shortage, "container_bytes", lambda: 12345)
    monkeypatch.setattr(shortage.torch.cuda, "is_available", lambda: False)
    assert shortage.free_bytes() == 12345

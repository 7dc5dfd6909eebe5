"""The spectral engine against torch and PEFT on the same matrices, taking turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.record.provenance import hardware
from lorax_lab.spectra import LowRank, low_rank_singular_values, singular_values, spectrum

SIZE = 4096
FAST = 30
"""Rounds for work of milliseconds. Work of seconds has as many rounds as the caller asks for."""
Call = Callable[[], object]


def measure(rounds: int = 3) -> dict[str, Any]:
    """Ratios of the peer's time to ours, medians over rounds in which each contender has its turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    dense = _turns(
        {
            "ours": lambda: spectrum(noise),
            "svdvals": lambda: torch.linalg.svdvals(noise),
            "svd": lambda: torch.linalg.svd(noise, full_matrices=False),
            "fp64": lambda: torch.linalg.svdvals(noise.double()),
        },
        rounds,
    )
    rows = [_row("all values, 4096²: torch svdvals / ours", dense["svdvals"], dense["ours"], "≥ 2.5")]
    rows += [_row("all values, 4096²: torch svd / ours", dense["svd"], dense["ours"], "≥ 3")]
    rows += [_row("all values, 4096²: torch svdvals in fp64 / ours", dense["fp64"], dense["ours"], "")]
    rows += _errors(noise)
    for rank in (16, 64):
        rows += _factors(rank, dense["svdvals"], device)
    return {
        "title": "Singular values of an update",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "rows": rows,
        "median_seconds": {name: statistics.median(times) for name, times in dense.items()},
        "note": f"fp32 matrices; {rounds} rounds of the dense ones. All values: iid Gaussian. Errors are against "
        "svdvals in fp64.",
    }


def _errors(x: Tensor) -> list[dict[str, Any]]:
    oracle = torch.linalg.svdvals(x.double())
    ours = float(((spectrum(x).sigma - oracle).abs() / oracle).max())
    theirs = float(((torch.linalg.svdvals(x).double() - oracle).abs() / oracle).max())
    return [_row(f"largest relative error: fp32 svdvals {theirs:.0e} / ours {ours:.0e}", [theirs], [ours], "≥ 1")]


def _factors(rank: int, svdvals: list[float], device: torch.device) -> list[dict[str, Any]]:
    layer, update = _peft_layer(rank)
    layer, update = layer.to(device), LowRank(update.B.to(device), update.A.to(device), update.scaling)
    from peft.tuners.lora.conversion import _convert_module_to_lora

    calls: dict[str, Call] = {"ours": lambda: singular_values(update)}
    ours = _turns(calls, FAST)["ours"]
    batch = [update] * 64
    together = [t / 64 for t in _turns({"ours": lambda: low_rank_singular_values(batch)}, 3)["ours"]]
    peft = _turns({"peft": lambda: _convert_module_to_lora(layer, rank=rank)}, 1)["peft"]
    return [
        _row(f"factors, 4096², r = {rank}: dense svdvals / ours", svdvals, ours, "≥ 1000"),
        _row(f"factors, 4096², r = {rank}, 64 at once: dense svdvals / ours", svdvals, together, ""),
        _row(f"factors, 4096², r = {rank}: PEFT's convert_to_lora / ours", peft, ours, ""),
    ]


def _peft_layer(rank: int) -> tuple[nn.Module, LowRank]:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(SIZE, SIZE, bias=False))
    tuned = get_peft_model(model, LoraConfig(r=rank, target_modules=["0"], init_lora_weights=False))
    layer = next(module for name, module in tuned.named_modules() if name.endswith(".0"))
    B, A = layer.lora_B["default"].weight.detach(), layer.lora_A["default"].weight.detach()
    return layer, LowRank(B, A, layer.scaling["default"])


def _turns(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = _now()
            call()
            if turn or rounds == 1:
                times[name].append(_now() - start)
    return times


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _row(what: str, theirs: list[float], ours: list[float], aim: str) -> dict[str, Any]:
    low, high = min(theirs) / max(ours), max(theirs) / min(ours)
    spread = f"{low:.3g} – {high:.3g}" if len(theirs) + len(ours) > 2 else "one pass"
    return {"what": what, "ratio": statistics.median(theirs) / statistics.median(ours), "spread": spread, "aim": aim}

"""What a step of LoRA computes against one of full fine-tuning, counted and timed, over the rank.

All ranks and full fine-tuning take turns in one process on one batch. Rows go to `results/cost.csv`, and as a figure to
`docs/step_cost.png`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from analysis import style
from analysis.step import draw_cost
from lorax_lab.memory.predict import Step, count
from lorax_lab.record.files import write_csv
from lorax_lab.record.provenance import hardware

HERE = Path(__file__).parent
RANKS = (1, 8, 32, 64, 128, 256)
ROUNDS, WARMUP = 24, 3
FULL = Step("minilm", None, 16, 64, "adamw", "fp32", "sdpa", False, "classifier", "all-linear")


def measure() -> dict[str, Any]:
    """One row per rank: the median of its paired times with full, and the shares of operations."""
    steps = {rank: replace(FULL, rank=rank) for rank in (None, *RANKS)}
    times = _times(steps)
    total = count(FULL).total
    rows = []
    for rank in RANKS:
        shares = [ours / full for ours, full in zip(times[rank], times[None], strict=True)]
        low, middle, high = statistics.quantiles(shares, n=4)
        step = {"model": FULL.model, "batch": FULL.batch, "sequence": FULL.sequence, "rank": rank}
        step |= {"operations": count(steps[rank]).total / total}
        rows.append(step | {"time": middle, "time_low": low, "time_high": high})
    table = pd.DataFrame(rows)
    write_csv(HERE / "results" / "cost.csv", table)
    style.save(table, draw_cost(table), HERE.parent / "docs" / "step_cost")
    (HERE.parent / "docs" / "step_cost.pdf").unlink()  # the README shows the PNG
    return {
        "title": f"A step of LoRA / a step of full fine-tuning, MiniLM, {FULL.batch} × {FULL.sequence} tokens",
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "rows": [_row(row) for row in rows],
        "note": f"Median of {ROUNDS} rounds in which each rank and full take turns; spread: quartiles, then the share "
        "of operations, which torch's FlopCounterMode counts.",
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    spread = f"{row['time_low']:.2f} – {row['time_high']:.2f}; operations {row['operations']:.3f}"
    return {
        "what": f"r = {row['rank']}: time / full's",
        "ratio": row["time"],
        "spread": spread,
        "aim": "—",
    }


def _times(steps: dict[int | None, Step]) -> dict[int | None, list[float]]:
    models: dict[int | None, nn.Module] = {rank: step.build().train() for rank, step in steps.items()}
    optimizers = {
        rank: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
        for rank, model in models.items()
    }
    batch, names = FULL.make_batch(), list(steps)
    times: dict[int | None, list[float]] = {rank: [] for rank in names}
    for turn in range(WARMUP + ROUNDS):
        shift = turn % len(names)
        for rank in names[shift:] + names[:shift]:
            start = time.perf_counter()
            models[rank](**batch).loss.backward()
            optimizers[rank].step()
            optimizers[rank].zero_grad()
            if turn >= WARMUP:
                times[rank].append(time.perf_counter() - start)
    return times

"""Tokens a second of SmolLM2 in bf16, full and LoRA, against Trainer and PEFT in bf16: whole training loops, each in a
process of its own. Both group texts of like length; padding is counted on neither side."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import timed
from benchmarks.sweep import write_data
from lorax_lab.launch.compose import compose
from lorax_lab.models import resolve
from lorax_lab.record import load_runs
from lorax_lab.tasks import load_task

STEPS = 8
AIMS = {"8": ("LoRA, r = 8: ours / Trainer and PEFT", "≥ 1.1"), "full": ("full: ours / Trainer", "≥ 1.0")}
SETTINGS = ("model=smollm2", "train.precision=bf16", "measure=trial", "reference=false", "tracking=disabled")


def measure(steps: int = STEPS) -> dict[str, Any]:
    """Each side once for each method, ours first, over so many steps."""
    folder, task = resolve("smollm2"), load_task(compose([]).task)
    speeds, rows = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        data = write_data(Path(scratch), task)
        for method, (what, aim) in AIMS.items():
            ours = _ours(method, steps, Path(scratch) / method)
            theirs = _theirs([str(folder), str(data), method, "one", "bf16", str(steps)])
            speeds[method] = {"ours": ours, "theirs": theirs}
            spread = f"{ours:.0f} / {theirs:.0f} tokens a second, one pass"
            rows.append({"what": what, "ratio": ours / theirs, "spread": spread, "aim": aim})
    return {
        "title": "Tokens a second of SmolLM2-135M in bf16, higher is better",
        "rows": rows,
        "tokens_per_second": speeds,
        "note": f"{steps} steps of 16 movie reviews, after the model is loaded; AdamW. Trainer runs under autocast "
        "(`bf16=True`). Ours has one validation of 16 reviews in its time.",
    }


def _ours(method: str, steps: int, runs: Path) -> float:
    chosen = ["method=full"] if method == "full" else [f"rank={method}"]
    sizes = [f"train.max_steps={steps}", "task.validation_examples=16", f"runs_dir={runs}"]
    timed(["-m", "lorax_lab.run", *SETTINGS, *chosen, *sizes])
    run = load_runs(runs).iloc[0]
    return float(run["time.tokens"] / run["time.train_seconds"])


def _theirs(arguments: list[str]) -> float:
    _, output = timed([str(Path(__file__).parent / "trainer_peer.py"), *arguments])
    return float(json.loads(output.splitlines()[-1])["tokens_per_second"])

"""The default four-run sweep against a plain Trainer + PEFT script, one process per run; whole processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lorax_lab.launch.compose import compose
from lorax_lab.models import resolve
from lorax_lab.store import load_runs
from lorax_lab.store.provenance import hardware
from lorax_lab.tasks import load_task

RANKS = (4, 8, 16)


def measure() -> dict[str, Any]:
    """Both sides once, ours first; the files of model and data are in the cache before the clock starts."""
    task, folder = load_task(compose([]).task), resolve("minilm")
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data.json"
        splits = {"train": task.train, "validation": task.validation, "test": task.test}
        rows = {name: [{"text": e.text, "label": e.label} for e in examples] for name, examples in splits.items()}
        data.write_text(json.dumps(rows))
        runs = Path(scratch) / "runs"
        ranks = ",".join(map(str, RANKS))
        overrides = [f"rank={ranks}", f"runs_dir={runs}", "tracking=offline", "-m"]
        ours, _ = _timed(["-m", "lorax_lab.run", *overrides])
        peer, peer_scores = 0.0, []
        for method in ("full", *map(str, RANKS)):
            seconds, output = _timed([str(Path(__file__).parent / "trainer_peer.py"), str(folder), str(data), method])
            peer += seconds
            peer_scores.append(json.loads(output.strip().splitlines()[-1]))
        frame = load_runs(runs)
    cuts = float(frame["time.truncation_seconds"].sum())
    scores = frame[["method", "rank", "metrics.test/accuracy", "summary.effective_rank"]]
    return {
        "title": "The four-run sweep, full and r = 4, 8, 16",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "rows": [
            _row("all of ours / the script", ours, peer),
            _row("without the cuts / the script", ours - cuts, peer),
        ],
        "seconds": {"ours": ours, "of which cutting the update": cuts, "peer": peer},
        "ours": json.loads(scores.to_json(orient="records")),
        "peer": peer_scores,
        "note": "Whole processes. Beyond the script, ours takes the memory ledger, cuts the full update at "
        "every k and scores it (the second row leaves the seconds of that out), and writes W&B files.",
    }


def _row(what: str, ours: float, peer: float) -> dict[str, Any]:
    return {"what": what, "ratio": ours / peer, "spread": "one pass", "aim": "≤ 0.6"}


def _timed(arguments: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, done.stdout

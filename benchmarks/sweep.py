"""The default four-run sweep against Trainer + PEFT with texts of like length together, one process per run; whole
processes."""

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
from lorax_lab.record import load_runs
from lorax_lab.record.provenance import hardware
from lorax_lab.tasks import Task, load_task

RANKS = (4, 8, 16)


def measure() -> dict[str, Any]:
    """Both sides once, ours first; the files of model and data are in the cache before the clock starts."""
    task, folder = load_task(compose([]).task), resolve("minilm")
    with tempfile.TemporaryDirectory() as scratch:
        data = write_data(Path(scratch), task)
        ours = {mode: _ours(Path(scratch) / mode, mode) for mode in ("offline", "disabled")}
        peers = {often: _peer(folder, data, often) for often in ("all", "one")}
        frame = load_runs(Path(scratch) / "disabled")
    cuts = float(frame["time.truncation_seconds"].sum())
    scores = frame[["method", "rank", "metrics.test/accuracy", "summary.effective_rank"]]
    (every, peer_scores), (one, _) = peers["all"], peers["one"]
    return {
        "title": "The four-run sweep, full and r = 4, 8, 16",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "rows": [
            _row("all that ours does / the script with all evaluations", ours["offline"], every, "≤ 0.5"),
            _row("the same without W&B", ours["disabled"], every, ""),
            _row("all that ours does / the script with one evaluation", ours["offline"], one, "≤ 0.75"),
        ],
        "seconds": {**ours, "of which cutting the update": cuts, "peer": every, "peer, one evaluation": one},
        "ours": json.loads(scores.to_json(orient="records")),
        "peer": peer_scores,
        "note": "Whole processes, fp32, one pass of each in turn, from an empty store. The script (`trainer_peer.py`) "
        "runs Trainer with PEFT, groups texts of like length, and takes an SVD of every update. Ours also keeps the "
        "memory ledger, scores every cut, and writes W&B files.",
    }


def write_data(folder: Path, task: Task) -> Path:
    """The task's splits as the peer reads them."""
    rows = {
        name: [{"text": example.inputs["text"], "label": example.label} for example in examples]
        for name, examples in task.splits.items()
    }
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return path


def _ours(runs: Path, tracking: str) -> float:
    ranks = ",".join(map(str, RANKS))
    return _timed(["-m", "lorax_lab.run", f"rank={ranks}", f"runs_dir={runs}", f"tracking={tracking}", "-m"])[0]


def _peer(folder: Path, data: Path, evaluations: str) -> tuple[float, list[dict[str, Any]]]:
    ended = [peer_run(folder, data, method, evaluations) for method in ("full", *map(str, RANKS))]
    return sum(seconds for seconds, _ in ended), [scores for _, scores in ended]


def peer_run(folder: Path, data: Path, method: str, evaluations: str) -> tuple[float, dict[str, Any]]:
    """Seconds and scores of one run of the peer."""
    script = str(Path(__file__).parent / "trainer_peer.py")
    seconds, output = _timed([script, str(folder), str(data), method, evaluations])
    return seconds, json.loads(output.strip().splitlines()[-1])


def _row(what: str, ours: float, peer: float, aim: str) -> dict[str, Any]:
    return {"what": what, "ratio": ours / peer, "spread": f"{ours:.0f} s / {peer:.0f} s, one pass", "aim": aim}


def _timed(arguments: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, done.stdout

"""The default four-run sweep against Trainer + PEFT with texts of like length together, one process per run; whole
processes. The peer multiplies in the precision that ours chooses here. Its runs are side by side with one thread each,
or one after the other with all."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks import one_pass, timed
from lorax_lab.launch.compose import compose
from lorax_lab.launch.fastest import precision_of
from lorax_lab.models import resolve
from lorax_lab.record import load_runs
from lorax_lab.tasks import Task, load_task

RANKS = (4, 8, 16)


def measure() -> dict[str, Any]:
    """Both sides once, ours first; the files of model and data are in the cache before the clock starts."""
    config, folder = compose([]), resolve("minilm")
    task, precision, threads = load_task(config.task), precision_of(config.train), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        data, runs = write_data(Path(scratch), task), Path(scratch) / "runs"
        ours = _ours(runs)
        one, _ = _peers(folder, data, "one", precision, side_by_side=threads)
        every, peer_scores = _peers(folder, data, "all", precision, side_by_side=1)
        frame = load_runs(runs)
    cuts = float(frame["time.truncation_seconds"].sum())
    scores = frame[["method", "rank", "metrics.test/accuracy", "summary.effective_rank"]]
    return {
        "title": "The four-run sweep, full and r = 4, 8, 16",
        "rows": [
            one_pass(f"all that ours does / the script with one evaluation, {threads} at once", ours, one, "≤ 0.9"),
            one_pass("all that ours does / the script with all evaluations, one after the other", ours, every, "≤ 0.5"),
        ],
        "seconds": {"ours": ours, "of which cutting the update": cuts, "peer": every, "peer, one evaluation": one},
        "ours": json.loads(scores.to_json(orient="records")),
        "peer": peer_scores,
        "note": f"Whole processes, {precision}, one pass of each in turn, from an empty store. The script "
        "(`trainer_peer.py`) runs Trainer with PEFT, groups texts of like length, and takes an SVD of every update. "
        "Side by side its runs have one thread each. Ours also fits a head alone, keeps the memory ledger, scores "
        "cuts, and writes W&B files.",
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


def _ours(runs: Path) -> float:
    ranks = ",".join(map(str, RANKS))
    return timed(["-m", "lorax_lab.run", f"rank={ranks}", f"runs_dir={runs}", "tracking=offline", "-m"])[0]


def _peers(
    folder: Path, data: Path, evaluations: str, precision: str, side_by_side: int
) -> tuple[float, list[dict[str, Any]]]:
    """Seconds until all runs of the peer are over, and their scores."""
    script = str(Path(__file__).parent / "trainer_peer.py")
    variables = {"OMP_NUM_THREADS": "1"} if side_by_side > 1 else {}

    def scores_of(method: str) -> dict[str, Any]:
        _, output = timed([script, str(folder), str(data), method, evaluations, precision], **variables)
        return dict(json.loads(output.strip().splitlines()[-1]))

    start = time.perf_counter()
    with ThreadPoolExecutor(side_by_side) as pool:
        scores = list(pool.map(scores_of, ("full", *map(str, RANKS))))
    return time.perf_counter() - start, scores

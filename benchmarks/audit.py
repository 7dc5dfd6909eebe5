"""The audit of a synthetic pair with a 1-billion-parameter Llama's shapes against WeightWatcher and a plain script.

Each contender is a process of its own, timed whole; the system counts its peak memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LAYERS, D, HIDDEN, KEYS = 16, 2048, 8192, 512
SHAPES = {
    "self_attn.q_proj": (D, D),
    "self_attn.k_proj": (KEYS, D),
    "self_attn.v_proj": (KEYS, D),
    "self_attn.o_proj": (D, D),
    "mlp.gate_proj": (HIDDEN, D),
    "mlp.up_proj": (HIDDEN, D),
    "mlp.down_proj": (D, HIDDEN),
}
"""Shapes of Llama-3.2-1B, without its embedding."""
PEERS = Path(__file__).parent / "audit_peers.py"


def measure(layers: int = LAYERS) -> dict[str, Any]:
    """Ours with and without nulls, then the peers, on one pair of files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base, tuned = folder / "base", folder / "tuned"
        size = _written(base, tuned, layers)
        environment = os.environ | {"LORAX_LAB_CACHE": str(folder / "cache")}
        audit = [sys.executable, "-m", "lorax_lab.audit", str(base), str(tuned)]

        def ours(name: str, *options: str) -> tuple[float, float]:
            return _timed([*audit, "--out", str(folder / name), *options], environment)

        whole, whole_peak = ours("whole")
        exact, _ = ours("exact", "--no-nulls")
        plain, plain_peak = _timed([sys.executable, str(PEERS), "plain", str(base), str(tuned)], environment)
        floor, _ = _timed([sys.executable, str(PEERS), "floor", str(base), str(tuned)], environment)
        is_installed = importlib.util.find_spec("weightwatcher") is not None
        command = [sys.executable, str(PEERS), "weightwatcher", str(base), str(tuned)]
        watcher, watcher_peak = _timed(command, environment) if is_installed else (float("nan"), float("nan"))
    return {
        "title": f"Audit of a pair with a 1-billion-parameter Llama's shapes ({layers} layers, bf16)",
        "rows": [
            _row("load both, subtract, svdvals / ours", plain / whole, "≥ 1.67"),
            _row("load both, subtract, svdvals / ours without nulls", plain / exact, ""),
            _row("ours with nulls / without", whole / exact, "≤ 1.5"),
            _row("one Gram matrix and its eigenvalues / ours without nulls", floor / exact, "≥ 0.7"),
            _row("WeightWatcher / ours", watcher / whole, "≥ 2"),
            _row("our peak memory, GB", whole_peak / 1e9, "< 1"),
            _row("peak memory: WeightWatcher / ours", watcher_peak / whole_peak, ""),
            _row("peak memory: the plain script / ours", plain_peak / whole_peak, ""),
        ],
        "seconds": {
            "with nulls": whole, "without": exact, "plain": plain, "floor": floor, "weightwatcher": watcher,
        },
        "bytes_of_both": size,
        "bytes_per_second": {"with nulls": size / whole, "without": size / exact},
        "note": "Whole processes, one pass. ΔW is a planted rank-16 update of 5 % of ‖W‖, in noise of 0.1 % of its "
        "energy, rounded to bf16. WeightWatcher runs analyze() with base_model; it comes with "
        "`pip install -e '.[bench]'`. The plain script takes fp32 svdvals. Both need 10 GB of memory, 4 GB of disk and "
        "half an hour.",
    }  # fmt: skip


def _written(base: Path, tuned: Path, layers: int) -> int:
    """`write_pair` in a process of its own. Memory of this process would count in the peak of the processes that it
    starts."""
    call = [sys.executable, "-m", "benchmarks.audit", str(base), str(tuned), str(layers)]
    return int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def write_pair(base: Path, tuned: Path, layers: int) -> int:
    """Two bf16 checkpoints, differently sharded; returns the bytes of both."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    names = {f"model.layers.{layer}.{n}.weight": shape for layer in range(layers) for n, shape in SHAPES.items()}
    sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, shape in names.items():
        W = 0.02 * torch.randn(shape, generator=generator)
        sides[0][name], sides[1][name] = W.bfloat16(), (W.bfloat16().float() + _update(W, generator)).bfloat16()
    for folder, tensors, shards in ((base, sides[0], 2), (tuned, sides[1], 3)):
        folder.mkdir()
        where = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(tensors)}
        for file in sorted(set(where.values())):
            save_file({n: t for n, t in tensors.items() if where[n] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": True}))
    return sum(file.stat().st_size for folder in (base, tuned) for file in folder.glob("*.safetensors"))


def _update(W: Tensor, generator: torch.Generator, rank: int = 16, size: float = 0.05) -> Tensor:
    signal = torch.randn(W.shape[0], rank, generator=generator) @ torch.randn(rank, W.shape[1], generator=generator)
    noise = torch.randn(W.shape, generator=generator)
    update = signal / signal.norm() + 0.001**0.5 * noise / noise.norm()
    return update * (size * W.norm() / update.norm())


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(seconds, peak bytes) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{' '.join(command)} ended with status {status}"
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _row(what: str, ratio: float, aim: str) -> dict[str, Any]:
    return {"what": what, "ratio": ratio, "spread": "one pass", "aim": aim}


if __name__ == "__main__":
    print(write_pair(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))

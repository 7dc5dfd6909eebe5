"""A folder of runs that never ran: small real spectra, scores and memory that can be worked out by hand."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recorded import matrix, run_record

from analysis.__main__ import main
from analysis.groups import Group, load
from lorax_lab import spectra
from lorax_lab.record import record
from lorax_lab.record.folder import SPECTRA, save_arrays, save_history
from lorax_lab.record.result import Inputs, Memory, Parameters

MODULES = {"attention.self.query": 1.0, "attention.self.value": 2.0, "intermediate.dense": 3.0}
CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
MIB = 2**20
TRAIN = {"batch_size": 16, "epochs": 1, "max_steps": None, "device": "auto"}
TASK = {"name": "movie_reviews", "path": None, "metric": None}
"""What is not here is as in `conf/`."""


@dataclass(frozen=True)
class Store:
    """A runs folder to write records into. `size` is the width of its matrices, `layers` their depth."""

    folder: Path
    size: int = 16
    layers: int = 3
    modules: dict[str, float] = field(default_factory=lambda: MODULES)

    def run(
        self,
        rank: int | None = None,
        seed: int = 0,
        test: float = 0.8,
        validation: float | None = None,
        cuts: dict[int, float] | None = None,
        status: str = "completed",
        model: str = "minilm",
        train: dict[str, Any] | None = None,
        alpha: float = 16.0,
        targets: tuple[str, ...] = ("all-linear",),
        memory: tuple[int, ...] = (10, 1, 2, 5, 0),
        metric: str = "accuracy",
        baselines: dict[str, float] | None = None,
        method: str = "",
        collapsed: list[str] | None = None,
    ) -> Path:
        """Write one record and return its folder; without a rank it is a full fine-tune with the scores `cuts`, and the
        update of a method that is named has full rank."""
        full_rank, method = bool(method), method or ("lora" if rank else "full")
        settings = {"name": method, "target_modules": list(targets), "alpha": alpha if rank else None}
        config = {"model": model, "measure": "k90", "task": TASK, "method": settings}
        config |= {"train": TRAIN | (train or {})}
        words = [model, config["task"]["name"], method, *([f"r{rank}"] if rank else []), f"s{seed}"]
        digest = f"{zlib.crc32(json.dumps([config, rank, seed], sort_keys=True).encode()):x}"
        run_id = f"{'-'.join(words)}-{digest}".replace("/", "_")
        folder = self.folder / run_id
        validation = test if validation is None else validation
        parts: dict[str, Any] = {"status": status, "config": config, "method": method}
        parts |= {"rank": rank, "seed": seed}
        if status == "completed":
            matrices, saved = self.spectra(None if full_rank else rank, seed)
            save_arrays(folder / SPECTRA, saved)
            body = 2 * (rank or 100) * 1000
            by_category = {c: n * MIB for c, n in zip(CATEGORIES, memory, strict=True)}
            parts |= {
                "inputs": Inputs(f"hash of {Path(model).name}", "d", {"validation": 400, "test": 1000}, ["no", "yes"]),
                "parameters": Parameters(body + 500, body, 500, 10**6),
                "memory": Memory(sum(memory) * MIB, by_category, "backward", [16, 64], 7, "run", None),
                "metric": metric,
                "higher_is_better": metric != "nats",
                "metrics": {f"test/{metric}": test, f"validation/{metric}": validation},
                "matrices": matrices,
                "baselines": baselines or {},
                "collapsed": collapsed or [],
                "truncation": None if rank else self.functional(metric, cuts or {0: 0.5, 1: 0.7, 2: 0.8, 16: 0.8}),
            }
        record.write_record(folder, run_record(run_id, **parts))
        if status == "completed":
            save_history(folder, [{"step": step, "train/loss": 1 / step} for step in (1, 2, 3)])
        return folder

    def functional(self, metric: str, cuts: dict[int, float]) -> list[dict[str, Any]]:
        """The cut scores as given, and a remainder that is their mirror."""
        cut = [{"k": k, "part": "cut", metric: score} for k, score in cuts.items()]
        mirrored = zip(cuts, reversed(cuts.values()), strict=True)
        return cut + [{"k": k, "part": "remainder", metric: score} for k, score in mirrored]

    def spectra(self, rank: int | None, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Rows and singular values of each matrix: a planted direction in noise; for LoRA, that cut at its rank."""
        draw, matrices, saved = torch.Generator().manual_seed(seed), {}, {}
        for layer in range(self.layers):
            for module, scale in self.modules.items():
                shape = (2 * self.size if module == "intermediate.dense" else self.size, self.size)
                name = f"bert.encoder.layer.{layer}.{module}"
                update = torch.full(shape, scale, dtype=torch.float64) / shape[0]
                update += 0.1 * scale / shape[0] * torch.randn(shape, generator=draw, dtype=torch.float64)
                sigma = spectra.singular_values(update)[:rank]
                saved[name] = {"sigma": sigma.numpy(), "U": np.zeros((1, 1)), "Vh": np.zeros((1, 1))}
                matrices[name] = matrix(module, layer, rank, shape=shape)
        return matrices, saved


def group_of(store: Store) -> Group:
    (group,) = load(store.folder).groups
    return group


def drawn(store: Store, *words: str) -> int:
    return main([*words, "--runs", str(store.folder), "--out", str(store.folder / "out")])

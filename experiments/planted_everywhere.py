"""`python -m experiments.planted_everywhere`: does k* find a rank that is planted in every matrix at once?

Nothing is trained. Each matrix of the base gets an update of known rank, alone or in iid noise. The labels are what a
fixed head reads off the model with the updates alone. Then all updates are cut to k directions at once, as the
functional rank cuts them, and the answers are held beside the labels. `experiments.planted_ranks` trains, and plants in
one matrix. Other updates of lower rank may give these labels too, so r* has no truth here and is not asked.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.planted import headlines
from experiments.study import RECORDS
from experiments.teacher import CLEAR, Coordinates, batches, bert
from lorax_lab import spectra
from lorax_lab.console import bar
from lorax_lab.errors import answer
from lorax_lab.measure.truncation import Decomposition, cuts_at, seen_under
from lorax_lab.record.files import write_csv
from lorax_lab.record.redact import guard
from lorax_lab.streams import generator

NAME = "planted_everywhere"
MODEL = "minilm"
TEXTS = 400
CLASSES = 16
RANKS = (1, 2, 4, 8, 16, 32, 64, 384)
CUT = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384)
NORM = 0.3
"""Of an update, as a share of its matrix's: ten times what a task's training makes. Random directions do little."""
WEAKEST = 0.5
"""The smallest singular value, relative to the largest; the others lie evenly between."""
RATIOS = (math.inf, 3.0)
"""‖signal‖ over ‖noise‖."""
DRAWS = 3
"""Updates of each rank."""
MEASURES = {
    "effective rank": spectra.effective_rank,
    "stable rank": spectra.stable_rank,
    "participation ratio": spectra.participation_ratio,
    "90 % of the energy": lambda sigma: spectra.energy_rank(sigma, 0.9),
}


def main(arguments: list[str] | None = None) -> int:
    """Plant, cut and write. Returns the exit code: 0 written, 2 a wrong input, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m experiments.planted_everywhere", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the table goes (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records), "; nothing is written")


def _write(folder: Path) -> int:
    """In about 20 minutes."""
    base = bert(MODEL, CLASSES)
    model, inputs = base.model.eval(), [batch for _, batch in batches(base, headlines(TEXTS))]
    cells = [(draw, rank) for draw in range(DRAWS) for rank in RANKS]
    rows: list[dict[str, Any]] = []
    with bar("planting") as on_done:
        for done, (draw, rank) in enumerate(cells, 1):
            rows += planted(model, inputs, rank, draw)
            on_done(done, len(cells))
    path = folder / f"{NAME}.csv"
    write_csv(path, pd.DataFrame(rows))
    print(path)
    return 0


def planted(model: Any, inputs: list[dict[str, Tensor]], rank: int, draw: int) -> Iterator[dict[str, Any]]:
    """Rows of one planted rank and draw: the share of right answers at each k of `CUT`; each number of the spectrum,
    the mean over the matrices (its k is empty). The model's weights are put back."""
    layers = {name: module for name, module in model.named_modules() if ".layer." in name}
    weights = {name: module.weight for name, module in layers.items() if isinstance(module, nn.Linear)}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    stream = generator(draw, f"{NAME}/{rank}")
    signals = {name: signal(weight, rank, stream) for name, weight in before.items()}
    noises = {name: gaussian(stream, *weight.shape) for name, weight in before.items()}
    reading = torch.linalg.qr(gaussian(stream, model.config.hidden_size, CLASSES)).Q
    _put(weights, before, signals)
    states = seen(model, inputs)
    coordinates = Coordinates.fitted(states, reading)
    largest, places = coordinates.read(states).topk(2, 1)
    labels, clear = places[:, 0], largest[:, 0] - largest[:, 1] > CLEAR
    assert clear.any(), "no text has a class that is clearly first"
    for ratio in RATIOS:
        updates = {name: signals[name] + _scaled(noises[name], signals[name].norm() / ratio) for name in before}
        svd = {name: Decomposition(*torch.linalg.svd(update, full_matrices=False)) for name, update in updates.items()}
        place = {"ratio": ratio, "rank": rank, "draw": draw}
        for name, measure in MEASURES.items():
            value = sum(float(measure(parts.sigma)) for parts in svd.values()) / len(svd)
            yield place | {"quantity": name, "k": None, "value": value}
        _put(weights, before, updates)
        of_cuts = seen_under(model, before, cuts_at(svd, CUT), seen(model, inputs), lambda m: seen(m, inputs))
        for k, cut in zip(CUT, of_cuts, strict=True):
            right = (coordinates.read(cut).argmax(1) == labels)[clear].double().mean()
            yield place | {"quantity": "right", "k": k, "value": float(right)}
    _put(weights, before, {})


@torch.no_grad()
def _put(weights: dict[str, Tensor], before: dict[str, Tensor], updates: dict[str, Tensor]) -> None:
    """Give each matrix its old weight plus its update, where it has one."""
    for name, weight in weights.items():
        weight.copy_(before[name].double() + updates[name] if name in updates else before[name])


def signal(weight: Tensor, rank: int, stream: torch.Generator) -> Tensor:
    """An update (out, in) of this rank and of `NORM` times the weight's norm, fp64; its directions are drawn."""
    U, V = (torch.linalg.qr(gaussian(stream, side, rank)).Q for side in weight.shape)
    return _scaled(U * torch.linspace(1, WEAKEST, rank, dtype=torch.float64) @ V.T, NORM * weight.double().norm())


def gaussian(stream: torch.Generator, *size: int) -> Tensor:
    """Standard normal, fp64."""
    return torch.randn(size, generator=stream, dtype=torch.float64)


def _scaled(matrix: Tensor, norm: Tensor | float) -> Tensor:
    return matrix * (norm / matrix.norm())


@torch.inference_mode()
def seen(model: nn.Module, inputs: list[dict[str, Tensor]]) -> Tensor:
    """Each text's mean over the tokens of the last layer (n, out), fp64."""
    body: Any = model.base_model
    means = []
    for batch in inputs:
        mask = batch["attention_mask"][:, :, None]
        means.append((body(**batch).last_hidden_state * mask).sum(1) / mask.sum(1))
    return torch.cat(means).double()


if __name__ == "__main__":
    guard()
    raise SystemExit(main())

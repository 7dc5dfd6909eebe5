"""The steps of a card: open, measure, score, write, extract."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lorax_lab.audit import extract, report
from lorax_lab.audit.checkpoints import Checkpoint, open_checkpoint, plain_name
from lorax_lab.audit.device import device_of
from lorax_lab.audit.measure import measure_all
from lorax_lab.audit.store import Measured, open_store
from lorax_lab.audit.updates import Updates, is_any_adapter, open_updates
from lorax_lab.card import pages
from lorax_lab.card.facts import Facts, facts_of
from lorax_lab.card.picture import png
from lorax_lab.card.scores import Scores, score, task_config
from lorax_lab.card.tuned import Tuned, put_together
from lorax_lab.card.words import headlines
from lorax_lab.console import WorkBar, bar, console
from lorax_lab.errors import ConfigError
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.methods import peft_format
from lorax_lab.methods.peft_files import SETTINGS, read_settings
from lorax_lab.models import head_modules, load_base, preset_named, use_kernel
from lorax_lab.record.files import write_bytes, write_csv, write_json, write_text
from lorax_lab.tasks import load_task

if TYPE_CHECKING:
    from lorax_lab.config import RunConfig
    from lorax_lab.tasks import Task
    from lorax_lab.tasks.split import Split

WITH_BASE = "python -m lorax_lab.card ADAPTER --base BASE"
ROUNDING = 1e-3
"""By this share of its size, or by what one example counts, the score of a loaded adapter may differ from that of the
cut: its factors are fp32 and multiply the activations one after the other, where the cut is added to the weights, so
the last digits of an output differ and an answer on the border may turn."""


@dataclass(frozen=True)
class Request:
    """The command line of a card; `lorax_lab/card/__main__.py` says what each word means."""

    tuned: str
    base: str | None
    task: list[str] | None
    margin: float
    extract: str | None
    alpha: float | None
    out: Path | None
    device: str | None


@dataclass(frozen=True, eq=False)
class Scored:
    """A scored model, and what is needed to make another one of the same base."""

    scores: Scores
    tuned: Tuned
    config: RunConfig
    task: Task


def make(request: Request) -> int:
    """Make the card that was asked for. Returns the exit code.

    Raises:
        ConfigError: a name, a base, a task or a file that does not fit.
    """
    device = device_of(request.device)
    asked = extract.parse_extraction(request.extract) if request.extract else None
    adapter = is_any_adapter(request.tuned)
    config = _config(request, adapter)
    base = _base(request, adapter, config)
    one, other = (base, request.tuned) if base else (request.tuned, None)
    updates = open_updates(one, other, request.alpha, WITH_BASE)
    if request.extract is not None:
        extract.check(updates)
    task = load_task(config.task) if config else None
    folder = open_store(request.out or Path("cards") / updates.slug, _identity(request, base, updates))
    report.introduce(updates, folder, pages.FACTS)
    with WorkBar(sum(matrix.cost for matrix in updates.matrices)) as work:
        measured, failures = measure_all(updates, folder, device, top=None, directions=False, bar=work)
    if not measured:
        raise ConfigError(f"{request.tuned}: no matrix could be measured: {'; '.join(failures[:3])}")
    scored = _score(request, updates, config, task, device) if config and task else None
    facts = facts_of(updates, measured, failures, scored.scores if scored else None)
    write(facts, measured, folder)
    for failure in failures:
        console.print(f"not measured: {failure}", soft_wrap=True, markup=False, style="red")
    done = _extract(request, asked, updates, measured, scored, folder, device)
    return 0 if done and not failures else 1


def write(facts: Facts, measured: dict[str, Measured], folder: Path) -> None:
    """Write the pages, the picture and the numbers behind them; print the headlines."""
    import pandas as pd

    rows, picture = report.frame(list(measured.values())), png(facts)
    write_csv(folder / "audit.csv", rows)
    curves = [{"module": m["module"]} | point for m in facts["modules"] for point in m["curve"]]
    write_csv(folder / pages.CURVES, pd.DataFrame(curves, columns=["module", "k", "median", "low", "high", "null"]))
    write_json(folder / pages.FACTS, facts, indent=1)
    write_bytes(folder / pages.PICTURE, picture)
    write_text(folder / pages.MARKDOWN, pages.markdown(facts))
    write_text(folder / pages.HTML, pages.html(facts, png(facts, titled=False)))
    for line in headlines(facts):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"in {folder}: card.html, card.md, card.png, card.json, card.csv", soft_wrap=True, markup=False)


def _config(request: Request, adapter: bool) -> RunConfig | None:
    if request.task is None:
        return None
    path = Path(request.tuned).expanduser()
    base = request.base
    if base is None and request.task:
        base = _stated_base(path) if adapter else None
        if base is None and adapter:
            raise ConfigError(f"--task: {request.tuned} does not say what its base is; type --base BASE")
    if base is None and not adapter and request.task:
        raise _no_base(request.tuned)
    return task_config(request.task, path if path.is_dir() else path.parent, base)


def _base(request: Request, adapter: bool, config: RunConfig | None) -> str | None:
    """The base's name: what was typed, the run's own, or the one that the adapter states where a task needs it."""
    if request.base is None and config is None and not adapter:
        raise _no_base(request.tuned)
    return request.base or (config.model if config else None)


def _no_base(tuned: str) -> ConfigError:
    return ConfigError(
        f"{tuned} is no adapter: no PEFT folder ({SETTINGS}, adapter_model.safetensors), and no file with tensors "
        "named lora_A and lora_B, or lora_down and lora_up. A checkpoint is measured against the model that it was "
        "tuned from: type --base BASE"
    )


def _stated_base(path: Path) -> str | None:
    """The base that an adapter's settings state: a preset by its public name, else the name itself."""
    stated = read_settings(path).get("base_model_name_or_path") if (path / SETTINGS).is_file() else None
    return preset_named(str(stated)) if stated else None


def _identity(request: Request, base: str | None, updates: Updates) -> dict[str, Any]:
    """As an audit's, so that `python -m analysis audit` draws a card's folder too."""
    one, other = (base, request.tuned) if base else (request.tuned, None)
    return {"base": one, "tuned": other, "fingerprint": updates.fingerprint, "top": None, "alpha": request.alpha}


def _score(request: Request, updates: Updates, config: RunConfig, task: Task, device: torch.device) -> Scored:
    model, processor = _bare(config, task)
    tuned_checkpoint: Checkpoint | None = None if updates.adapter else open_checkpoint(request.tuned)
    tuned = put_together(model, updates, tuned_checkpoint)
    tuned.model.to(device)
    with bar("scoring cuts") as on_score:
        scores = score(tuned, task, processor, request.margin, on_score)
    return Scored(scores, tuned, config, task)


def _bare(config: RunConfig, task: Task) -> tuple[nn.Module, Any]:
    kind = task.kind
    base = load_base(config.model, task.head, config.seed, kind.model_class, kind.processor_class)
    use_kernel(base.model, kernel_of(config.train))
    return base.model, base.processor


def _extract(
    request: Request,
    asked: extract.Extraction | None,
    updates: Updates,
    measured: dict[str, Measured],
    scored: Scored | None,
    folder: Path,
    device: torch.device,
) -> bool:
    """Write the cut adapter where that was asked for; returns whether nothing that was asked for is missing."""
    if request.extract is None:
        return True
    if asked is None:
        assert scored is not None, "a rank is chosen by a task"
        k, full = scored.scores.chosen, scored.scores.full
        if k in (0, full):
            why = "the update itself is not needed" if k == 0 else "no smaller rank is surely within the margin"
            console.print(f"nothing extracted: {why}; to write a rank of yours type --extract rank=1", markup=False)
            return False
        asked = extract.Extraction(rank=k)
    name = request.extract or f"rank={asked.rank}"
    target = folder / f"adapter-{re.sub(r'[^a-z0-9=.]', '', name)}"
    of_model: dict[str, Any] = {}
    if scored:
        places = {plain_name(f"{name}.weight"): name for name in scored.tuned.decompositions}
        names = {m.name: places[plain_name(m.name)] for m in updates.matrices if plain_name(m.name) in places}
        of_model = {"head": scored.tuned.head, "heads": head_modules(scored.tuned.model), "names": names}
    with bar("extracting") as on_done:
        written = extract.write_adapter(target, updates, measured, asked, device, on_done, **of_model)
    report.extracted(written, target)
    return _check(target, scored, asked.rank, device) if scored else True


def _check(target: Path, scored: Scored, rank: int | None, device: torch.device) -> bool:
    """Load what was written onto a fresh base, as anybody would, and say how it scores; returns whether it loads and
    scores as the cut to `rank` did. Where an energy was asked for, each matrix has a rank of its own, and no cut was
    scored that it could be held against."""
    from lorax_lab.tasks.split import Split

    model, processor = _bare(scored.config, scored.task)
    try:
        peft_format.load(model, target)
    except ConfigError as error:
        _fault(f"error: {target} was written and does not load: {error}")
        return False
    split, metric = Split.of(scored.task, scored.task.test, processor), scored.scores.metric
    value, whole = split.score(model.to(device).eval())[metric], scored.scores.whole["test"]
    console.print(f"loaded again, its {metric} on test is {value:.3f}, the whole one's {whole:.3f}", markup=False)
    if rank is None:
        return True
    expected = _of_cut(scored, rank, split)
    allowed = max(1 / len(split.rows), ROUNDING * abs(expected))
    if abs(value - expected) <= allowed:
        return True
    _fault(
        f"error: {target} does not score as the cut that was measured: its {metric} on test is {value:.4f}, the cut's "
        f"{expected:.4f}, more than {allowed:.2g} apart. It holds matrices and what PEFT saves beside them, so biases, "
        "norms and embeddings that were tuned too are not in it"
    )
    return False


def _of_cut(scored: Scored, rank: int, split: Split) -> float:
    """The score on test of the update cut to a rank."""
    scores = scored.scores
    if rank >= scores.full:
        return scores.whole["test"]
    if rank == scores.chosen:
        return scores.test[0]
    (at_rank,) = scored.tuned.under([rank], scores.whole["test"], lambda cut: split.score(cut)[scores.metric])
    return at_rank


def _fault(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, style="red")

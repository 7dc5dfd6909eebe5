"""A rank card: one page about any adapter or fine-tune on disk. Open, measure, score, write, extract, load again."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lorax_lab.audit import extract, findings
from lorax_lab.audit.checkpoint import open_checkpoint
from lorax_lab.audit.cuts import Scores, Tuned, put_together, score, task_config
from lorax_lab.audit.facts import LISTED, Facts, facts_of
from lorax_lab.audit.findings import render, say
from lorax_lab.audit.measure import device_of, measure_all
from lorax_lab.audit.picture import png
from lorax_lab.audit.store import Measured, open_store
from lorax_lab.audit.updates import Updates, is_adapter, open_updates
from lorax_lab.console import WorkBar, bar
from lorax_lab.errors import ConfigError
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import SETTINGS, read_settings
from lorax_lab.methods.names import plain_name
from lorax_lab.models import head_modules, load_base, preset_named, use_kernel
from lorax_lab.record.files import write_bytes, write_csv, write_json, write_text
from lorax_lab.tasks import load_task

if TYPE_CHECKING:
    from lorax_lab.config import RunConfig
    from lorax_lab.tasks import Task

WITH_BASE = "python -m lorax_lab.audit card ADAPTER --base BASE"
ALT = "Share of the update's energy by rank and module type, its size by layer"
SCORED = ", and its score when cut"
ROUNDING = 1e-3
"""By this share of its size, or by what one example counts, the score of a loaded adapter may differ from that of the
cut: its factors are fp32 and multiply the activations one after the other, where the cut is added to the weights, so
the last digits of an output differ and an answer on the border may turn."""


@dataclass(frozen=True)
class Request:
    """The command line of a card; `lorax_lab/audit/__main__.py` says what each word means."""

    tuned: str
    base: str | None
    task: list[str] | None
    margin: float
    extract: str | None
    alpha: float | None
    out: Path | None
    device: str | None


@dataclass(frozen=True)
class Part:
    """A part of a page: a heading, sentences, and a table with its head first; either may be empty."""

    heading: str
    sentences: list[str]
    table: list[list[str]]


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
    config, base = _task_and_base(request)
    first, second = (base, request.tuned) if base else (request.tuned, None)
    updates = open_updates(first, second, request.alpha, WITH_BASE)
    if request.extract is not None:
        extract.check(updates)
    task = load_task(config.task) if config else None
    identity = {"base": first, "tuned": second, "fingerprint": updates.fingerprint, "top": None}
    folder = open_store(request.out or Path("cards") / updates.slug, identity | {"alpha": request.alpha})
    findings.introduce(updates, folder, "card.json")
    with WorkBar(sum(matrix.cost for matrix in updates.matrices)) as work:
        measured, failures = measure_all(updates, folder, device, top=None, directions=False, bar=work)
    if not measured:
        raise ConfigError(f"{request.tuned}: no matrix could be measured: {'; '.join(failures[:3])}")
    scored = _score(request, updates, config, task, device) if config and task else None
    write(facts_of(updates, measured, failures, scored.scores if scored else None), measured, folder)
    for failure in failures:
        say(f"not measured: {failure}", style="red")
    is_whole = request.extract is None or _extract(request.extract, updates, measured, scored, folder, device)
    return 0 if is_whole and not failures else 1


def write(facts: Facts, measured: dict[str, Measured], folder: Path) -> None:
    """Write the pages, the picture and the numbers behind them; print the headlines."""
    import pandas as pd

    lines, parts = parts_of(facts)
    page = {"title": facts["title"], "lines": lines, "parts": parts, "alt": ALT + SCORED * bool(facts["scores"])}
    picture = png(facts, [facts["title"], *lines])
    embedded = base64.b64encode(png(facts, [])).decode()
    curves = [{"module": m["module"]} | point for m in facts["modules"] for point in m["curve"]]
    write_csv(folder / "audit.csv", findings.frame(list(measured.values())))
    write_csv(folder / "card.csv", pd.DataFrame(curves, columns=["module", "k", "median", "low", "high", "null"]))
    write_json(folder / "card.json", facts, indent=1)
    write_bytes(folder / "card.png", picture)
    write_text(folder / "card.md", render("card.md.j2", page))
    write_text(folder / "card.html", render("card.html.j2", page | {"png": embedded}))
    for line in lines:
        say(line)
    say(f"in {folder}: card.html, card.md, card.png, card.json, card.csv")


def parts_of(facts: Facts) -> tuple[list[str], list[Part]]:
    """The headlines, and the parts below them, of `card.txt.j2`."""
    first, *rest = re.split(r"^## ", render("card.txt.j2", {"facts": facts, "listed": LISTED}), flags=re.MULTILINE)
    return _part(f"\n{first}").sentences, [_part(text) for text in rest]


def _part(text: str) -> Part:
    heading, _, body = text.partition("\n")
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", body) if paragraph.strip()]
    rows = [line.split("¦") for paragraph in paragraphs if "¦" in paragraph for line in paragraph.strip().split("\n")]
    sentences = [" ".join(paragraph.split()) for paragraph in paragraphs if "¦" not in paragraph]
    return Part(heading, sentences, [[cell.strip() for cell in row] for row in rows])


def _task_and_base(request: Request) -> tuple[RunConfig | None, str | None]:
    """The task's configuration, and the base's name: what was typed, the run's own, or the one that the adapter states
    where a task needs it."""
    path, is_checkpoint = Path(request.tuned).expanduser(), not is_adapter(request.tuned)
    if is_checkpoint and not request.base and request.task != []:
        raise ConfigError(
            f"{request.tuned} is no adapter: no PEFT folder ({SETTINGS}, adapter_model.safetensors), and no file with "
            "tensors named lora_A and lora_B, or lora_down and lora_up. A checkpoint is measured against the model "
            "that it was tuned from: type --base BASE"
        )
    if request.task is None:
        return None, request.base
    base = request.base or (_stated_base(path) if request.task else None)
    if request.task and not base:
        raise ConfigError(f"--task: {request.tuned} does not say what its base is; type --base BASE")
    config = task_config(request.task, path if path.is_dir() else path.parent, base)
    return config, request.base or config.model


def _stated_base(path: Path) -> str | None:
    """The base that an adapter's settings state: a preset by its public name, else the name itself."""
    stated = read_settings(path).get("base_model_name_or_path") if (path / SETTINGS).is_file() else None
    return preset_named(str(stated)) if stated else None


def _score(request: Request, updates: Updates, config: RunConfig, task: Task, device: torch.device) -> Scored:
    model, processor = _bare(config, task)
    tuned = put_together(model, updates, None if updates.adapter else open_checkpoint(request.tuned))
    tuned.model.to(device)
    with bar("scoring cuts") as on_score:
        scores = score(tuned, task, processor, request.margin, on_score)
    return Scored(scores, tuned, config, task)


def _bare(config: RunConfig, task: Task) -> tuple[nn.Module, Any]:
    base = load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    use_kernel(base.model, kernel_of(config.train))
    return base.model, base.processor


def _extract(
    text: str,
    updates: Updates,
    measured: dict[str, Measured],
    scored: Scored | None,
    folder: Path,
    device: torch.device,
) -> bool:
    """Write the cut adapter; returns whether it is there, loads, and scores as its cut did."""
    if text:
        asked = extract.parse_extraction(text)
    else:
        assert scored is not None, "a rank is chosen by a task"
        k, full = scored.scores.chosen, scored.scores.full
        if k in (0, full):
            why = "the update itself is not needed" if k == 0 else "no smaller rank is surely within the margin"
            say(f"nothing extracted: {why}; to write a rank of yours type --extract rank=1")
            return False
        asked = extract.Extraction(rank=k)
    target = folder / f"adapter-{re.sub(r'[^a-z0-9=.]', '', text or f'rank={asked.rank}')}"
    of_model: dict[str, Any] = {}
    if scored:
        places = {plain_name(f"{name}.weight"): name for name in scored.tuned.decompositions}
        names = {m.name: places[plain_name(m.name)] for m in updates.matrices if plain_name(m.name) in places}
        of_model = {"head": scored.tuned.head, "heads": head_modules(scored.tuned.model), "names": names}
    with bar("extracting") as on_done:
        ranks, left = extract.write_adapter(target, updates, measured, asked, device, on_done, **of_model)
    findings.extracted(ranks, left, target)
    return _scores_as_its_cut(target, scored, asked.rank, device) if scored else True


def _scores_as_its_cut(target: Path, scored: Scored, rank: int | None, device: torch.device) -> bool:
    """Load what was written onto a fresh base, as anybody would, and say how it scores. Where an energy was asked for,
    each matrix has a rank of its own, and no cut was scored that it could be held against."""
    from lorax_lab.tasks.split import Split

    model, processor = _bare(scored.config, scored.task)
    try:
        lora.load(model, target)
    except ConfigError as error:
        say(f"error: {target} was written and does not load: {error}", style="red")
        return False
    split, scores = Split.of(scored.task, scored.task.test, processor), scored.scores
    metric, whole = scores.metric, scores.whole["test"]
    value = split.score(model.to(device).eval())[metric]
    say(f"loaded again, its {metric} on test is {value:.3f}, the whole one's {whole:.3f}")
    if rank is None:
        return True
    expected = whole
    if rank < scores.full:
        (expected,) = scored.tuned.under([rank], whole, lambda cut: split.score(cut)[metric])
    allowed = max(1 / len(split.rows), ROUNDING * abs(expected))
    if abs(value - expected) <= allowed:
        return True
    say(
        f"error: {target} does not score as the cut that was measured: its {metric} on test is {value:.4f}, the cut's "
        f"{expected:.4f}, more than {allowed:.2g} apart. It holds matrices and what PEFT saves beside them, so biases, "
        "norms and embeddings that were tuned too are not in it",
        style="red",
    )
    return False

"""A rank card: one page about any adapter or fine-tune on disk. Open, measure, score, write, extract, load again."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lorax_lab.audit import extract, findings
from lorax_lab.audit.checkpoint import open_checkpoint
from lorax_lab.audit.cuts import Tuned, put_together, score, task_config
from lorax_lab.audit.facts import Facts, facts_of
from lorax_lab.audit.measure import fastest_device, measure_all, open_store
from lorax_lab.audit.picture import png
from lorax_lab.audit.updates import is_adapter, open_updates
from lorax_lab.config import RunConfig
from lorax_lab.console import bar, say
from lorax_lab.errors import ConfigError
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import SETTINGS, read_settings
from lorax_lab.models import load_base, preset_named, use_kernel
from lorax_lab.record.files import write_bytes, write_csv, write_json, write_text
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.split import Split

LISTED = 12
"""Names of matrices and notes that the page lists; `card.json` has all."""
ROUNDING = 1e-3
"""By this share, or by what one example counts, the score of a loaded adapter may differ from that of the cut: its
factors multiply the activations one after the other, so an answer on the border may turn."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A scored model, and what is needed to make another one of the same base."""

    scores: Facts
    tuned: Tuned
    config: RunConfig
    task: Task


def make(tuned: str, options: Namespace) -> int:
    """Make the card of one adapter or checkpoint, with the command line's options. Returns the exit code.

    Raises:
        ConfigError: a name, a base, a task or a file that does not fit.
    """
    device = fastest_device()
    config, base = _task_and_base(tuned, options)
    first, second = (base, tuned) if base else (tuned, None)
    typed_rank = extract.parse_rank(options.extract) if options.extract else None
    updates = open_updates(first, second, options.alpha)
    if options.extract is not None:
        extract.check(updates)
    task = load_task(config.task) if config else None
    identity = {"base": first, "tuned": second, "fingerprint": updates.fingerprint}
    folder = open_store(options.out or Path("cards") / updates.slug, identity | {"alpha": options.alpha})
    measured, failures = measure_all(updates, folder, "card.json", device)
    if not measured:
        raise ConfigError(f"{tuned}: no matrix could be measured: {'; '.join(failures[:3])}")
    scored = None
    if config and task:
        model = _base_for(config, task)
        tuned_model = put_together(model.model, updates, None if updates.adapter else open_checkpoint(tuned))
        tuned_model.model.to(device)
        with bar("scoring cuts") as on_score:
            scores = score(tuned_model, task, model.processor, options.margin, on_score)
        scored = Scored(scores, tuned_model, config, task)
    rows = findings.frame(measured.values())
    write(facts_of(updates, findings.complete(rows), failures, scored.scores if scored else None), rows, folder)
    if options.extract is None:
        return 1 if failures else 0
    rank = typed_rank or _chosen_rank(scored)
    if not rank:
        return 1
    target = folder / f"adapter-rank={rank}"
    extract.write_adapter(target, updates, measured, rank, device, scored.tuned if scored else None)
    is_right = scored is None or _scores_as_its_cut(target, scored, rank, device)
    return 0 if is_right and not failures else 1


def write(facts: Facts, rows: pd.DataFrame, folder: Path) -> None:
    """Write the page, the picture and the numbers behind them; print the headlines."""
    lines = findings.sentences("headlines.txt.j2", {"facts": facts})
    write_csv(folder / "audit.csv", findings.as_written(rows))
    write_json(folder / "card.json", facts, indent=1)
    write_bytes(folder / "card.png", png(facts, [facts["title"], *lines]))
    write_text(folder / "card.md", page(facts, lines))
    for line in lines:
        say(line)
    say(f"in {folder}: card.md, card.png, card.json, audit.csv")
    say(advice(facts))


def page(facts: Facts, lines: list[str]) -> str:
    """The card in Markdown, under its headlines."""
    words = {"facts": facts, "lines": lines, "listed": LISTED, "advice": advice(facts)}
    return findings.render("card.md.j2", words)


def advice(facts: Facts) -> str:
    """Which rank to take, because of what, and what to type: the last line of a card."""
    (line,) = findings.sentences("advice.txt.j2", {"facts": facts})
    return line


def _task_and_base(tuned: str, options: Namespace) -> tuple[RunConfig | None, str | None]:
    """The task's configuration, and the base's name: what was typed, the run's own, or the one that the adapter states
    where a task needs it."""
    path, base = Path(tuned).expanduser(), options.base
    if not base and options.task != [] and not is_adapter(tuned):
        forms = "no PEFT folder, and no file with tensors named lora_A and lora_B, or lora_down and lora_up"
        raise ConfigError(f"{tuned} is no adapter: {forms}; type --base BASE to measure a checkpoint against its base")
    if options.task is None:
        return None, base
    if not base and options.task and (path / SETTINGS).is_file():
        stated = read_settings(path).get("base_model_name_or_path")
        base = preset_named(str(stated)) if stated else None
    if not base and options.task:
        raise ConfigError(f"--task: {tuned} does not say what its base is; type --base BASE")
    config = task_config(options.task, path if path.is_dir() else path.parent, base)
    return config, options.base or config.model


def _base_for(config: RunConfig, task: Task) -> Any:
    base = load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    use_kernel(base.model, kernel_of(config.train))
    return base


def _chosen_rank(scored: Scored | None) -> int | None:
    """The rank that the task chose; None where that leaves nothing to write."""
    assert scored is not None, "a rank is chosen by a task"
    k, full = scored.scores["chosen"], scored.scores["full"]
    if 0 < k < full:
        return int(k)
    why = "the update itself is not needed" if k == 0 else "no smaller rank is surely within the margin"
    say(f"nothing extracted: {why}; to write a rank of yours type --extract rank=1")
    return None


def _scores_as_its_cut(target: Path, scored: Scored, rank: int, device: torch.device) -> bool:
    """Load what was written onto a fresh base, as anybody would, and say how it scores."""
    base = _base_for(scored.config, scored.task)
    try:
        lora.load(base.model, target)
    except ConfigError as error:
        say(f"error: {target} was written and does not load: {error}", style="red")
        return False
    split = Split.encoded(scored.task, scored.task.test, base.processor)
    metric, expected = scored.scores["metric"], scored.scores["whole"]["test"]
    value = split.score(base.model.to(device).eval())[metric]
    say(f"loaded again, its {metric} on test is {value:.3f}, the whole one's {expected:.3f}")
    if rank < scored.tuned.full:
        (expected,) = scored.tuned.cut([rank], expected, lambda cut: split.score(cut)[metric])
    allowed = max(1 / len(split.rows), ROUNDING * abs(expected))
    if abs(value - expected) <= allowed:
        return True
    scores = f"its {metric} on test is {value:.4f}, the cut's {expected:.4f}, more than {allowed:.2g} apart"
    not_in_the_cut = "biases, norms and embeddings that were tuned too are not in it"
    say(f"error: {target} does not score as the cut that was measured: {scores}; {not_in_the_cut}", style="red")
    return False

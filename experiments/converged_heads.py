"""`python -m experiments.converged_heads`: the head alone on the frozen base, trained to convergence. It is the 0 of
every share of what fine-tuning brings.

A linear head is fitted to what the model's own head reads of each training example: the mean of the last layer, or its
first token where the head has a pooler. Classes are told by logistic regression, numbers by ridge regression, and
the validation split chooses how strongly the weights are held small. No seed has a part in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.study import RECORDS, composed, plan_of, studies
from lorax_lab.config import RunConfig
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError, answer
from lorax_lab.models import head_modules, load_base
from lorax_lab.record.redact import guard
from lorax_lab.study.answers import answers_of
from lorax_lab.study.declaration import read_declaration
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import HEADS, Line, read_lines
from lorax_lab.study.tables import Row, write_sums, write_table
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.split import Split, encode

BASE = "minilm"
"""The studies of other bases have tasks that the frozen base was made for, or language models."""
STRENGTHS = tuple(10.0**power for power in range(-4, 5))
"""Inverse weights of the penalty, from strong to none."""


def main(arguments: list[str] | None = None) -> int:
    """Fit and write. Returns the exit code: 0 done, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(prog="python -m experiments.converged_heads", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the studies are, and the table goes")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records), "; nothing is written")


def _write(records: Path) -> int:
    cells = conditions(records)
    rows: list[Row] = []
    of_task: dict[str, Row] = {}  # studies share tasks
    with bar("fitting heads") as on_done:
        for done, (study, cell, line) in enumerate(cells, 1):
            plan = plan_of(study)
            plan.prepare()
            config = composed(tuple(plan.overrides(cell)))
            if (key := repr(config.task)) not in of_task:
                of_task[key] = fitted(config, line)
            rows.append({"study": study, "condition": cell.condition} | of_task[key])
            on_done(done, len(cells))
    write_table(records / HEADS, rows)
    write_sums(records)
    print(records / HEADS)
    return 0


def conditions(records: Path) -> list[tuple[str, Cell, Line]]:
    """Of every study each condition on the base with a final run of full fine-tuning, unless its task is memorised:
    (study, the run's place, the run)."""
    found = []
    for study in (name for name in studies() if (records / name).is_dir()):
        declared = read_declaration(records / study)
        runs: dict[str, tuple[str, Cell, Line]] = {}
        for line in read_lines(records / study):
            cell, config = declared.cell_of(line), line["config"]
            is_full = cell is not None and cell.stage == "final" and cell.arm == declared.protocol.reference
            if cell and is_full and config["model"] == BASE and not config["task"].get("memorise"):
                runs.setdefault(cell.condition, (study, cell, line))
        found += [runs[name] for name in declared.conditions if name in runs]
    return found


def fitted(config: RunConfig, line: Line) -> Row:
    """The head of a published run's task: its penalty, its scores, and its answers to the test split (`study.answers`).

    Raises:
        ConfigError: the task has other data here than the run had.
    """
    task = load_task(config.task)
    if task.data_sha256 != line["inputs"]["data_sha256"]:
        raise ConfigError(f"task={config.task.name}: its data are other here than those of {line['run_id']}")
    base = load_base(config.model, task.head, 0, task.kind.model_class, task.kind.processor_class)
    splits = encode(task, base.processor, base.sha256)
    read = {name: what_the_head_reads(base.model, split) for name, split in splits.items()}
    candidates = [_outputs(task, read, splits["train"].labels, strength) for strength in STRENGTHS]
    scores = [task.score(outputs["validation"], splits["validation"].labels)[task.metric] for outputs in candidates]
    best = int(np.argmax(scores)) if task.higher_is_better else int(np.argmin(scores))
    test = splits["test"].answered(candidates[best]["test"])
    score = task.score(candidates[best]["test"], splits["test"].labels)[task.metric]
    row: Row = {"metric": task.metric, "strength": STRENGTHS[best], "validation": scores[best], "test": score}
    return row | answers_of(test, {})


def what_the_head_reads(model: Any, split: Split) -> np.ndarray:
    """The features (n, width) of each example of a split, in the model's evaluation."""
    features: list[torch.Tensor] = []
    head = model.get_submodule(head_modules(model)[0])

    def keep(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        states = inputs[0]
        features.append((states[:, 0] if states.ndim == 3 else states).clone())

    with head.register_forward_pre_hook(keep):
        sizes = split.sizes
        split.outputs(model.eval())
    order = torch.tensor(sorted(range(len(sizes)), key=sizes.__getitem__))
    read = torch.cat(features)
    return torch.empty_like(read).index_copy_(0, order, read).numpy()


def _outputs(task: Task, read: dict[str, np.ndarray], labels: np.ndarray, strength: float) -> dict[str, np.ndarray]:
    """What the fitted head says to each example of every split, (n, width)."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task.classes:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000))
        model.fit(read["train"], labels)
        logits = {name: model.decision_function(features) for name, features in read.items()}
        return {name: np.stack([-x / 2, x / 2], 1) if x.ndim == 1 else x for name, x in logits.items()}
    model = make_pipeline(StandardScaler(), Ridge(alpha=1 / strength))
    model.fit(read["train"], labels)
    return {name: model.predict(features)[:, None] for name, features in read.items()}


if __name__ == "__main__":
    raise SystemExit(main())

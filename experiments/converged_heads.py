"""`python -m experiments.converged_heads`: the head alone on the frozen base, trained to convergence. It is the 0 of
every share of what fine-tuning brings.
"""

import argparse
from pathlib import Path

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
from lorax_lab.study.tables import Row, write_table
from lorax_lab.tasks import load_task
from lorax_lab.tasks.frozen_head import fitted_head
from lorax_lab.tasks.split import encode

BASE = "minilm"
"""The studies of other bases have tasks that the frozen base was made for, or language models."""


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
    print(records / HEADS)
    return 0


def conditions(records: Path) -> list[tuple[str, Cell, Line]]:
    """Of every study each condition on the base with a final run of full fine-tuning, unless its task is memorised:
    (study, the run's place, the run)."""
    published = []
    for study in (name for name in studies() if (records / name).is_dir()):
        declared = read_declaration(records / study)
        runs: dict[str, tuple[str, Cell, Line]] = {}
        for line in read_lines(records / study):
            cell, config = declared.cell_of(line), line["config"]
            is_full = cell is not None and cell.stage == "final" and cell.arm == declared.protocol.reference
            if cell and is_full and config["model"] == BASE and not config["task"].get("memorise"):
                runs.setdefault(cell.condition, (study, cell, line))
        published += [runs[name] for name in declared.conditions if name in runs]
    return published


def fitted(config: RunConfig, line: Line) -> Row:
    """The head of a published run's task: its score on test, and its answers there (`study.answers`).

    Raises:
        ConfigError: the task has other data here than the run had.
    """
    task = load_task(config.task)
    if task.data_sha256 != line["inputs"]["data_sha256"]:
        raise ConfigError(f"task={config.task.name}: its data are other here than those of {line['run_id']}")
    base = load_base(config.model, task.head, 0, task.kind.model_class, task.kind.processor_class)
    splits = encode(task, base.processor, base.sha256)
    outputs = fitted_head(base.model, head_modules(base.model), splits)
    assert outputs is not None, "the base has a head that reads one vector"
    scores = {name: task.score(outputs[name], splits[name].labels)[task.metric] for name in outputs}
    return {"metric": task.metric} | scores | answers_of(splits["test"].answered(outputs["test"]), {})


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m experiments.language_search`: which problems teach a small language model within 200 steps?

Generators of reasoning-gym's with short prompts are tried, sums, and the facts and instructions of
`experiments.language_texts`. Each is trained on once, by LoRA of rank 8, and once more with its answers permuted over
the problems. Those of instructions are permuted among those of one kind. The second run is also scored on such answers,
so it learns the form of the answers alone. What the first one scores beyond it is what the problems teach. The runs are
ordinary ones; a name that is in the table is not trained on again.

RULE, before the runs: a task teaches where its own answers end .3 nats a token or more below the form, or where the
share of exact answers is .2 or more higher. A study takes those that teach most of each kind: a rule, arithmetic,
facts. One generator had been tried before, in 96 steps of 16: spell_backward ended at 3.79 nats, its form at 5.25.
Thinned before all but that one: there were 13 generators.

CHANGED, with the numbers of the others known. Word_sorting was given up when 17 of its 200 steps had taken a quarter of
an hour. Sums, which are the lab's own task, were added when no arithmetic of reasoning-gym's had ended above half
exact. A try of sums ended at .57 after 600 steps of 8.

COST: 2 runs of 200 steps for each, side by side: about four minutes on 2 cores for the shortest answers, and several
times that for long ones.
"""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.language_texts import TABLES
from experiments.study import RECORDS, Line, composed, trained_lines, with_workers
from lorax_lab.console import bar
from lorax_lab.data import built_in
from lorax_lab.data.assets import cache_folder
from lorax_lab.errors import answer
from lorax_lab.launch.plan import run_of
from lorax_lab.record.files import write_csv
from lorax_lab.record.redact import guard

FILE, FORM = "language_search.csv", "-form"
KINDS = {
    "spell_backward": "rule",
    "simple_equations": "arithmetic",
    "basic_arithmetic": "arithmetic",
    "gcd": "arithmetic",
    "family_relationships": "rule",
    "facts": "facts",
    "instructions": "instructions",
    "sums": "arithmetic",
}
"""What is tried: prompts have about 100 tokens at most, and each has one right answer."""
TASK = (
    *("task=local", "task.kind=language_modeling", "task.prompt=prompt", "task.label=answer", "task.group=group"),
    *("task.group_near_duplicates=false", "task.metric=exact_match", "task.max_length=192"),
    *("task.train_examples=1600", "task.validation_examples=32", "task.test_examples=128"),
)
"""Problems of the same words and numbers are one group. Near duplicates are not looked for: prompts share wordings."""
IN_CHAT = {"instructions": ("task.chat=true",)}
RUN = (
    *("model=smollm2", "method=lora", "rank=8", "train.learning_rate=1e-3", "train.epochs=1", "train.batch_size=8"),
    *("train.validations=1", "train.precision=bf16", "seed=0", "measure=curve", "reference=false"),
)


def main(arguments: list[str] | None = None) -> int:
    """Train and write. Returns the exit code: 0 written, 2 a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(prog="python -m experiments.language_search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (runs)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the table goes (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records, options.runs), "; the same command goes on with what is missing")


def _write(records: Path, runs: Path) -> int:
    table = records / FILE
    rows: list[Mapping[Any, Any]] = [*pd.read_csv(table).to_dict("records")] if table.is_file() else []
    missing = [name for name in KINDS if name not in {row["name"] for row in rows}]
    with bar("generators") as on_done:
        for done, name in enumerate(missing, 1):
            rows.append({"kind": KINDS[name], "name": name} | row(*_trained(name, runs)))
            write_csv(table, pd.DataFrame(rows))
            on_done(done, len(missing))
    print(pd.DataFrame(rows).to_string(index=False))
    print(table)
    return 0


def row(own: Line, form: Line) -> dict[str, Any]:
    """Scores on test, in nats a token of the answers and as the share that is exact: of the model untrained, also with
    four examples in the prompt, trained on the form alone, and trained."""
    return {
        "untrained": own["baselines"]["untrained/nats"],
        "few_shot": own["baselines"]["few_shot_4/nats"],
        "form": form["metrics"]["test/nats"],
        "trained": own["metrics"]["test/nats"],
        "exact_few_shot": own["baselines"]["few_shot_4/exact_match"],
        "exact_form": form["metrics"]["test/exact_match"],
        "exact": own["metrics"]["test/exact_match"],
        "hours": (own["time"]["total_seconds"] + form["time"]["total_seconds"]) / 3600,
    }


def _trained(name: str, runs: Path) -> list[Line]:
    """The runs on the generator's own answers and on those of other problems."""
    own, form = (_table(name, permuted) for permuted in (False, True))
    common = (*TASK, f"task.name={name}", *IN_CHAT.get(name, ()), *RUN)
    folders = [runs / run_of(composed((*common, f"task.path={table}"))).run_id for table in (own, form)]
    launch = with_workers(["tracking=disabled"], ())
    return trained_lines([*common, f"task.path={own},{form}"], folders, launch, "language_search")


def _table(name: str, permuted: bool) -> Path:
    """A table of problems with their answers, or with those of other problems."""
    path = cache_folder() / "language_search" / f"{name}{FORM * permuted}.csv"
    if not path.is_file():
        table = pd.DataFrame(TABLES[name]() if name in TABLES else problems(name))
        if permuted:  # instructions keep the form of their own kind
            kinds, draw = table.get("kind", pd.Series(0, table.index)), random.Random(0)
            table["answer"] = table.groupby(kinds)["answer"].transform(lambda all: draw.sample([*all], len(all)))
        write_csv(path, table if "group" in table else table.assign(group=table["prompt"]))
    return path


def problems(generator: str) -> list[dict[str, str | None]]:
    """Those of one of reasoning-gym's generators, or the lab's own sums."""
    made = built_in.problems() if generator == "sums" else built_in.generated(generator)
    return [{"prompt": p.inputs["prompt"], "answer": str(p.label), "group": p.group} for p in made]


if __name__ == "__main__":
    raise SystemExit(main())

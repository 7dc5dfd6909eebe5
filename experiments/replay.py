"""`python -m experiments.replay N`: train N published runs again, drawn at random, and say how they compare.

Bits differ between processors, so scores may differ by what a few test examples make; the share of equal answers says
more. A study that grows under another version of the code replays one recorded run of each arm first
(`check_versions`): there the machine is the study's own, and its scores have to be equal, or within rounding.
"""

import argparse
import math
import random
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study import RECORDS, Line, Plan, Progress, plan_of, studies, trained_lines, with_workers
from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.files import write_csv
from lorax_lab.record.provenance import code_sha256, hardware, versions
from lorax_lab.record.redact import guard
from lorax_lab.study.declaration import read_declaration
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import read_lines

OUTCOME = Path(__file__).parents[1] / "docs" / "replay.csv"
"""The last outcome, which `docs/studies.md` shows."""
ROUNDING = 1e-5
"""How far a number may lie from a published one of six digits, relative to it, and count as equal."""
CHECKED = "replayed"
"""The folder, in that of a study's runs, of the runs that are trained again before it grows."""
NOT_NUMERIC = ("lorax_lab", "threads", "processors", "kernel")
"""Parts of a run's versions and machine that the code's hash, or how it is launched, stands for."""


def main(arguments: list[str] | None = None) -> int:
    """Draw, train, compare. Returns the exit code: 0 done, 1 a run did not end, 2 a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(prog="python -m experiments.replay", description=__doc__)
    parser.add_argument("count", type=int, metavar="N", help="how many runs; most take a minute on one core")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--study", help="draw from this study alone, such as rank_sweep")
    parser.add_argument("--out", type=Path, default=OUTCOME, help="where the outcome goes (docs/replay.csv)")
    options = parser.parse_args(arguments)
    return answer(lambda: _replay(options), "; what ended before is written")


def _replay(options: argparse.Namespace) -> int:
    names = [options.study] if options.study else [name for name in studies() if (RECORDS / name).is_dir()]
    published = [run for name in names for run in _published(name)]
    if not 1 <= options.count <= len(published):
        raise ConfigError(f"N={options.count}: allowed are 1 to {len(published)}, the published runs; type 3")
    rows = []
    with tempfile.TemporaryDirectory(prefix="replay-") as scratch:
        for study, cell, line in random.Random(options.seed).sample(published, options.count):
            print(f"{study}: {cell.condition}, {cell.arm}, seed {cell.seed} ({line['run_id']})", flush=True)
            again = train_again(plan_of(study), cell, line, Path(scratch) / study, [])
            place = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "study": study, "condition": cell.condition}
            rows.append(place | {"arm": cell.arm} | compared(line, again))
            write_csv(options.out, pd.DataFrame(rows))
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"the outcome: {options.out}")
    return 0


def _published(study: str) -> list[tuple[str, Cell, Line]]:
    """The completed final runs of a study."""
    plan_of(study)  # or the message that there is none
    declared = read_declaration(RECORDS / study)
    cells = [(declared.cell_of(line), line) for line in read_lines(RECORDS / study) if line["status"] == "completed"]
    return [(study, cell, line) for cell, line in cells if cell and cell.stage == "final"]


def train_again(plan: Plan, cell: Cell, line: Line, runs: Path, launch: list[str]) -> Line:
    """A run trained anew, with as many threads as the published one had, unless `runs` has it already."""
    launch = with_workers([*launch, "tracking=disabled"], [line])
    (again,) = trained_lines(plan.overrides(cell), [runs / plan.run_id(cell)], launch, "replay")
    return again


def compared(line: Line, again: Line) -> dict[str, Any]:
    """A published run beside the same run trained again: its score on the last split that it reads, and on test the
    share of equal answers."""
    split = "validation" if line["config"]["measure"] == "trial" else "test"
    key = f"{split}/{line['metric']}"
    published, now = line["metrics"][key], again["metrics"][key]
    row = {"run": line["run_id"], "split": split, "metric": line["metric"], "published": published, "now": now}
    row |= {"difference": now - published, "same_inputs": line["run_id"] == again["run_id"]}
    if "correct" in line and "correct" in again and len(line["correct"]) == len(again["correct"]):
        row["equal_answers"] = float((line["correct"] == again["correct"]).mean())
    return row


def moved(line: Line, again: Line) -> list[str]:
    """The scores and losses of a run that are others than published, beyond rounding."""
    pairs = {key: (value, again["metrics"].get(key)) for key, value in line["metrics"].items()}
    changes = [
        f"{key} {was} became {now}"
        for key, (was, now) in pairs.items()
        if (was is None) != (now is None) or (was is not None and not math.isclose(was, now, rel_tol=ROUNDING))
    ]
    return changes + ([] if line["run_id"] == again["run_id"] else ["its data, model or settings are others"])


def to_check(progress: Progress, of_cell: dict[Cell, Line]) -> list[tuple[Cell, Line]]:
    """One recorded run of each arm, the shortest, of what grows, where new runs would be of another version of code,
    packages or processor, or would have other inputs. What is compared is an arm's trials on a task, and the final runs
    of all arms on it; so each may be of another machine than the rest. A study without a factor `task` grows as one."""

    def comparison(cell: Cell) -> tuple[str | None, ...]:
        task = progress.plan.levels[cell.condition].get("task")
        return (task, cell.stage, cell.arm) if cell.stage == "trial" else (task, cell.stage)

    growing, code = {comparison(cell) for cell in progress.missing}, code_sha256()
    here = versions(()) | {key: value for key, value in hardware().items() if key not in NOT_NUMERIC}

    def is_other(line: Line) -> bool:
        there = {**line["versions"], **line["hardware"]}
        return line["code"] != code or any(there.get(key, value) != value for key, value in here.items())

    groups: dict[object, list[tuple[Cell, Line]]] = {}
    for cell, line in of_cell.items():
        if comparison(cell) in growing and line["status"] == "completed":
            groups.setdefault((cell.arm, *comparison(cell)), []).append((cell, line))
    without_new = [runs for runs in groups.values() if all(is_other(line) for _, line in runs)]
    return [min(runs, key=lambda pair: pair[1]["time"]["total_seconds"]) for runs in without_new]


def check_versions(plan: Plan, cells: Iterable[tuple[Cell, Line]], runs: Path, launch: list[str]) -> None:
    """Train these runs again, and refuse to go on where their scores moved."""
    faults, folder = [], runs / CHECKED / code_sha256()[:10]
    for cell, line in cells:
        place = f"{cell.condition}, {cell.arm}, seed {cell.seed}"
        print(f"the code, a package or the processor is another one than of {place}: trained again first", flush=True)
        if changes := moved(line, train_again(plan, cell, line, folder, launch)):
            faults.append(f"{place}: {'; '.join(changes)} (of commit {str(line['git']['commit'])[:10]})")
    if faults:
        raise ConfigError(
            f"{'. '.join(faults)}. New runs could not be compared with these; check that commit out on that machine to "
            "go on, or start anew: --runs FOLDER --records FOLDER"
        )


if __name__ == "__main__":
    raise SystemExit(main())

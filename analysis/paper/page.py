"""`python -m analysis paper` writes `docs/paper.md`, a table with a row for each claim of the LoRA paper and what is
behind it; and `docs/limits.md`, the claims of others. All numbers come from the records."""

import argparse
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.errors import ConfigError
from lorax_lab.record.files import write_text
from lorax_lab.record.statistics import Interval

from .. import limits
from ..pages import render, rendered
from ..study import comparison
from ..study.command import DOCS, load_all
from ..study.figures.arms import mean_losses
from ..study.figures.directions import EVERY, LORA
from ..study.records import RECORDS, Records, has_collapsed, hours_of
from ..study.validator import breaches
from . import amplification, directions, readings
from .amplification import by_update, median
from .directions import FACTOR, FEW, MANY, SIDES, query_over_value, shared
from .readings import CONTROLS, FAILS, HOLDS, NOT_TOLD, OPPOSITE, Readings, all_of, between, is_task

OUT, LIMITS = DOCS.parent / "paper.md", DOCS.parent / "limits.md"
CLAIMS = Path(__file__).with_name("claims.toml")
SUBSPACES = "paper_subspaces"
SHARE = 0.5
"""Of what a task has: a control that surely has more leaves no sign of the task. `paper_subspaces` declared it."""
WHY = {HOLDS: "It surely is so.", FAILS: "It surely is not so.", NOT_TOLD: "The intervals leave it open."}
"""Where a claim has no sentence of its own for an outcome."""
Numbers = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Write both pages.

    Raises:
        ConfigError: there is nothing to read, or `fair` refuses a study.
    """
    parser = argparse.ArgumentParser(prog="python -m analysis paper", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=OUT, help="the page (docs/paper.md)")
    parser.add_argument("--limits", type=Path, default=LIMITS, help="the page of others' claims (docs/limits.md)")
    options = parser.parse_args(arguments)
    studies = load_all(options.records)
    figures = os.path.relpath(DOCS, options.out.absolute().parent)
    write_text(options.out, write(fair(studies), figures))
    write_text(options.limits, limits.write(studies))
    print(options.out, options.limits, sep="\n")
    return 0


@cache
def claims() -> list[Numbers]:
    """The paper's claims in its order, as `claims.toml` has them, each with its place."""
    content = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))
    return [content["without"] | claim | {"place": place} for place, claim in enumerate(content["claims"], 1)]


def studies_of_paper() -> list[str]:
    """The studies that ask again what the paper asked."""
    return list(dict.fromkeys(claim[key] for claim in claims() for key in ("study", "again") if claim[key]))


def fair(studies: Sequence[Records]) -> dict[str, Records]:
    """The studies of the paper by name, none of which lacks a run or breaks its protocol.

    Raises:
        ConfigError: one of them has no such records.
    """
    by_name = {study.name: study for study in studies if study.name in studies_of_paper()}
    faults = {}
    for name in studies_of_paper():
        if name not in by_name:
            faults[name] = "it has no published records"
        elif found := breaches(by_name[name]):
            faults[name] = "; ".join(found)
    if faults:
        raise ConfigError("; ".join(f"{name} cannot be shown: {why}" for name, why in faults.items()))
    return by_name


def write(studies: Mapping[str, Records], figures: str) -> str:
    """The whole page of the studies that are `fair`, with the folder of their figures as a link."""
    lines = [line for study in studies.values() for line in study.lines]
    runs = {"count": len({line["run_id"] for line in lines}), "hours": hours_of(lines)}
    rows = [_row(claim, studies) for claim in claims()]
    return render("paper.md", claims=rows, figures=figures, runs=runs, studies=studies, tables=_tables(studies))


def _tables(studies: Mapping[str, Records]) -> Numbers:
    """What stands below the claims."""
    subspaces = studies[SUBSPACES]
    cells = [cell for study in studies.values() for cell in study.declared.settings.values()]
    return {
        "arms": {name: {task: arms_of(study, task) for task in study.conditions} for name, study in studies.items()},
        "seeds": {len(study.protocol.final_seeds) for study in studies.values()},
        "alphas": {cell["method.alpha"] for cell in cells if "method.alpha" in cell},
        "reviews": [name for name, study in studies.items() if "movie_reviews" in study.conditions],
        "sides": list(sides_of_seeds(subspaces)),
        "ties": ties(subspaces),
    }


def read(claim: Numbers, records: Records, task: str, **given: bool) -> Readings:
    """What the runs of one task say of each part of a claim; `is_noise` asks noise in the place of their update."""
    modules = (readings, directions, amplification)
    reader = next(getattr(module, claim["read"]) for module in modules if hasattr(module, claim["read"]))
    parts: Readings = reader(records, task, **claim["with"], **given)
    return parts


def outcome_of(claim: Numbers, *by_task: Readings) -> str:
    """The outcome over all parts of a claim."""
    outcome = all_of(reading.outcome for parts in by_task for reading in parts.values())
    return OPPOSITE[outcome] if claim["is_negated"] else outcome


def _row(claim: Numbers, studies: Mapping[str, Records]) -> Numbers:
    """A claim with our number, its control, its outcome and why, and its readings by task for the table below it."""
    records, again = studies[claim["study"]], studies.get(claim["again"])
    tasks = [name for name in records.conditions if is_task(name) and name not in claim["but"]]
    by_task = {name: read(claim, records, name) for name in tasks if name in claim["only"] or not claim["only"]}
    outcome = outcome_of(claim, *by_task.values())
    repeated = {name: read(claim, again, name) for name in again.conditions} if again else {}
    noise = read(claim, records, tasks[0], is_noise=True) if claim["noise"] else {}
    texts = {key: claim[key] for key in ("number", "control", "rule", "changed")}
    texts |= {"why": claim["why"].get(outcome.replace(" ", "_"), WHY[outcome])}
    drawn = next((repeated[name] for name in CONTROLS if name in repeated), {})
    at_hand = _at_hand(claim, records, by_task, noise, drawn)
    by_row = {f"two types, {name}": parts for name, parts in by_task.items()}
    by_row |= {f"six types, {name}": parts for name, parts in repeated.items()} | {claim["noise"]: noise}
    outcomes = {name: outcome_of(claim, parts) for name, parts in repeated.items() if is_task(name)}
    texts = {key: rendered(text, **at_hand) for key, text in texts.items()}
    texts |= {"outcome": outcome, "control_meets_it": HOLDS in (at_hand["noise_outcome"], at_hand["drawn_outcome"])}
    return claim | texts | {"again": outcomes, "by_row": by_row}


def _at_hand(
    claim: Numbers, records: Records, by_task: Mapping[str, Readings], noise: Readings, drawn: Readings
) -> Numbers:
    """The numbers that a claim's sentences can use, beside those of its rule.

    Readings by part: `got` of the first task, `by_task` of each, `noise`, and `drawn` with random labels; `parts` has
    the parts by outcome. `gain(arm, rival, task)` is any difference in score, `factor(r)` the amplification factor, and
    `strict` has φ(1, 1) of two ranks. Of a claim about scores `least` is the smallest gain, `beaten` has the rivals
    that each arm is surely above, and `worse` the tasks with a sure loss.
    """
    task, got = next(iter(by_task.items()))
    numbers = claim["with"] | {"by_task": by_task, "got": got, "noise": noise, "drawn": drawn}
    numbers |= {"parts": _by_outcome(got), "drawn_parts": _by_outcome(drawn)}
    numbers |= {"noise_outcome": outcome_of(claim, noise), "drawn_outcome": outcome_of(claim, drawn)}
    numbers |= {"most": max(got, key=lambda part: got[part].value.mean)}
    numbers |= {"gain": lambda arm, rival, task=task: between(records, task, arm, rival)}
    numbers |= {"factor": lambda r, key="factor": median(by_update(records, task)[LORA, r], key)}
    strict = directions.query_and_value(records, task, directions.RANKS, directions.FACTOR, (1, 1))
    numbers |= {"strict": {name: phi.interval() for name, phi in strict.items()}}
    return numbers | (_of_scores(claim, records, by_task) if claim["read"] == "scores" else {})


def _by_outcome(parts: Readings) -> dict[str, list[str]]:
    return {key.replace(" ", "_"): [name for name in parts if parts[name].outcome == key] for key in OPPOSITE}


def _of_scores(claim: Numbers, records: Records, by_task: Mapping[str, Readings]) -> Numbers:
    task, got = next(iter(by_task.items()))
    arm, rival = min(got, key=lambda pair: got[pair].value.mean).split(" over ")
    least = {"rival": rival, "at_once": between(records, task, arm, rival, len(got))}
    sure: dict[bool, list[str]] = {True: [], False: []}
    for name in claim["with"]["than"]:
        outcomes = {reading.outcome for pair, reading in got.items() if pair.endswith(f" over {name}")}
        sure[outcomes == {HOLDS}].append(name.partition(" r=")[0])
    worse = [name for name, parts in by_task.items() if all(reading.value.high < 0 for reading in parts.values())]
    worse = [re.sub(r"\d+", lambda count: f"{int(count[0]):,}", name) for name in worse]
    return {"least": least, "beaten": sure[True], "unbeaten": sure[False], "worse": worse}


# ---- the numbers that stand below the claims, one function for each table


def arms_of(records: Records, task: str) -> dict[str, Numbers]:
    """`comparison.table` by arm, with the gain over full fine-tuning and the mean log loss."""
    losses, full = mean_losses(records, task), records.protocol.reference
    rows: dict[str, Numbers] = {}
    for arm in comparison.table(records, task).to_dict("records"):
        name = str(arm["arm"])
        more = {"over_full": between(records, task, name, full), "loss": losses.get(name)}
        rows[name] = {str(key): value for key, value in arm.items()} | more
    return rows


def sign_of_the_task(task: Interval, control: Interval) -> str:
    """Whether a control surely has less than half of what the task has, which then is a sign of the task, or more."""
    if control.low > SHARE * task.high:
        return FAILS
    return HOLDS if control.high < SHARE * task.low else NOT_TOLD


def sides_of_seeds(records: Records) -> Iterator[Numbers]:
    """What two seeds share beyond chance on a task and on its control, of A the top direction and else all 64; and how
    much more of the query's top 8 than of the value's."""
    for control, task in CONTROLS.items():
        for name, (pair, side) in SIDES.items():
            k, conditions = 1 if side == FACTOR else MANY, (task, control)
            overlaps = [shared(records, condition, pair, side, (k, k), EVERY) for condition in conditions]
            more = [query_over_value(records, condition, pair, side, FEW) for condition in conditions]
            beyond = [phi.beyond for phi in overlaps if phi]
            if len(beyond) == len(conditions) and all(more):
                yield {"side": name, "k": k, "beyond": beyond, "more": more, "sign": sign_of_the_task(*beyond)}


def ties(records: Records) -> list[Numbers]:
    """Controls of which every trial collapsed: their rates were chosen among ties, and their norms follow from that."""
    facts = []
    for control, task in CONTROLS.items():
        trials, finals = (list(map(has_collapsed, records.lines_in(control, stage))) for stage in ("trial", "final"))
        if trials and all(trials):
            counts = {"trials": len(trials), "finals": len(finals), "collapsed": sum(finals)}
            facts.append(counts | {"task": task, "norms": [_relative_norm(records, name) for name in (control, task)]})
    return facts


def _relative_norm(records: Records, task: str) -> float:
    """The mean of ‖ΔW‖ / ‖W‖ over the reference's matrices and seeds."""
    lines = comparison.seeds_of(records, task, records.protocol.reference).values()
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))

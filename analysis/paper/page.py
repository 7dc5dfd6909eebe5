"""`python -m analysis paper`: the LoRA paper's claims, and what our studies say of them. It writes `docs/paper.md`, a
section for each table and figure of the paper; every number comes from the records."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lorax_lab.errors import answer
from lorax_lab.record.files import write_text

from ..pages import render, rendered
from ..study.command import DOCS, load_all
from ..study.figures import FIGURES
from ..study.records import RECORDS, Records, has_collapsed, hours_of, training_of
from ..study.validator import breaches, not_begun
from ..study.words import listed
from . import controls, notes, readings
from .readings import CONTROLS, FAILS, HOLDS, TOO, UNSURE, Reading, is_task

OUT = DOCS.parent / "paper.md"
CLAIMS = Path(__file__).with_name("claims.toml")
BASELINES = "paper_baselines"
NOT_RUN, NOT_SHOWN, MIXED = "not run yet", "not shown", "differs by row of its table"
ORDER = (HOLDS, f"{HOLDS}{TOO}", FAILS, UNSURE, MIXED)
TASKS = ("movie_reviews", "sarcasm")
"""The tasks that predictions name."""
Numbers = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Write the page. Returns the exit code: 0 done, 1 records of a study cannot be read or break its protocol, 2
    nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m analysis paper", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=OUT, help="the page (docs/paper.md)")
    parser.add_argument("--figures", type=Path, default=DOCS, help="folder of the studies' figures (docs/study)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records, options.out, options.figures))


def _write(records: Path, out: Path, figures: Path) -> int:
    studies, damaged = load_all(records, studies_of_paper())
    links = {study.name: os.path.relpath(figures / study.name, out.absolute().parent) for study in studies}
    write_text(out, write(studies, links, damaged))
    lacking = left_out(studies, damaged)
    for status, reason in lacking.values():
        print(f"{status}: {reason}")
    print(out)
    return int(NOT_SHOWN in {status for status, _ in lacking.values()})


@cache
def sections() -> list[Numbers]:
    """The paper's tables and figures in its order, each with its claims, as `claims.toml` has them."""
    content = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))
    claims = {}
    for name, claim in content["claims"].items():
        words = {key: rendered(claim[key], **claim["with"]) for key in ("text", "theirs", "rule")}
        claims[name] = claim | words | content["rows"][claim["read"]]
    made = []
    for section in content["sections"]:
        facts = {"measured": False, "notes": [], "short": section["title"].partition(":")[0]} | section
        made.append(facts | {"claims": [claims[name] for name in section["claims"]]})
    return made


def studies_of_paper() -> list[str]:
    """The studies that ask again what the paper asked."""
    return list(dict.fromkeys(section["study"] for section in sections()))


def write(studies: Sequence[Records], links: Mapping[str, str], damaged: Mapping[str, str] | None = None) -> str:
    """The whole page.

    Args:
        studies: that can be read; those of no section are not used.
        links: to each study's folder of figures, by its name.
        damaged: why each other study cannot be read, by its name.
    """
    by_name = {study.name: study for study in studies}
    used = [by_name[name] for name in studies_of_paper() if name in by_name]
    lacking = left_out(studies, damaged or {})
    fair = {name: study for name, study in by_name.items() if name not in lacking}
    shown = [_section(section, by_name.get(section["study"]), lacking, fair) for section in sections()]
    of_tasks: dict[str, list[str]] = {}
    for study in used:
        of_tasks.setdefault(listed(notes.tasks_of(study)), []).append(f"`{study.name}`")
    numbers = {"sections": shown, "links": links, "tasks": of_tasks, "runs": _runs(used) if used else None}
    return render("paper.md", **numbers, adapted=notes.adapted(used), controls=controls.rows_of(fair))


def left_out(studies: Sequence[Records], damaged: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The studies of the paper of which the page has no numbers: why in a word, and in a sentence."""
    by_name, facts = {study.name: study for study in studies}, {}
    for name in studies_of_paper():
        study = by_name.get(name)
        if name in damaged:
            facts[name] = NOT_SHOWN, f"`{name}` cannot be read: {damaged[name]}."
        elif study is None:
            facts[name] = NOT_RUN, f"`{name}` has no published records."
        elif lacking := not_begun(study):
            facts[name] = NOT_RUN, f"`{name}` is not complete: {'; '.join(lacking)}."
        elif faults := breaches(study):
            facts[name] = NOT_SHOWN, f"`{name}` is not complete, or breaks its protocol: {'; '.join(faults)}."
    return facts


def _section(
    section: Numbers, study: Records | None, lacking: Mapping[str, tuple[str, str]], fair: Mapping[str, Records]
) -> Numbers:
    """A section with its readings and notes; of a study that is not fair or not there, with why it has none."""
    lacks = lacking.get(section["study"])
    facts = section | {"lacks": lacks, "study": study, "name": section["study"], "notes": {}, "floors": []}
    facts |= {"figures": [(name, FIGURES[name].title) for name in section["figures"]]}
    if lacks:
        facts |= {"claims": [claim | {"outcome": lacks[0]} for claim in section["claims"]]}
    if study:
        finals = {task: study.of(task, "final") for task in study.conditions}
        counts = {_named(task): (sum(map(has_collapsed, lines)), len(lines)) for task, lines in finals.items()}
        prediction = " ".join(study.declared.texts["prediction"].split())
        facts |= {"finals": sum(map(len, finals.values())), "prediction": prediction}
        facts |= {"collapsed": {task: count for task, count in counts.items() if count[0]}}
        facts |= {"open": [task for task in TASKS if task in prediction and task not in study.conditions]}
    if study and not lacks:
        facts |= {"claims": [_claim(claim, study, section["measured"]) for claim in section["claims"]]}
        facts |= {"notes": {name: getattr(notes, name)(study) for name in section["notes"]}}
        if BASELINES in fair and study.name != BASELINES and not section["measured"]:
            facts |= {"floors": notes.floors(study, fair[BASELINES])}
    return facts


def _claim(claim: Numbers, study: Records, is_measured: bool) -> Numbers:
    """A claim with its rows, its outcome over them, and the conditions that it lacks."""
    read = list(getattr(readings, claim["read"])(study, **claim["with"]))
    rows = []
    for reading in read:
        cells = [rendered(claim[key], **reading.says) for key in ("subject", "number", "beside")]
        rows.append([_named(reading.task), *cells, reading.outcome_and_noise])
    there = {reading.task for reading in read}
    lacking = [task for task in study.conditions if task not in there] if is_measured else []
    return claim | {"rows": rows, "lacking": lacking, "outcome": outcome_of(read)}


def outcome_of(read: Sequence[Reading]) -> str:
    """The outcomes of a claim, each with its tasks; controls and other heads are no tasks of their own. What the claim
    is of decides; the rest stands beside that."""
    by_name: dict[str, dict[str, set[str]]] = {"": {}}
    for reading in (reading for reading in read if is_task(reading.task)):
        by_name.setdefault(reading.stands_beside, {}).setdefault(reading.task, set()).add(reading.outcome_and_noise)
    parts = []
    for name, by_task in by_name.items():
        kinds: dict[str, list[str]] = {}
        for task, outcomes in by_task.items():
            kinds.setdefault(MIXED if len(outcomes) > 1 else min(outcomes), []).append(task)
        text = "; ".join(f"{kind} ({listed(kinds[kind])})" for kind in sorted(kinds, key=ORDER.index))
        parts.append(f"{name}: {text}" if name else text or "not measured")
    return "; ".join(parts)


def _named(task: str) -> str:
    return f"{task} (control)" if task in CONTROLS else task


def _runs(studies: Sequence[Records]) -> Numbers:
    """How many runs there are, how often they were trained, and how long that took."""
    lines = [line for study in studies for line in study.lines]
    count, times = len({line["run_id"] for line in lines}), len(set(map(training_of, lines)))
    return {"count": count, "again": times - count, "hours": hours_of(lines)}

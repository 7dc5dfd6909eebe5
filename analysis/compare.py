"""`python -m analysis compare [RUNS]`: arms against each other, by the seeds that they share and the test examples.

An arm is all runs with the same settings but for the seed. Each arm is compared with full fine-tuning, or with the arm
that `--against` names, on the same model and task. Where an arm trained the head alone (method=head), or runs of a
language model scored it before training, each arm has its share of what fine-tuning brings. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record import variation
from lorax_lab.record.files import write_csv, write_text
from lorax_lab.record.folder import HEAD_ALONE, OUTPUTS, load_arrays
from lorax_lab.record.record import Record, scan
from lorax_lab.study.answers import OF_CUTS, answers_of
from lorax_lab.study.published import Line

from . import style
from .folders import UNREADABLE, check_out
from .groups import FIRST, RUNS, Group, command, group_of, settings_of
from .pages import render
from .study import share
from .study.comparison import added
from .study.figures import answer as figure
from .study.records import score_of
from .study.statistics import Interval, crossed
from .variants import REFERENCE

HEAD = "head"
"""The method that trains the head alone."""
PAGE = "comparison.md"


def main(arguments: list[str]) -> int:
    """Compare, draw, write. Returns the exit code: 0, or 2 where there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m analysis compare", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=RUNS, help="where the records are (runs)")
    against = "the arm that the others are compared with: words of its name, such as 'r = 8' (full fine-tuning)"
    parser.add_argument("--against", metavar="ARM", help=against)
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of page, tables and figures")
    options = parser.parse_args(arguments)
    return answer(lambda: _main(options.runs, options.against, options.out))


def _main(runs_dir: Path, against: str | None, out: Path) -> int:
    check_out(out)
    compared = [compare(group, against) for group in groups(runs_dir)]
    for facts in compared:
        write_csv(out / f"{facts['name']}.csv", facts["table"])
        if (rows := facts["shares"]) is not None:
            style.save(rows, figure.draw(rows), out / f"{facts['name']}-shares")
    page = render("comparison.md", groups=compared)
    write_text(out / PAGE, page)
    print(page, end="")
    print(f"in {out}: {PAGE}, and of each task a table and, where there are shares, a figure")
    return 0


def groups(runs_dir: Path) -> list[Group]:
    """The completed runs of a folder by model, task and data, where two arms or more share a seed.

    Raises:
        ConfigError: no runs, or no two arms to compare.
    """
    scanned, damages = scan(runs_dir) if runs_dir.is_dir() else ({}, [])
    for damage in damages:
        print(f"left out: {damage.reason}")
    done = {folder: record for folder, record in scanned.items() if record.result and not record.is_trial}
    settings = {record.run_id: settings_of(record) for record in done.values()}
    members: dict[str, dict[Path, Record]] = {}
    for folder, record in done.items():
        inputs = {key: value for key, value in settings[record.run_id].items() if _is_input(key)}
        members.setdefault(json.dumps(inputs, sort_keys=True), {})[folder] = record
    made = [group_of(records, settings, runs_dir) for records in members.values()]
    made = [group for group in made if len(set(group.runs["arm_key"])) > 1]
    if not made:
        typed = command(FIRST, runs_dir)
        raise ConfigError(f"{runs_dir} has no two arms of one model and task; type {typed}, or name another folder")
    return sorted(made, key=lambda group: group.name)


def _is_input(key: str) -> bool:
    return key in variation.INPUTS or key.startswith(("inputs.", "task."))


def compare(group: Group, against: str | None = None) -> dict[str, Any]:
    """What the page says of a group.

    Returns:
        `table`: a row for each arm with its score, its difference from the reference and its share. `shares`: the rows
        of `study.share.rows_of`, None where there is no share. `why`: why there is none.

    Raises:
        ConfigError: no arm, or several, have the words of `against`.
    """
    lines = {str(row["run_id"]): _line(Path(row["folder"]), group) for _, row in group.runs.iterrows()}
    runs = dict(iter(group.runs.groupby("arm", sort=False)))
    arms = {
        str(arm): {int(row["seed"]): lines[row["run_id"]] for _, row in rows.iterrows()} for arm, rows in runs.items()
    }
    reference = _reference(group, list(arms), against)
    zero = _zero(group, arms, arms[reference])
    table = pd.DataFrame([_row(group, runs[arm], arm, arms, reference, zero) for arm in arms])
    shares = _shares(group, runs, arms, reference, zero)
    facts: dict[str, Any] = {"name": group.name, "title": group.title, "metric": group.metric, "reference": reference}
    facts |= {"seeds": max(map(len, arms.values())), "zero": zero and zero[0], "table": table, "shares": shares}
    return facts | {"enough": _enough(shares)}


def _lines(rows: pd.DataFrame, group: Group) -> dict[int, Line]:
    """An arm's runs by seed."""
    return {int(row["seed"]): _line(Path(row["folder"]), group) for _, row in rows.iterrows()}


def _line(folder: Path, group: Group) -> Line:
    """A run's scores and answers, as a published line has them."""
    result = group.records[folder.name].completed
    line: Line = {"metric": result.metric, "metrics": result.metrics, "baselines": result.baselines}
    try:
        outputs = load_arrays(folder, OUTPUTS)
        return line | answers_of(outputs.pop("test"), outputs)
    except UNREADABLE:  # then the scores alone are compared
        return line


def _reference(group: Group, arms: list[str], against: str | None) -> str:
    if against is not None:
        fitting = [arm for arm in arms if against in arm]
        if len(fitting) != 1:
            raise ConfigError(f"--against {against} is in the names of {len(fitting)} arms; {suggest(against, arms)}")
        return fitting[0]
    return str(group.full["arm"].iloc[0]) if len(group.full) else arms[0]


def _zero(
    group: Group, arms: Mapping[str, dict[int, Line]], reference: dict[int, Line]
) -> tuple[str, dict[int, Line]] | None:
    """What brings nothing: the head alone, which full fine-tuning's run has fitted or an arm has trained, or a language
    model before training."""
    key, metric = f"{HEAD_ALONE}/{group.metric}", f"test/{group.metric}"
    if all(key in line["baselines"] for line in reference.values()):
        return share.HEAD, {seed: _of_head(line, key, metric) for seed, line in reference.items()}
    if len(head := group.best[group.best["method"] == HEAD]):
        return share.HEAD, arms[str(head["arm"].iloc[0])]
    before = {seed: line["baselines"].get(f"untrained/{group.metric}") for seed, line in reference.items()}
    if None in before.values():
        return None
    return share.BEFORE, {seed: {"metric": group.metric, "metrics": {metric: score}} for seed, score in before.items()}


def _of_head(line: Line, key: str, metric: str) -> Line:
    """A head alone as a line of its own, from that of the run that fitted it."""
    head: Line = {"metric": line["metric"], "metrics": {metric: line["baselines"][key]}}
    answers = {name: line.get(of_cuts, {}).get((HEAD_ALONE, 0)) for name, of_cuts in OF_CUTS.items()}
    return head | {name: values for name, values in answers.items() if values is not None}


def _row(
    group: Group,
    runs: pd.DataFrame,
    arm: str,
    arms: Mapping[str, dict[int, Line]],
    reference: str,
    zero: tuple[str, dict[int, Line]] | None,
) -> dict[str, Any]:
    scores = [score_of(line, "test") for line in arms[arm].values()]
    row = {"arm": arm, "rank": runs["rank"].iloc[0], "seeds": len(scores), "score": float(np.mean(scores))}
    row |= {"trainable": int(runs["parameters.trainable"].iloc[0])}
    if arm == reference:
        return row
    gain = _gain(arms[arm], arms[reference], group.higher_is_better)
    row |= {"difference": gain.mean, "difference_low": gain.low, "difference_high": gain.high, "paired": gain.count}
    of_arm = zero and share.paired(arms[reference], {("arm", 0): arms[arm]}, zero, group.higher_is_better, False)
    if of_arm:
        row |= dict(zip(("share", "share_low", "share_high"), of_arm.kept(of_arm.arms["arm", 0]), strict=True))
    return row


def _gain(arm: dict[int, Line], reference: dict[int, Line], higher_is_better: bool) -> Interval:
    """The gain over the reference of the same seeds, above 0 is better."""
    pairs = [(arm[seed], reference[seed]) for seed in sorted(set(arm) & set(reference))]
    values = [(added(line), added(other)) for line, other in pairs]
    if not pairs or any(value is None for pair in values for value in pair):
        differences = np.array([[score_of(line, "test") - score_of(other, "test")] for line, other in pairs])
    else:
        differences = np.array([line - other for line, other in values])  # type: ignore[operator]
    return crossed(differences).interval().oriented(higher_is_better) if pairs else Interval(np.nan, np.nan, np.nan, 0)


def _shares(
    group: Group,
    runs: Mapping[Any, pd.DataFrame],
    arms: Mapping[str, dict[int, Line]],
    reference: str,
    zero: tuple[str, dict[int, Line]] | None,
) -> pd.DataFrame | None:
    """The shares by rank of each variant that has one, and by directions of the reference's update."""
    by_variant: dict[str, dict[tuple[str, int], dict[int, Line]]] = {}
    for arm, rows in runs.items():
        if pd.notna(rank := rows["rank"].iloc[0]) and arm != reference:
            by_variant.setdefault(str(rows["variant"].iloc[0]), {})["rank", int(rank)] = arms[str(arm)]
    made: list[dict[str, Any]] = []
    for variant, places in by_variant.items() if zero else ():
        has_cuts = runs[reference]["method"].iloc[0] == REFERENCE and not made
        cut = has_cuts and all(share.added_by_cuts(line, "cut") for line in arms[reference].values())
        if zero and (scores := share.paired(arms[reference], places, zero, group.higher_is_better, cut)):
            place = {"task": variant, "model": group.title["model"], "classes": 0}
            made += share.rows_of(scores, place)
    return pd.DataFrame(made) if made else None


def _enough(shares: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The smallest sizes that keep a share, by variant and side."""
    if shares is None:
        return []
    return [
        {"variant": variant, "side": side, "sizes": {s: share.enough(rows, s) for s in share.SHARES}}
        for (variant, side), rows in shares.groupby(["task", "side"], sort=False)
    ]

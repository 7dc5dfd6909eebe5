"""`python -m analysis compare [RUNS]`: arms against each other, by the seeds that they share and the test examples.

An arm is all runs with the same settings but for the seed. Each arm is compared with full fine-tuning, or with the arm
that `--against` names, on the same model and task. It has its share of what full fine-tuning brings over the head
alone, which full fine-tuning's run has fitted on the frozen base; of a language model over the model before training.
Nothing is trained.
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.direction import oriented
from lorax_lab.record.files import write_csv, write_text
from lorax_lab.record.folder import OUTPUTS, load_arrays
from lorax_lab.record.statistics import Interval, crossed
from lorax_lab.study.answers import Line, answers_of, with_groups

from . import gaps, style
from .groups import FIRST, RUNS, Group, command, load
from .pages import render
from .study import share
from .study.comparison import NONE, added
from .study.figures import answer as figure
from .study.records import score_of
from .study.share import Zero
from .variants import COLLAPSED, REFERENCE, collapsed

HEAD = "head"
"""The method that trains the head alone."""
PAGE = "comparison.md"
Lines = dict[int, Line]
"""An arm's runs by seed."""


def main(arguments: list[str]) -> int:
    """Compare, draw, write. Returns the exit code: 0, or 2 where there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m analysis compare", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=RUNS, help="where the records are (runs)")
    against = "the arm that the others are compared with: words of its name, such as 'r = 8' (full fine-tuning)"
    parser.add_argument("--against", metavar="ARM", help=against)
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of page, tables and figures")
    options = parser.parse_args(arguments)
    out = options.out
    compared, without = [], list[ConfigError]()
    for group in groups(options.folder):
        try:
            compared.append(compare(group, options.against))
        except ConfigError as no_such_arm:
            without.append(no_such_arm)
            print(f"left out: {' '.join(group.shared)}: {no_such_arm}")
    if not compared:
        raise without[0]
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
    """The groups of comparable runs of a folder, as the report has them, of which there are two arms or more.

    Raises:
        ConfigError: no such folder, or no two arms to compare.
    """
    recorded = load(runs_dir)
    for damage in recorded.damages:
        print(f"left out: {damage}")
    groups: list[Group] = []
    for group in recorded.groups:
        if len(set(group.runs["arm_key"])) > 1:
            groups.append(group)
        else:
            print(f"left out: {group.runs['arm'].iloc[0]}, the only arm of {' '.join(group.shared)}")
    if not groups:
        typed = command(FIRST, runs_dir)
        alike = "two arms of one model, task and budget"
        raise ConfigError(f"{runs_dir} has no {alike}; type {typed}, or name another folder")
    return groups


def compare(group: Group, against: str | None = None) -> dict[str, Any]:
    """What the page says of a group.

    Returns:
        `table`: a row for each arm with its score, its difference from the reference and its share. `shares`: the rows
        of `study.share.rows_of`, None where there is no share. `why`: why there is none.

    Raises:
        ConfigError: no arm, or several, have the words of `against`.
    """
    runs = dict(iter(group.runs.groupby("arm", sort=False)))
    arms = {str(arm): _lines(rows, group) for arm, rows in runs.items()}
    alike = iter(with_groups(line for of_arm in arms.values() for line in of_arm.values()))
    arms = {arm: {seed: next(alike) for seed in of_arm} for arm, of_arm in arms.items()}
    reference = _reference(group, list(arms), against)
    is_full = runs[reference]["method"].iloc[0] == REFERENCE
    zero = _zero(group, arms, reference) if is_full else None
    unfair = _unfair(group, runs[reference], arms[reference], zero)
    table = pd.DataFrame([_row(group, runs[arm], arms[arm], arms[reference], zero) for arm in arms])
    if unfair:
        table = table.loc[:, ~table.columns.str.startswith(("difference", "share"))]
    shares = _shares(group, runs, arms, arms[reference], zero)
    facts: dict[str, Any] = {"name": group.name, "title": group.title, "metric": group.metric, "reference": reference}
    facts |= {"zero": zero and zero[0], "table": table, "shares": shares, "enough": _enough(shares)}
    facts |= {"answer": group.answer, "collapsed": collapsed(group.runs).strip(), "versions": gaps.versions(group)}
    facts |= {"settings": {key: sorted(set(group.runs[key]) - {""}) for key in group.dials}}
    single = table.loc[(table["arm"] != reference) & (table.get("paired", pd.Series(0, table.index)) < 2), "arm"]
    return facts | {"single": list(single), "why": unfair or _why(is_full, zero, table)}


def _unfair(group: Group, runs: pd.DataFrame, reference: Lines, zero: Zero | None) -> str:
    """Why nothing is learned from a difference from the reference, in words; empty where it is."""
    if runs[COLLAPSED].all():
        return "every run of the reference collapsed, so there are no differences from it"
    if zero is None:
        return ""
    full, nothing = (np.mean([score_of(line, "test") for line in of.values()]) for of in (reference, zero[1]))
    brings = oriented(float(full - nothing), group.higher_is_better)
    return "" if brings > 0 else f"full fine-tuning does not beat the {zero[0]}, so there are no differences from it"


def _why(is_full: bool, zero: object, table: pd.DataFrame) -> str:
    if not is_full:
        return "shares are of what full fine-tuning brings"
    if zero is None:
        return "no full fine-tune here has fitted a head alone: train it again (force=true), or add method=head"
    has_share = "share" in table and table["share"].notna().any()
    return "" if has_share else "full fine-tuning is not surely better than the head alone"


def _lines(rows: pd.DataFrame, group: Group) -> Lines:
    return {int(row["seed"]): _line(Path(row["folder"]), group) for _, row in rows.iterrows()}


def _line(folder: Path, group: Group) -> Line:
    """A run's scores and answers, as a published line has them."""
    record, result = group.records[folder.name], group.records[folder.name].completed
    line: Line = {"metric": result.metric, "metrics": result.metrics, "baselines": result.baselines}
    line |= {"config": record.config, "inputs": asdict(result.inputs)}
    try:
        outputs = load_arrays(folder, OUTPUTS)
        return line | answers_of(outputs.pop("test"), outputs)
    except (OSError, ValueError, KeyError):  # then the scores alone are compared
        return line


def _reference(group: Group, arms: list[str], against: str | None) -> str:
    if against is not None:
        words = re.compile(rf"(?<![\w.]){re.escape(against)}(?![\w.])")  # not rank 1 in the name of rank 16
        fitting = [arm for arm in arms if arm == against] or [arm for arm in arms if words.search(arm)]
        if len(fitting) != 1:
            raise ConfigError(f"--against {against} is in the names of {len(fitting)} arms; {suggest(against, arms)}")
        return fitting[0]
    full = group.runs[group.runs["method"] == REFERENCE]
    methods = {Path(folder).name: group.records[Path(folder).name].config["method"] for folder in full["folder"]}
    compared_with = {record.completed.reference for record in group.records.values()}
    declared = [methods[run_id] for run_id in compared_with if run_id in methods]
    if declared:  # not one without embeddings, say, that has the best validation
        full = full[[methods[Path(folder).name] in declared for folder in full["folder"]]]
    return str(full.sort_values("best", ascending=False)["arm"].iloc[0]) if len(full) else arms[0]


def _zero(group: Group, arms: Mapping[str, Lines], reference: str) -> Zero | None:
    """What brings nothing; a head alone that is an arm of its own may be that."""
    trained = group.best.loc[group.best["method"] == HEAD, "arm"]
    return share.zero_of(arms[reference], (share.HEAD, arms[str(trained.iloc[0])]) if len(trained) else None)


def _row(group: Group, runs: pd.DataFrame, arm: Lines, reference: Lines, zero: Zero | None) -> dict[str, Any]:
    first, scores = runs.iloc[0], [score_of(line, "test") for line in arm.values()]
    row: dict[str, Any] = {
        "arm": first["arm"],
        "rank": first["rank"],
        "seeds": len(scores),
        "score": float(np.mean(scores)),
    }
    row |= {"trainable": int(first["parameters.trainable"]), "collapsed": int(runs[COLLAPSED].sum())}
    if arm is reference:
        return row
    gain = _gain(arm, reference, group.higher_is_better)
    row |= {"difference": gain.mean, "difference_low": gain.low, "difference_high": gain.high, "paired": gain.count}
    of_arm = zero and share.paired(reference, {("arm", 0): arm}, zero, group.higher_is_better, with_cuts=False)
    if of_arm:
        row |= dict(zip(("share", "share_low", "share_high"), of_arm.share_of(of_arm.arms["arm", 0]), strict=True))
    return row


def _gain(arm: Lines, reference: Lines, higher_is_better: bool) -> Interval:
    """The gain over the reference of the same seeds, above 0 is better."""
    pairs = [(arm[seed], reference[seed]) for seed in sorted(set(arm) & set(reference))]
    values = [(added(line), added(other)) for line, other in pairs]
    differences = [a - b for a, b in values if a is not None and b is not None]
    if len(differences) < len(pairs):
        differences = [np.array([score_of(line, "test") - score_of(other, "test")]) for line, other in pairs]
    return crossed(np.array(differences)).interval().oriented(higher_is_better) if pairs else NONE


def _shares(
    group: Group, runs: Mapping[Any, pd.DataFrame], arms: Mapping[str, Lines], reference: Lines, zero: Zero | None
) -> pd.DataFrame | None:
    """The shares by rank of each variant that has one, and by directions of the reference's update."""
    if zero is None:
        return None
    by_variant: dict[str, dict[tuple[str, int], Lines]] = {}
    for arm, rows in runs.items():
        if pd.notna(rank := rows["rank"].iloc[0]) and arms[arm] is not reference:
            by_variant.setdefault(str(rows["variant"].iloc[0]), {})["rank", int(rank)] = arms[arm]
    made: list[dict[str, Any]] = []
    for variant, places in by_variant.items():
        most = max(len(set(of_arm) & set(reference)) for of_arm in places.values())
        places = {place: of_arm for place, of_arm in places.items() if len(set(of_arm) & set(reference)) == most}
        cut = not made and all(share.added_by_cuts(line, "cut") for line in reference.values())
        if scores := share.paired(reference, places, zero, group.higher_is_better, cut):
            made += share.rows_of(scores, {"task": variant, "model": group.title["model"], "classes": 0})
    return pd.DataFrame(made) if made else None


def _enough(shares: pd.DataFrame | None) -> list[dict[str, Any]]:
    if shares is None or shares["seeds"].max() < 2:  # one seed is not enough to tell
        return []
    return [
        {"variant": variant, "side": side, "sizes": {s: share.enough(rows, s) for s in share.SHARES}}
        for (variant, side), rows in shares.groupby(["task", "side"], sort=False)
    ]

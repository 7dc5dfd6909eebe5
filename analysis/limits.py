"""`docs/limits.md`, which `python -m analysis paper` writes: what others than the LoRA paper claim about LoRA, decided
from the published records, or said to be open. Claims of rates and scores are read from the cells of `which_rank`."""

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.record.statistics import Interval, crossed, t_interval

from .pages import render
from .paper.readings import FAILS, HOLDS, NOT_TOLD, Reading, above, between, within
from .study import comparison, share
from .study.figures import forgetting
from .study.records import RECORDS, Records
from .study.validator import breaches, selection_of
from .which_rank import Cell, cells

VERDICTS = {HOLDS: "borne out", FAILS: "refuted", NOT_TOLD: "open"}
CLAIMED_RATIO, STEP = 10.0, 2.0
"""LoRA's best rate over full fine-tuning's, and the factor within which grids can tell it."""
MOVES, FIRST_RANK = 2.0, 4
"""By less than this factor the best rate is claimed to move, from this rank up."""
LARGEST_RANK = 64
"""The rank of LoRA that is held against full fine-tuning: the largest that all cells have."""
STUDY_OF_MATRICES = "paper_which_rank"
"""The study that adapts the feed-forward matrices alone, and the attention's alone, at several ranks."""
STUDY_OF_PARTS, EQUAL_RANKS = "language_parts", (20, 33)
"""The study that does so to a language model, and the feed-forward matrices' rank and the attention's that have as many
parameters (its prediction is the rule)."""
STUDY_OF_BATCHES, BATCH_MARGIN = "batch_sizes", 0.015
"""The study of batch sizes, and the growth of full fine-tuning's lead that it can tell (its rule was set before it)."""
STUDY_OF_LANGUAGE, OTHER_TEXT = "language", "wikipedia"
FORGETS_ON = ("turkish", "spelling")
"""The study that scores other texts, the one of them that is no task, and the tasks that its rule names (it was set
before the study)."""
SMALL_RANK = 8
"""The rank that is held against full fine-tuning there, and whose end is looked for."""
SEARCH = RECORDS / "language_search.csv"
"""What `experiments.language_search` found, by generator."""
BELOW_FORM, MORE_EXACT = 0.3, 0.2
"""A generator teaches where it ends so many nats a token below the form, or its share of exact answers is so much
higher (the rule of `experiments.language_search`)."""
SHALLOW = "shallow"
"""The study whose limits the page names."""
OTHER_BASES = {SHALLOW: "with three layers", STUDY_OF_LANGUAGE: "with SmolLM2", "language_answers": "with SmolLM2"}
"""Studies that look for it on another base, and what that is."""
Numbers = dict[str, Any]


def write(studies: Sequence[Records], search: Path = SEARCH) -> str:
    """The whole page, from the studies that can be read, and from the search for tasks if there is one."""
    by_name = {study.name: study for study in studies if not breaches(study)}
    language = by_name.get(STUDY_OF_LANGUAGE)
    of_cells = [cell for cell in cells(studies) if not cell.unit and LARGEST_RANK in cell.scores]
    return render(
        "limits.md",
        VERDICTS=VERDICTS,
        SHALLOW=SHALLOW,
        LANGUAGE=STUDY_OF_LANGUAGE,
        cells=of_cells,
        rates=rates(by_name, of_cells) if of_cells else None,
        learned=learned(by_name, of_cells) if of_cells else None,
        shares=shares_of_small_rank(by_name, of_cells),
        matrices=matrices(by_name[STUDY_OF_MATRICES]) if STUDY_OF_MATRICES in by_name else None,
        parts=parts(by_name[STUDY_OF_PARTS]) if STUDY_OF_PARTS in by_name else None,
        batches=batches(by_name[STUDY_OF_BATCHES]) if STUDY_OF_BATCHES in by_name else None,
        forgets=forgets(forgetting.table(language), FORGETS_ON) if language else None,
        generators=searched(pd.read_csv(search)) if search.is_file() else [],
        rule={"claimed": CLAIMED_RATIO, "step": STEP, "moves": MOVES, "first": FIRST_RANK, "largest": LARGEST_RANK}
        | {"below_form": BELOW_FORM, "more_exact": MORE_EXACT, "batch_margin": BATCH_MARGIN, "small": SMALL_RANK},
    )


def over_tasks(of_cells: Sequence[Cell], values: Sequence[float]) -> Interval:
    """The mean over tasks with Student's interval. Repeats of a task are averaged first."""
    return t_interval(list(pd.Series(values).groupby([cell.task for cell in of_cells]).mean()))


# ---- the best learning rate


def rates(by_name: Mapping[str, Records], of_cells: Sequence[Cell]) -> Numbers:
    """Of the chosen learning rates: LoRA's over full fine-tuning's, and how far LoRA's moves with the rank.

    `ratio` and `drift` are geometric means over tasks; `drift` goes from the ranks `smallest` to the ranks `largest`.
    `ratios` has every ratio of every cell, `moved` each cell's largest rate over its smallest. `factors` and `starts`
    say how the grids were laid: the factor between two rates, and LoRA's lowest rate over full fine-tuning's. `edges`
    counts the chosen rates that stand at an end of their grid.
    """
    chosen = [chosen_rates(by_name[cell.study], cell.condition) for cell in of_cells]
    ratios = [[rate / full for rate in by_rank.values()] for full, by_rank in chosen]
    moving = [{rank: rate for rank, rate in by_rank.items() if rank >= FIRST_RANK} for _, by_rank in chosen]
    ratio = over_tasks(of_cells, [float(np.log2(by_rank).mean()) for by_rank in ratios])
    drift = over_tasks(of_cells, [math.log2(by_rank[max(by_rank)] / by_rank[min(by_rank)]) for by_rank in moving])
    studies = [by_name[name] for name in dict.fromkeys(cell.study for cell in of_cells)]
    arms = [(study, arm) for study in studies for arm in study.protocol.ranked()]
    alphas = {settings.get("method.alpha") for study in studies for settings in study.declared.settings.values()}
    return {
        "ratio": within(ratio.mapped(math.exp2), CLAIMED_RATIO / STEP, CLAIMED_RATIO * STEP),
        "drift": within(drift.mapped(math.exp2), 1 / MOVES, MOVES),
        "ratios": [value for by_rank in ratios for value in by_rank],
        "median": float(np.median(np.concatenate(ratios))),
        "smallest": sorted({min(by_rank) for by_rank in moving}),
        "largest": sorted({max(by_rank) for by_rank in moving}),
        "moved": [max(by_rank.values()) / min(by_rank.values()) for by_rank in moving],
        "factors": sorted({study.protocol.factor for study in studies}),
        "starts": [arm.lowest / study.protocol.arm(study.protocol.reference).lowest for study, arm in arms],
        "edges": sum(at_edge(by_name[cell.study], cell.condition) for cell in of_cells),
        "alphas": sorted(alphas - {None}),
    }


def chosen_rates(records: Records, condition: str) -> tuple[float, dict[int, float]]:
    """Full fine-tuning's learning rate, and LoRA's by rank, as validation chose them."""
    choices = selection_of(records, condition).choices
    by_arm = {arm: records.protocol.rate(arm, choice.step) for arm, choice in choices.items()}
    return by_arm[records.protocol.reference], comparison.by_rank(records, by_arm)


def at_edge(records: Records, condition: str) -> int:
    """How many of those rates stand at an end of their grid, where a better one may lie beyond."""
    arms = {records.protocol.reference, *(arm.name for arm in records.protocol.ranked())}
    return sum(choice.edge for arm, choice in selection_of(records, condition).choices.items() if arm in arms)


# ---- which matrices, and how much is learned


def matrices(records: Records) -> Numbers:
    """What the feed-forward matrices score above the attention's, in the mean over ranks: at half the attention's rank,
    with `fewer` parameters, and at the same rank, with `more`. `best` and `worst` are the ranks where they gain most
    and least; `best` also has an interval that is wide enough for all ranks.

    At equal parameters they are better if they are with fewer, and worse if they are with more.
    """
    task, names = records.conditions[0], {arm.name for arm in records.protocol.arms}
    ranks = sorted({arm.rank or 0 for arm in records.protocol.arms if arm.name.startswith("attention r=")})
    same = [(rank, rank) for rank in ranks]
    half = [(rank // 2, rank) for rank in ranks if _arms(rank // 2, rank)[0] in names]
    fewer, more = (mean_gain(records, task, pairs) for pairs in (half, same))
    at_once = {rank: between(records, task, *_arms(rank, rank), len(ranks)) for rank in ranks}
    worst, *_, best = sorted(ranks, key=lambda rank: at_once[rank].mean)
    return {
        "task": task,
        "fewer": at_equal_parameters(fewer, more),
        "more": more,
        "sizes": [_relative_size(records, task, *pairs[0]) for pairs in (half, same)],
        "half": half,
        "ranks": ranks,
        "best": {"rank": best, "alone": between(records, task, *_arms(best, best)), "at_once": at_once[best]},
        "worst": {"rank": worst, "alone": between(records, task, *_arms(worst, worst))},
    }


def parts(records: Records) -> Numbers:
    """By how much the feed-forward matrices of a language model end below the attention's, with as many parameters."""
    task = records.conditions[0]
    gain = between(records, task, *_arms(*EQUAL_RANKS))
    return {"task": task, "ranks": EQUAL_RANKS, "below": above(gain, 0)}


def at_equal_parameters(fewer: Interval, more: Interval) -> Reading:
    """Whether a gain at equal parameters is above 0, from that with fewer and that with more."""
    return Reading(fewer, HOLDS if fewer.low > 0 else FAILS if more.high < 0 else NOT_TOLD)


def mean_gain(records: Records, task: str, pairs: Sequence[tuple[int, int]]) -> Interval:
    """The gain of the feed-forward matrices' rank over the attention's, the mean over pairs of ranks, paired by seed
    and test example."""
    each = [[comparison.differences(records, task, arm) for arm in _arms(*pair)] for pair in pairs]
    return crossed(np.mean([feed_forward - attention for feed_forward, attention in each], axis=0)).interval()


def _arms(feed_forward: int, attention: int) -> tuple[str, str]:
    return f"feed-forward r={feed_forward}", f"attention r={attention}"


def _relative_size(records: Records, task: str, *ranks: int) -> float:
    """Parameters of the feed-forward arm over those of the attention's."""
    lines = [next(iter(comparison.seeds_of(records, task, arm).values())) for arm in _arms(*ranks)]
    return float(lines[0]["parameters"]["adapter"] / lines[1]["parameters"]["adapter"])


def batches(records: Records) -> Numbers | None:
    """By how much full fine-tuning's lead over LoRA of each rank grows from the smallest batch to the largest, and from
    all steps to as few as the largest batch leaves (`few_steps`); `leads` has it at the smallest batch. None while runs
    are missing, or where one diverged."""
    ranked, seeds = records.protocol.ranked(), len(records.protocol.final_seeds)
    lead: dict[Any, dict[int, np.ndarray]] = {}  # by the size of the batch, and under None with few steps
    for condition in records.declared.conditions:
        finals = records.lines_in(condition, "final")
        differences = {arm.rank or 0: -comparison.differences(records, condition, arm.name) for arm in ranked}
        if not finals or any(len(values) < seeds for values in differences.values()):
            return None
        train = finals[0]["config"]["train"]
        lead[train["batch_size"] if train.get("max_steps") is None else None] = differences
    sizes = sorted(size for size in lead if size)
    first = lead[sizes[0]]
    grows = {rank: crossed(lead[sizes[-1]][rank] - first[rank]).interval() for rank in first}
    outcome = FAILS if all(growth.high < BATCH_MARGIN for growth in grows.values()) else NOT_TOLD
    return {
        "outcome": HOLDS if all(growth.low > 0 for growth in grows.values()) else outcome,
        "grows": grows,
        "few_steps": {rank: crossed(lead[None][rank] - first[rank]).interval() for rank in first},
        "leads": {rank: crossed(differences).interval() for rank, differences in first.items()},
        "sizes": sizes,
        "task": finals[0]["config"]["task"]["name"],
    }


def learned(by_name: Mapping[str, Records], of_cells: Sequence[Cell]) -> Numbers:
    """By how much full fine-tuning scores above LoRA of the largest rank, over tasks; and in how many cells LoRA's is
    surely less, and surely more. `each` has that difference of every cell."""
    places = [(by_name[cell.study], cell.condition) for cell in of_cells]
    gains = [comparison.by_rank(study, comparison.gains(study, task))[LARGEST_RANK] for study, task in places]
    surely = {"less": sum(gain.high < 0 for gain in gains), "more": sum(gain.low > 0 for gain in gains)}
    each = [-gain.mean for gain in gains]
    return {"less": above(over_tasks(of_cells, each), 0), "each": each, "surely": surely}


# ---- where a small rank ends


def shares_of_small_rank(by_name: Mapping[str, Records], of_cells: Sequence[Cell]) -> list[Numbers]:
    """What a small rank keeps of what fine-tuning brings, by cell and on other bases: `task`, `condition`, `study`, and
    `share`, the mean with its interval, that of the largest rank, `most`, and whether it `is_on_another_base`. First
    the one whose interval ends lowest.
    """
    rows = list[Numbers]()
    places = [(by_name[cell.study], cell.condition, cell.task) for cell in of_cells]
    for name, base in OTHER_BASES.items():
        if name in by_name:
            places += [(by_name[name], task, f"{task} {base}") for task in by_name[name].conditions]
    for study, condition, task in places:
        of_small, of_largest = (_share_of_rank(study, condition, rank) for rank in (SMALL_RANK, LARGEST_RANK))
        if of_small is not None:
            row = {"task": task, "condition": condition, "study": study.name, "share": of_small, "most": of_largest}
            rows.append(row | {"is_on_another_base": study.name in OTHER_BASES})
    return sorted(rows, key=lambda row: row["share"].high)


def _share_of_rank(study: Records, condition: str, rank: int) -> Interval | None:
    """What a rank keeps; None where it was not tried, or where nothing is brought."""
    scores = share.scores(study, condition)
    if scores is None or (arm := scores.arms.get(("rank", rank))) is None:
        return None
    return Interval(*scores.share_of(arm), len(arm), scores.examples)


# ---- what is forgotten


def forgets(table: pd.DataFrame | None, tasks: Sequence[str]) -> Numbers | None:
    """By how much more full fine-tuning raises the loss on other texts than LoRA of a small rank does, from the rows of
    the figure `forgetting`: the outcome over all tasks, told once none is `missing`; by task `as_trained`, `at_norm`,
    where the larger of both updates is shrunk, and which that is. None where there are no rows."""
    if table is None:
        return None
    rows = table[(table["text"] == OTHER_TEXT) & (table["arm"] == f"LoRA r={SMALL_RANK}")].set_index("task")
    missing = [task for task in tasks if task not in rows.index]
    if rows.empty:
        return None
    more = rows[["full_more", "full_more_low", "full_more_high", "seeds", "examples"]]
    by_series = {
        series: {task: Interval(*row) for task, row in zip(part.index, part.itertuples(index=False), strict=True)}
        for series, part in more.groupby(rows["series"], sort=False)
    }
    as_trained = by_series[forgetting.AS_TRAINED]
    is_more, is_less = (all(sure) for sure in zip(*((i.low > 0, i.high < 0) for i in as_trained.values()), strict=True))
    outcome = NOT_TOLD if missing else HOLDS if is_more else FAILS if is_less else NOT_TOLD
    times = rows.loc[rows["series"] == forgetting.FULL_AT, "factor"].to_dict()
    shrunk = {task: forgetting.FULL_AT if of_full <= 1 else forgetting.AT_FULLS for task, of_full in times.items()}
    at_norm = {task: by_series[series][task] for task, series in shrunk.items()}
    names = {task: "full's" if series == forgetting.FULL_AT else "LoRA's" for task, series in shrunk.items()}
    return {"outcome": outcome, "missing": missing, "as_trained": as_trained, "at_norm": at_norm, "shrunk": names}


# ---- problems that teach a language model


def searched(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows of the search, those that end furthest below the form of their answers first: `below` says how far, in
    nats a token, and `teaches` whether that, or the share of exact answers, meets the rule."""
    rows = table.assign(below=table["form"] - table["trained"]).sort_values("below", ascending=False)
    teaches = (rows["below"] >= BELOW_FORM) | (rows["exact"] - rows["exact_form"] >= MORE_EXACT)
    return rows.assign(teaches=teaches).to_dict("records")

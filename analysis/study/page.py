"""The numbers of a study's own page, `VERDICT.md`, and of `analysis/VERDICT.md` over all studies; the words stand in
`analysis/pages`. What a page has no room for stands in tables beside it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import pandas as pd

from lorax_lab.record.clusters import GROUPS
from lorax_lab.record.direction import TRAINING
from lorax_lab.record.statistics import Interval, Smallest
from lorax_lab.study.protocol import DIMENSION

from ..pages import render
from . import comparison, ninety, share, update
from .figures import FIGURES, bases, capacity, claims, figures_of
from .records import KEPT, Records, collapsed, every, hours_of
from .validator import breaches, marked, notes
from .verdict import low_rank, of_tasks, rule, rulings
from .words import listed

MARGINS = (0.5, 1.5)
"""Shares of the declared margin at which the verdict is ruled again, to show how much it depends on it."""
SPECTRAL = {
    "stable rank": "stable_rank",
    "participation ratio": "participation_ratio",
    "rank of 90 % energy": "energy_rank_90",
    "effective rank": "effective_rank",
}
"""The spectral ranks that the pages name, by their words there."""
BY_SHARE = "rank_sweep_3"
"""The study whose declared rule of a low rank is one of shares, and no margin."""
FORGOTTEN = "forgetting"
"""The figure that a page shows beside its first one."""
Numbers = dict[str, Any]
"""What a template has by name."""


def write(records: Records) -> str:
    """The whole page; of a comparison that is not fair, what is wrong with it and no answer."""
    facts = numbers(records)
    if facts["faults"]:
        return render("study.md", study=facts)
    figure = next((name for name in figures_of(records) if FIGURES[name].table(records) is not None), None)
    facts = facts | {"figure": figure, "title": FIGURES[figure].title if figure else ""}
    forgotten = FIGURES[FORGOTTEN].table(records) if FORGOTTEN in figures_of(records) else None
    facts |= {"forgets": None if forgotten is None else FIGURES[FORGOTTEN].claim(forgotten)}
    facts |= {"outcome": records.outcome, "source": _source(records), "limits": _limits(records)}
    return render("study.md", study=facts)


def write_all(studies: Sequence[Records], links: Mapping[str, str]) -> str:
    """The page over all studies.

    Args:
        studies: the one of most conditions leads, of as many the one that began last, but those that name figures of
            their own follow those that have the standard ones; a control follows the study that it names.
        links: to each study's page, by its name.
    """
    names = {study.name for study in studies}
    main = sorted((s for s in studies if s.declared.control_of not in names), key=_leads, reverse=True)
    ordered = [one for s in main for one in (s, *(c for c in studies if c.declared.control_of == s.name))]
    shown = [numbers(study) for study in ordered]
    return render("overview.md", studies=shown, lead=_answer(shown), links=links)


def write_why(studies: Sequence[Records], links: Mapping[str, str]) -> str:
    """The page that says by which notion the update is of low rank, why, and where not; `links` as in `write_all`."""
    by_name = {study.name: numbers(study) for study in sorted(studies, key=_leads, reverse=True)}
    lead = _answer(list(by_name.values()))
    return render("why.md", lead=lead, studies=by_name, links=links, published=ninety.published())


def write_answer(studies: Sequence[Records], links: Mapping[str, str]) -> str:
    """The README's answer; `links` as in `write_all`."""
    lead = _answer([numbers(study) for study in sorted(studies, key=_leads, reverse=True)])
    return render("answer.md", lead=lead, links=links)


def _answer(shown: Sequence[Numbers]) -> Numbers | None:
    """The numbers of the study that leads, the first, of each task by the newest edition that has it; None where no
    study has a share."""
    lead = next((facts for facts in shown if not facts["faults"] and facts["tasks"]), None)
    if lead is None:
        return None
    stem, _ = _edition(lead["name"])
    editions = [facts for facts in shown if _edition(facts["name"])[0] == stem and facts["tasks"]]
    newest_first = sorted(editions, key=lambda facts: _edition(facts["name"])[1], reverse=True)
    source = {task["task"]: facts["name"] for facts in reversed(newest_first) for task in facts["tasks"]}
    used = [facts for facts in newest_first if facts["name"] in source.values()]
    conditions = dict.fromkeys(task for facts in newest_first for task in facts["conditions"])
    chosen: Numbers = {"without_share": [task for task in conditions if task not in source]}
    for key in ("tasks", "ninety"):
        chosen[key] = [row for facts in used for row in facts[key] if source[row["task"]] == facts["name"]]
    tables = [facts["shares"][facts["shares"]["task"].map(source) == facts["name"]] for facts in used]
    chosen |= {"claim": claims.answer(pd.concat(tables), lead["word"])}
    tasks_of = {facts["name"]: [task["task"] for task in facts["tasks"]] for facts in used}
    chosen["editions"] = used
    chosen["by_edition"] = {name: [task for task in tasks if source[task] == name] for name, tasks in tasks_of.items()}
    chosen["spectral"] = _spectral_of(used, source)
    chosen |= {"conditions": list(dict.fromkeys(name for facts in used for name in facts["conditions"]))}
    chosen |= {"beaten": [task for facts in used for task in facts["beaten"] if source.get(task) == facts["name"]]}
    chosen |= {"has_subspaces": any(facts["has_subspaces"] for facts in used)}
    chosen |= {"ends": _ends(shown, chosen["tasks"])}
    return max(newest_first, key=lambda facts: len(facts["tasks"])) | chosen


def _ends(shown: Sequence[Numbers], tasks: Sequence[Numbers]) -> list[Numbers]:
    """Where the directions that surely keep `SURE` on all of these tasks surely keep less: the studies' names, their
    tasks, those shares, and what LoRA of rank `TOLD` keeps there (None where it was not tried)."""
    smallest = [task["k"][share.SURE].surely for task in tasks if task["k"]]
    if not smallest or None in smallest:
        return []
    ends = []
    for facts in shown:
        if facts["tasks"]:
            of_study = facts["shares"]
            rows = of_study[(of_study["side"] == "k") & (of_study["size"] == max(smallest))]
            of_lora = of_study[(of_study["side"] == "rank") & (of_study["size"] == claims.TOLD)]
            share_of_lora = {row["task"]: _interval(row) for row in of_lora.to_dict("records")}
            for row in rows[rows["share_high"] < share.SURE].to_dict("records"):
                place = {"study": facts["name"], "task": row["task"], "k": row["size"]}
                ends.append(place | {"share": _interval(row), "of_lora": share_of_lora.get(row["task"])})
    return ends


def _interval(row: Mapping[Any, Any]) -> Interval:
    return Interval(row["share"], row["share_low"], row["share_high"], row["seeds"])


def _spectral_of(used: Sequence[Numbers], source: Mapping[str, str]) -> Numbers:
    """The spectral ranks of the tasks that have a row, each from the study that its row is of."""

    def values(measure: str, key: str) -> list[float]:
        return [
            value
            for facts in used
            for task, value in zip(facts["conditions"], facts["spectral"][measure][key], strict=True)
            if source.get(task) == facts["name"]
        ]

    return {measure: {key: values(measure, key) for key in ("means", "nulls")} for measure in SPECTRAL}


def _edition(name: str) -> tuple[str, int]:
    """The name of a study without its edition, and that: `rank_sweep_2` is the second edition of `rank_sweep`."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, 1)


def _leads(study: Records) -> tuple[bool, bool, int, str]:
    declared = study.declared
    return declared.figures is None, declared.has_answer, len(study.conditions), began(study)


def began(records: Records) -> str:
    """When the first of the study's runs was written; empty where it has none."""
    return min((str(line["written"]) for line in records.lines), default="")


@lru_cache(maxsize=KEPT * 2)
def numbers(records: Records) -> Numbers:
    """What both pages say of a study; of one that is not fair, what is wrong with it."""
    facts: Numbers = {"name": records.name, "texts": records.declared.texts, "faults": breaches(records)}
    facts |= {"word": records.condition_word, "reference": records.protocol.reference, "margin": records.margin}
    facts |= {"by_loss": records.protocol.chosen_by_loss is not None}
    facts |= {"has_cuts": update.has_cuts(records)}
    facts |= {"splits": list(dict.fromkeys(map(records.scored_on, records.conditions)))}
    facts |= {"conditions": records.conditions, "tasks": [], "rulings": [], "arms": [], "beaten": []}
    facts["found"] = None
    facts |= {"to_come": records.to_come, "ninety": [], "has_subspaces": bool(records.protocol.ranked(DIMENSION))}
    if facts["faults"]:
        return facts
    gains = {task: comparison.gains(records, task).values() for task in records.conditions}
    facts["beaten"] = [task for task in gains if any(gain.low > 0 for gain in gains[task])]
    table = share.table(records)
    if table is not None and update.asks_how_low(records):
        facts |= {
            "claim": claims.answer(table, records.condition_word),
            "tasks": _tasks(records, table),
            "spectral": {name: _spectral(records, measure) for name, measure in SPECTRAL.items()},
            "ninety": ninety.rows(records),
            "published": ninety.published(),
            "shares": table,
        }
        facts |= {"deficits": share.pooled_deficits(records)}
        facts |= {"by_share": _by_share(facts["tasks"])}
    if update.asks_how_low(records):
        facts |= {"rulings": of_tasks(records), "low": sorted({low_rank(records, t) for t in records.conditions})}
        sides = {min(row["shape"]) for row in update.lines_of(records, records.conditions[0])[0]["matrices"].values()}
        facts |= {"width": sides.pop() if len(sides) == 1 else None}
    facts["of_low_rank"] = None
    if records.name == BY_SHARE and table is not None:
        facts["of_low_rank"] = _of_low_rank(table, facts["ninety"], max(facts["low"]))
    if not facts["tasks"] or _is_answered_by_arms(records):
        facts["arms"] = _arms(records)
    facts["against"] = [{"reference": name, "arms": _arms(records.against(name))} for name in records.declared.against]
    if "capacity" in (records.declared.figures or ()):
        facts["found"] = capacity.claim(capacity.table(records))
    facts["by_base"] = bases.rows_of_page(records) if bases.is_of_bases(records) else []
    facts["differing"] = bases.differing(facts["by_base"]) if facts["by_base"] else None
    facts["decided"] = bases.DECIDED
    return facts


def _of_low_rank(table: pd.DataFrame, of_tasks: list[Numbers], low: int) -> dict[str, list[str]]:
    """The tasks on which the rule of `BY_SHARE` holds or is refuted, and those where rank `low` surely keeps 90 %."""
    of_rank = table[(table["side"] == "rank") & (table["size"] == low)]
    surely = {row["task"]: row["r90"].surely for row in of_tasks if row["r90"]}
    return {
        "holds": [task for task, rank in surely.items() if rank is not None and rank <= low],
        "refuted": list(of_rank.loc[of_rank["share_high"] < share.MOST, "task"]),
        "kept": list(of_rank.loc[of_rank[share.column(share.MOST)], "task"]),
    }


def _tasks(records: Records, table: pd.DataFrame) -> list[Numbers]:
    """What each condition with a share keeps: the sizes that are enough, by side and share."""
    tasks = []
    for task, rows in table.groupby("task", sort=False):
        sides = {side: rows[rows["side"] == side] for side in share.SIDES}
        enough = {side: {s: share.enough(of_side, s) for s in share.SHARES} for side, of_side in sides.items()}
        paired = share.scores(records, str(task))
        assert paired is not None, "it has rows"
        facts = {key: rows[key].iloc[0] for key in ("task", "classes", "full", "zero", "zero_is")}
        facts |= {"best_of_lora": share.best_of_lora(paired), "has_ranks": len(sides["rank"]) >= ninety.LEAST_RANKS}
        if nothing := update.gains(records, str(task)).get(0):
            facts |= {"uncut": 1 + nothing.mean / paired.brings.mean}
        tasks.append(facts | {side: enough[side] if len(sides[side]) else None for side in share.SIDES})
    return tasks


def _by_share(tasks: list[Numbers]) -> dict[float, Numbers]:
    """What each share would have said: on how many conditions LoRA keeps it from some rank on, and how many directions
    keep it on all of those that were cut (None where none was)."""
    by_share: dict[float, Numbers] = {of_share: {} for of_share in share.SHARES}
    for of_share, kept in product(share.SHARES, ("surely", "mean")):
        ranks = [getattr(task["rank"][of_share], kept) for task in tasks if task["rank"]]
        directions = [getattr(task["k"][of_share], kept) for task in tasks if task["k"]]
        by_share[of_share][f"ranks_{kept}"] = sum(rank is not None for rank in ranks)
        by_share[of_share][f"k_{kept}"] = None if None in directions else max(directions, default=None)
    return by_share


def _spectral(records: Records, measure: str) -> Numbers:
    """A measure of the full updates, over the conditions, beside that of noise of their shapes."""
    spectra = [update.spectral(records, task).set_index(["group", "measure"]) for task in records.conditions]
    rows: list[Any] = [of_task.loc[(update.ALL, measure)] for of_task in spectra]
    return {"means": [row["mean"] for row in rows], "nulls": [row["null"] for row in rows]}


def _is_answered_by_arms(records: Records) -> bool:
    """Whether each arm answers what a control asks: it has arms besides those of a size, or rates were chosen by log
    loss."""
    if records.declared.control_of is None:
        return False
    with_size = {arm.name for arm in (*records.protocol.ranked(), *records.protocol.ranked(DIMENSION))}
    arms = {arm.name for arm in records.protocol.arms} - {records.protocol.reference}
    return not arms <= with_size or records.protocol.chosen_by_loss is not None


def _arms(records: Records) -> list[Numbers]:
    """Each arm's difference from the reference, in every condition: in log loss where rates were chosen by it."""
    by_loss = records.protocol.chosen_by_loss is not None
    by_task = {task: comparison.gains(records, task, by_loss) for task in records.conditions}
    arms = []
    for arm in (arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference):
        gains = {task: by_task[task].get(arm) for task in by_task}
        shown = {task: None if gain is comparison.LOST else gain for task, gain in gains.items()}
        arms.append({"arm": arm, "gains": shown, "within": [_is_within(records, gain) for gain in gains.values()]})
    return arms


def _is_within(records: Records, gain: Interval | None) -> bool | None:
    """Whether an arm is surely within the margin, surely not, or neither (None)."""
    if gain is None or math.isnan(gain.low):
        return None
    return True if gain.low > -records.protocol.margin else False if gain.high < -records.protocol.margin else None


def _source(records: Records) -> Numbers:
    """What the page was written from."""
    lines = records.lines
    days = sorted(line["written"][:10] for line in lines)
    facts: Numbers = {"runs": len(lines), "trials": sum(line["config"]["measure"] == "trial" for line in lines)}
    facts |= {"diverged": sum(line["status"] == "diverged" for line in lines), "collapsed": collapsed(records)}
    return facts | {"hours": hours_of(lines), "days": sorted({days[0], days[-1]})}


def _limits(records: Records) -> Numbers:
    """What the study's numbers do not reach beyond."""
    lines = [line for line in records.lines if line["status"] == "completed"]
    tasks = records.conditions
    powers = [chances for task in tasks for chances in comparison.powers(records, task).values()]
    facts: Numbers = {"models": sorted({line["config"]["model"] for line in lines})}
    # of the base: an adapter adds to it
    sizes = [(line["config"]["model"], line["parameters"]["total"]) for line in lines]
    facts |= {"parameters": {model: min(size for of, size in sizes if of == model) for model in facts["models"]}}
    facts |= {"seeds": records.protocol.final_seeds, "edges": marked(records), "notes": notes(records)}
    facts |= {"powers": [[p for p in of_truth if not math.isnan(p)] for of_truth in zip(*powers, strict=True)]}
    shares = {task: share.scores(records, task) for task in tasks}
    by_seeds = [task for task, scores in shares.items() if scores and scores.examples < 2]
    facts |= {"by_seeds": [t for t in tasks if t in by_seeds or not comparison.covers_examples(records, t)]}
    facts |= {"memorised": [task for task in tasks if records.scored_on(task) == TRAINING]}
    finals = {task: next(iter(records.lines_in(task, "final")), {}) for task in tasks}
    facts |= {"grouped": [(task, line[GROUPS]) for task, line in finals.items() if len(set(line.get(GROUPS, ()))) > 1]}
    asked = of_tasks(records) if update.asks_how_low(records) else []
    facts |= {"on_validation": [ruling.task for ruling in asked if not ruling.on_test]}
    facts |= {"history": _history(records)}
    return facts | {"examples": sorted({line["inputs"]["examples"]["train"] for line in lines})}


def _history(records: Records) -> list[tuple[str, str, str, str]]:
    """What was added or changed after the first declaration: (kind, date, key, what)."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for entry in records.declared.history:
        for kind in ("added", "changed"):
            for key, value in entry.get(kind, {}).items():
                if key == "figures":  # which change no number
                    continue
                is_text = key in records.declared.texts  # it stands on the page
                grouped.setdefault((kind, entry["date"], key), []).append("" if is_text else _in_words(value))
    return [(*place, listed(filter(None, values))) for place, values in grouped.items()]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"Before: {_in_words(value['was'])}. Now: {_in_words(value['is'])}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value or "none").rstrip(".")
    return listed(value)


# ---- the tables beside a page


def tables(records: Records) -> dict[str, pd.DataFrame]:
    """The tables beside a study's page, by name. `scores`: every arm, its score and difference, and its power at the
    margin. `shares`: the smallest size that is enough for each share, and of subspaces for that
    share of full fine-tuning's own score. `by_base`: each base beside the first. `ranks`: r*, k* and the verdict, by
    type of matrix and at other margins. `spectra`: spectral ranks beside noise. `cuts`: what every changed update
    scores against the uncut one."""
    made = {"scores": every(records, _scores_of)}
    if (kept := share.table(records)) is not None:
        made["shares"] = (shares := pd.DataFrame(_shares_of(kept))).astype(dict.fromkeys(shares.columns[3:], "Int64"))
    if (sizes := ninety.table(records)) is not None:
        made["ninety"] = sizes
    if bases.is_of_bases(records):
        made["by_base"] = bases.by_base(records)
    if update.asks_how_low(records):
        made["ranks"] = pd.DataFrame(row for task in records.conditions for row in _ranks_of(records, task))
    if update.has_cuts(records):
        made["spectra"] = pd.DataFrame(row for task in records.conditions for row in _spectra_of(records, task))
        made["cuts"] = pd.DataFrame(row for task in records.conditions for row in _cuts_of(records, task))
    return made


def _scores_of(records: Records, task: str) -> pd.DataFrame:
    powers = comparison.powers(records, task)
    rows = comparison.table(records, task)
    chances = [powers.get(arm, (math.nan, math.nan)) for arm in rows["arm"]]
    return rows.assign(**dict(zip(("power", "power_at_half"), zip(*chances, strict=True), strict=True)))


def _shares_of(table: pd.DataFrame) -> Iterable[Numbers]:
    of_sides = table[table["side"].isin(share.SIDES)]
    for (task, side), rows in of_sides.groupby(["task", "side"], sort=False):
        for of_share in share.SHARES:
            enough = share.enough(rows, of_share)
            row = {"task": task, "side": side, "share": of_share}
            row |= {"surely": enough.surely, "mean": enough.mean, "low": enough.low}
            yield row | ({"of_full": share.enough_of_full(rows, of_share)} if side == "dimension" else {})


def _ranks_of(records: Records, task: str) -> Iterable[Numbers]:
    for ruling in rulings(records):
        if ruling.task == task:
            stars = {"r_star": ruling.r_star, "k_star": ruling.k_star, "r_star_by_loss": ruling.by_loss}
            place: Numbers = {"task": task, "matrices": ruling.module, "margin": records.protocol.margin}
            yield (
                place | {"verdict": ruling.verdict} | stars | {"k_star_on": "test" if ruling.on_test else "validation"}
            )
    for times in MARGINS:
        allowed = times * records.protocol.margin
        r_star, k_star, verdict = at_margin(records, task, allowed)
        place = {"task": task, "matrices": update.ALL, "margin": allowed, "verdict": verdict}
        yield place | {"r_star": r_star, "k_star": k_star}


def at_margin(records: Records, task: str, margin: float) -> tuple[Smallest | None, Smallest, str]:
    """r*, k* and the ruling, had that margin been declared."""
    r_star = comparison.enough(records, task, margin)
    k_star = update.functional_rank(records, task, margin=margin)
    solved = comparison.head_is_enough(records, task, margin)
    return r_star, k_star, rule([k_star, *([r_star] if r_star else [])], low_rank(records, task), solved)


def _spectra_of(records: Records, task: str) -> Iterable[Numbers]:
    nulls = update.structured(records, task)
    for values in update.spectral(records, task).to_dict("records"):
        row = {str(key): value for key, value in values.items()}
        measure = row["measure"] if row["group"] == update.ALL else ""  # the other nulls are means over all matrices
        yield row | {f"null_{name}": by_measure[measure] for name, by_measure in nulls.items() if measure in by_measure}


def _cuts_of(records: Records, task: str) -> Iterable[Numbers]:
    cuts = update.functional(records, task)
    for part, module in dict.fromkeys(zip(cuts["part"], cuts["module"], strict=True)):
        against = update.against(records, task, part, "cut") if module == update.ALL and part != "cut" else {}
        split = "test" if update.is_on_test(records, task, part, module) else "validation"
        for k, gain in update.gains(records, task, part, module).items():
            row = {"task": task, "part": part, "matrices": module, "k": k, "split": split}
            row |= {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}
            if over := against.get(k):
                row |= {"over_cut": over.mean, "over_cut_low": over.low, "over_cut_high": over.high}
            yield row

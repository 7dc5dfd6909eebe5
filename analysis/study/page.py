"""The numbers of a study's own page, `VERDICT.md`, and of `analysis/VERDICT.md` over all studies; the words stand in
`analysis/pages`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lorax_lab.record.direction import TRAINING, labelled, oriented

from ..pages import render
from ..variants import COLLAPSED
from . import comparison, margin, update
from .records import Records, collapsed, hours_of
from .statistics import Smallest
from .validator import breaches, marked
from .verdict import SAMPLE, answer, by_spectrum, interval_of, low_rank, of_tasks, reading, rule, rulings, sentences

MARGINS = (0.5, 1.0, 1.5)
"""Shares of the declared margin at which the verdict is ruled again, to show how much it depends on it."""
RULES_SINCE = "2026-11-26T20:45:00Z"
"""When the present rules were written; studies that began before were run under others."""
CONTROLS = ("random", "random_at_norm", "bottom_at_norm", "scaled")
"""What the update is replaced by in each control that has a k of its own; `random` is of the first edition."""
SHARED_SHOWN = (1, 8, 32)
Numbers = dict[str, Any]
"""What a template has by name."""


def write(records: Records, controls: Sequence[Records] = ()) -> str:
    """The whole page; of a comparison that is not fair, what is wrong with it and no verdict.

    Args:
        controls: the studies that are controls of this one.
    """
    return render("study.md", study=numbers(records, controls) | _details(records))


def write_all(studies: Sequence[Records], links: Mapping[str, str], damaged: Mapping[str, str] | None = None) -> str:
    """The document over all studies.

    Args:
        studies: the one of most tasks comes first, of as many the one that began last, but those that name figures of
            their own after those that have the standard ones; a control belongs to the study that it names, and follows
            it.
        links: to each study's page, by its name.
        damaged: why each study that is not here cannot be read, by its name.
    """
    names = {study.name for study in studies}
    controls = [study for study in studies if study.declared.control_of in names]
    main = sorted((study for study in studies if study not in controls), key=_leads, reverse=True)
    by_main = {study.name: [one for one in controls if one.declared.control_of == study.name] for study in main}
    rows = [row for study in main for one in (study, *by_main[study.name]) for row in _rows(one)]
    shown = [numbers(study, by_main[study.name]) for study in main]
    return render("overview.md", studies=shown, rows=rows, links=links, damaged=damaged or {})


def _leads(study: Records) -> tuple[bool, bool, int, str]:
    declared = study.declared
    return declared.figures is None, declared.has_answer, len(study.conditions), began(study)


def write_damaged(name: str, reason: str) -> str:
    """The page of a study that cannot be read."""
    return render("damaged.md", name=name, reason=reason)


def began(records: Records) -> str:
    """When the first of the study's runs was written; empty where it has none."""
    return min((str(line["written"]) for line in records.lines), default="")


def numbers(records: Records, controls: Sequence[Records]) -> Numbers:
    """What both pages say of a study; of one that is not fair, what is wrong with it."""
    facts: Numbers = {"name": records.name, "texts": _texts(records), "faults": breaches(records)}
    facts |= {"has_answer": records.declared.has_answer}
    if facts["faults"]:
        return facts
    facts |= {"answer": answer(records), "asked": update.asks_how_low(records), "cut": update.has_cuts(records)}
    facts |= {"reference": records.protocol.reference, "tasks": records.conditions, "margin": records.margin}
    facts |= {"seeds": records.protocol.final_seeds, "source": _source(records), "coverage": _coverage(records)}
    facts |= {"margins": [_margin(records, task) for task in records.conditions], "loss": _by_loss(records)}
    facts |= {"gaussian": _gaussian(records), "controls": [_control(control) for control in controls]}
    if facts["asked"]:
        lows = sorted({low_rank(records, task) for task in records.conditions})
        facts |= {"lows": lows, "low_share": records.declared.low_share, "rulings": rulings(records)}
        facts |= {"has_head": any(margin.head_arm(records, task) for task in records.conditions)}
        facts |= {"is_older": began(records) < RULES_SINCE, "spectrum": by_spectrum(records)}
    return facts


def _texts(records: Records) -> dict[str, str]:
    return {key: " ".join(text.split()) for key, text in records.declared.texts.items()}


def _source(records: Records) -> Numbers:
    """What the verdict was written from."""
    lines = records.lines
    days = sorted(line["written"][:10] for line in lines)
    facts: Numbers = {"runs": len(lines), "trials": sum(line["config"]["measure"] == "trial" for line in lines)}
    facts |= {"diverged": sum(line["status"] == "diverged" for line in lines), "collapsed": collapsed(records)}
    facts |= {"commits": sorted({str(line["git"]["commit"])[:10] for line in lines}), "hours": hours_of(lines)}
    return facts | {"days": sorted({days[0], days[-1]}), "trial_seeds": records.protocol.selection_seeds}


def _coverage(records: Records) -> Numbers:
    """Of which tasks the intervals cover the test examples, and where k* is decided."""
    tasks = records.conditions
    counted = [task for task in tasks if comparison.covers_examples(records, task)]
    facts: Numbers = {"examples": counted, "seeds": [task for task in tasks if task not in counted]}
    facts |= {"memorised": [task for task in tasks if records.scored_on(task) == TRAINING]}
    if update.asks_how_low(records):
        on_test = [task for task in tasks if update.is_on_test(records, task)]
        by_module = [task for task in on_test if update.modules(update.functional(records, task))]
        on_validation = [task for task in tasks if task not in on_test]
        facts |= {"on_test": on_test, "modules": by_module, "on_validation": on_validation}
    return facts


def _margin(records: Records, task: str) -> Numbers:
    """The margin as a share of what fine-tuning brings over the head alone, and the power of the study at it."""
    declared, scale = records.protocol.margin, records.scale(task)
    gain, pairs = margin.over_head(records, task), margin.powers(records, task).values()
    powers = [[power for power in chances if not math.isnan(power)] for chances in zip(*pairs, strict=True)]
    facts: Numbers = {"task": task, "over_head": gain, "share": gain and gain.share(declared), "powers": powers}
    return facts | {"amount": scale.amount(f"{declared:g}"), "half": scale.amount(f"{declared / 2:g}")}


def _by_loss(records: Records) -> Numbers:
    """The second endpoint, the log loss on test: the tasks that have it, its margin, and r* by it."""
    tasks = [task for task in records.conditions if comparison.compared(records, task, by_loss=True)]
    stars = {task: star for task in tasks if (star := comparison.enough_by_loss(records, task))}
    return {"tasks": tasks, "margin": records.protocol.loss_margin, "stars": stars}


def _spectral(records: Records, task: str) -> list[Numbers]:
    return [update.entry(update.spectral(records, task), measure) for measure in update.MEASURES]


def _gaussian(records: Records) -> list[Numbers]:
    """What the lab reads off Gaussian updates, and what they score in the place of the update, where there are any."""
    facts = []
    for task in records.conditions if update.has_cuts(records) else ():
        rows = [row for row in _spectral(records, task) if not pd.isna(row["gaussian"])]
        for gain in update.gains(records, task, "gaussian").values():
            facts.append({"task": task, "rows": rows, "gain": gain, "scale": records.scale(task)})
    return facts


def _control(control: Records) -> Numbers:
    """What a control says, task by task."""
    facts: Numbers = {"name": control.name, "texts": _texts(control), "faults": breaches(control)}
    facts |= {"cut": update.has_cuts(control)}
    if facts["faults"]:
        return facts
    if not facts["cut"]:
        return facts | {"answer": answer(control)}
    tasks = []
    for ruling in of_tasks(control):
        arms = comparison.table(control, ruling.task).to_dict("records")
        shown: Numbers = {"ruling": ruling, "arms": arms, "split": control.scored_on(ruling.task)}
        tasks.append(shown | {"rows": _spectral(control, ruling.task)})
    return facts | {"ranks": [arm.rank for arm in control.protocol.arms if arm.rank is not None], "tasks": tasks}


def _rows(study: Records) -> Iterable[Numbers]:
    """The rows of a study in the table over all."""
    is_fair = not breaches(study)
    facts: Numbers = {"study": study.name, "control_of": study.declared.control_of, "is_fair": is_fair}
    facts |= {"tasks": study.conditions, "ranks": [arm.rank for arm in study.protocol.ranked()]}
    if not is_fair:
        yield facts
        return
    by_task = {r.task: r for r in of_tasks(study)} if update.asks_how_low(study) else {}
    for task in study.conditions:
        yield facts | {"task": task, "ruling": by_task.get(task), "margin": _margin(study, task)}


def _details(records: Records) -> Numbers:
    """What a study's own page says besides."""
    if breaches(records):
        return {}
    facts: Numbers = {"sentences": sentences(records), "history": records.declared.history}
    facts |= {"arms": [_arms(records, task) for task in records.conditions], "limits": _limits(records)}
    facts |= {"threads": sorted({line["hardware"]["threads"] for line in records.lines})}
    facts |= {"cuts": [_cuts(records, task) for task in records.conditions] if update.has_cuts(records) else []}
    facts |= {"shared": None if records.shared is None else _shared(records.shared)}
    if update.asks_how_low(records):
        margins = [(task, share * records.protocol.margin) for task in records.conditions for share in MARGINS]
        changes = [(task, records.scale(task).amount(f"{m:g}"), *at_margin(records, task, m)) for task, m in margins]
        facts |= {"changes": changes, "edges": marked(records)}
    return facts


def _arms(records: Records, task: str) -> Numbers:
    """The table of arms of a task."""
    higher = records.higher_is_better(task)
    metric = next(str(line["metric"]) for line in records.of(task, "final") if "metric" in line)
    rows = comparison.table(records, task)
    facts: Numbers = {"task": task, "scored_on": records.scored_on(task), "metric": labelled(metric, higher)}
    facts |= {"half": oriented(-records.protocol.margin / 2, higher), "powers": margin.powers(records, task)}
    facts |= {"has_losses": "loss_difference" in rows, "collapsed": COLLAPSED if COLLAPSED in rows else ""}
    return facts | {"rows": rows.to_dict("records")}


def at_margin(records: Records, task: str, margin_: float) -> tuple[Smallest | None, Smallest, str]:
    """r*, k* and the ruling, had that margin been declared."""
    r_star = comparison.enough(records, task, margin_)
    k_star = update.functional_rank(records, task, margin=margin_)
    solved = margin.head_is_enough(records, task, margin_)
    return r_star, k_star, rule([k_star, *([r_star] if r_star else [])], low_rank(records, task), solved)


def _cuts(records: Records, task: str) -> Numbers:
    """The full update's spectral ranks on a task, and what its cuts score."""
    spectra, low, k = update.spectral(records, task), low_rank(records, task), _k_star(records, task)
    rows = [row | {"interval": interval_of(row)} for row in _spectral(records, task)]
    rows = [row | {"reading": reading(row["interval"], low)} for row in rows]
    counts = {measure: update.entry(spectra, measure) for measure in update.COUNTS}
    has_head = any(line["parameters"]["head"] for line in records.of(task, "final") if "parameters" in line)
    is_apart = update.is_on_test(records, task) != update.is_on_test(records, task, "remainder")
    facts: Numbers = {"task": task, "low": low, "rows": rows, "scale": records.scale(task), "k": k}
    facts |= {"counts": {measure: row["mean"] for measure, row in counts.items()}}
    facts |= {"matrices": counts["spikes"]["matrices"], "nulls": update.structured(records, task)}
    facts |= {"undefined": update.undefined(records, task)}
    facts |= {"names_head": has_head and update.changes_all(records, task)}
    facts |= {"without": update.gains(records, task)[0], "rest": update.gains(records, task, "remainder").get(k)}
    facts |= {"rest_split": ", on validation" if is_apart else "", "shrunk": update.shrunk(records, task)}
    return facts | {"controls": _controls_of_cut(records, task, k), "largest": _largest(records, task, k)}


def _k_star(records: Records, task: str) -> int:
    """0 where no cut is enough."""
    return update.functional_rank(records, task).size or 0


def _next(ranks: Iterable[int], k: int) -> int | None:
    """The smallest of the ranks that is not below k: a control has fewer of them than the cut."""
    return min((rank for rank in ranks if rank >= k), default=None) if k else None


def _controls_of_cut(records: Records, task: str, k: int) -> list[Numbers]:
    """What each control scores at the cut's k*, or at the next k that it has, against the whole update and the cut."""
    facts = []
    for part in CONTROLS:
        gains = update.gains(records, task, part)
        if (at := _next(gains, k)) is not None:
            cut = update.against(records, task, part, "cut")[at]
            k_star = update.functional_rank(records, task, part=part)
            facts.append({"part": part, "at": at, "whole": gains[at], "cut": cut, "k_star": k_star})
    return facts


def _largest(records: Records, task: str, k: int) -> Numbers | None:
    """The cut that keeps as many directions, the largest over all matrices, beside the one that keeps k in each."""
    over = update.against(records, task, "global", "cut")
    if (at := _next(over, k)) is None:
        return None
    in_each, of_all = (update.on_validation(records, task, part)[at] for part in ("cut", "global"))
    return {"at": at, "each": in_each, "of_all": of_all, "over": over[at]}


def _shared(table: pd.DataFrame) -> Numbers:
    """How many directions pairs of full updates have in common, in all matrices and by type."""
    everywhere, most = update.shared(table), int(table["k"].max())
    by_module: dict[str, dict[str, list[float]]] = {pair: {} for pair in dict.fromkeys(everywhere["pair"])}
    for name, rows in table[table["k"] == most].groupby("module", sort=False):
        for pair, common in update.shared(rows).groupby("pair", sort=False)["common"]:
            by_module[str(pair)][str(name)] = common.tolist()
    shown = everywhere[everywhere["k"].isin(SHARED_SHOWN)].to_dict("records")
    return {"rows": shown, "most": most, "by_module": by_module}


def _limits(records: Records) -> Numbers:
    """What the study's numbers do not reach beyond."""
    lines = [line for line in records.lines if line["status"] == "completed"]
    alphas = {line["config"]["method"].get("alpha") for line in lines} - {None}
    facts: Numbers = {"models": sorted({line["config"]["model"] for line in lines}), "alphas": sorted(alphas)}
    # of the base: an adapter adds to it
    facts |= {"parameters": min(line["parameters"]["total"] for line in lines), "word": records.condition_word}
    return facts | {"samples": any(map(SAMPLE.search, records.conditions)), "amounts": list(_amounts(records).items())}


def _amounts(records: Records) -> dict[tuple[int, int, int, int], list[str]]:
    """Training examples, passes, steps and test examples of the completed final runs, with the conditions that have
    them."""
    amounts: dict[tuple[int, int, int, int], list[str]] = {}
    for name in records.conditions:
        for line in (line for line in records.of(name, "final") if line["status"] == "completed"):
            examples, epochs = line["inputs"]["examples"], line["config"]["train"]["epochs"]
            names = amounts.setdefault((examples["train"], epochs, line["time"]["steps"], examples["test"]), [])
            if name not in names:
                names.append(name)
    return amounts

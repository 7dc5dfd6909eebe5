"""A study's own page, `VERDICT.md`: every number of it is taken from the records by this program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lorax_lab.store.direction import labelled

from ..variants import COLLAPSED
from . import comparison, findings, update
from .markdown import bullets, listed, short
from .markdown import table as markdown_table
from .records import Records, collapsed
from .statistics import smallest
from .validator import breaches, marked
from .verdict import LOW_SHARE, Ruling, answer, low_rank, rule, rulings

NOT_FAIR = "None: the comparison breaks its own protocol, or is not complete."
COMMON = "top directions that two seeds share beyond chance (columns, rows)"
UNREAD = "None: the study's declaration or records cannot be read."
MARGINS = (0.01, 0.02, 0.03)
"""At which the verdict is ruled again, to show how much it depends on the margin."""


def write(records: Records, controls: Sequence[Records] = ()) -> str:
    """The whole page; of a comparison that is not fair, what is wrong with it and no verdict.

    Args:
        controls: the studies that are controls of this one.
    """
    parts = [f"# Verdict: {records.name}", " ".join(records.declared.texts["question"].split())]
    if faults := breaches(records):
        return "\n\n".join([*parts, f"**{NOT_FAIR}**", *bullets(faults)]) + "\n"
    cut = update.has_cuts(records)
    parts += [f"**{answer(records)}**", source(records), *_growth(records)]
    if cut:
        parts += ["## Is it low?", low_rule(records), rulings_table(rulings(records))]
    parts += [f"## The arms against {records.protocol.reference}", *_arms(records)]
    if cut:
        parts += ["## What the full update looks like, and what is left when it is cut", *findings.cuts(records)]
    if records.shared is not None:
        parts += ["## What full updates have in common", *findings.shared(records.shared)]
    if stated := findings.controls(records, controls):
        parts += ["## Controls", *stated]
    parts += ["## What was predicted", f"> {' '.join(records.declared.texts['prediction'].split())}"]
    if cut:
        parts += ["## What would change the verdict", *_changes(records)]
    parts += ["## Limits", *_limits(records)]
    return "\n\n".join(parts) + "\n"


def of_damaged(name: str, reason: str) -> str:
    """The page of a study that cannot be read."""
    return "\n\n".join([f"# Verdict: {name}", f"**{UNREAD}**", *bullets([reason])]) + "\n"


def source(records: Records) -> str:
    """What the verdict was written from, and that no breach of the protocol was found."""
    lines, protocol = records.lines, records.protocol
    trials = sum(line["config"]["measure"] == "trial" for line in lines)
    diverged = sum(line["status"] == "diverged" for line in lines)
    days = sorted(line["written"][:10] for line in lines)
    flagged = f" {note[:1].upper()}{note[1:]}." if (note := collapsed(records)) else ""
    commits = sorted({str(line["git"]["commit"])[:10] for line in lines})
    return (
        f"Written by `python -m analysis verdict` from {len(lines)} recorded runs ({trials} learning-rate trials, "
        f"{len(lines) - trials} final runs, {diverged} diverged) of commit {listed(commits)}, "
        f"{' to '.join(sorted({days[0], days[-1]}))}.{flagged} "
        f"No breach of the protocol was found: every arm had the same number of trials with seeds "
        f"{listed(protocol.selection_seeds)}, chosen on validation, and was then run with the fresh seeds "
        f"{listed(protocol.final_seeds)}; the test split was read once by each of these. Intervals are 95 %; those in "
        f"brackets are Student's over the seeds unless said otherwise."
    )


def _growth(records: Records) -> list[str]:
    entries = [
        f"{entry['date']}: " + "; ".join(f"{key}: {_value(value)}" for key, value in entry["added"].items())
        for entry in records.declared.history
    ]
    return ["Added after the first declaration:", *bullets(entries)] if entries else []


def _value(value: Any) -> str:
    return listed(value) if isinstance(value, list) else str(value)


def low_rule(records: Records) -> str:
    """What r*, k* and the three verdicts mean."""
    low = {task: low_rank(records, task) for task in records.conditions}
    return (
        f"These rules were declared before the first final run. A score is matched if it is not worse by more than "
        f"{records.protocol.margin:g}. A rank is low up to {LOW_SHARE:g} of a matrix's smaller side, here "
        f"{listed(sorted(set(low.values())))}. r* is the smallest rank from which on LoRA matches full fine-tuning on "
        "the test split. k* is the smallest number of directions to which the full update can be cut without losing "
        "the whole update's validation score; it is cut in all matrices at once, or in one type of matrix alone. "
        "*Supported*: every such rank is surely low. *Not supported*: one surely is not. *Undecided*: neither is sure, "
        "or the score without any update of these matrices (k = 0) is not surely short of a match, so that it tells no "
        "rank from another. The last rule was added when the first full fine-tunes were seen; it can only take a "
        "support away. The spectrum's own ranks stand beside those of noise of the same shape."
    )


def rulings_table(of_study: list[Ruling]) -> str:
    """One row per task and type of matrix; where updates of two seeds were compared, what they share."""
    rows: list[list[str]] = []
    compared = any(r.common for r in of_study)
    for r in of_study:
        spectrum = f"{short(r.effective)}; noise {r.null:.1f}"
        r_star = str(r.r_star) if r.r_star else "—"
        module = "all matrices" if r.module == update.ALL else f"`{r.module}`"
        common = [f"{r.common[1]:.1f} and {r.common[2]:.1f} of {r.common[0]}" if r.common else "—"] if compared else []
        rows.append([r.task, module, r.verdict, r_star, str(r.k_star), spectrum, *common])
    headings = ["task", "matrices", "low rank", "r*", "k*", "effective rank"]
    return markdown_table([*headings, *([COMMON] if compared else [])], rows)


def _arms(records: Records) -> list[str]:
    parts = []
    for task in records.conditions:
        headings = [
            "arm",
            "learning rate",
            f"test {_metric(records, task)}",
            f"difference from {records.protocol.reference}",
        ]
        headings += ["with other test examples", "p (Holm)", "matches"]
        headings += ["trained, head apart", "peak MiB", "seconds", "diverged"]
        arms = comparison.table(records, task)
        headings += [COLLAPSED] if COLLAPSED in arms else []
        rows = [_arm(row) for row in arms.to_dict("records")]
        parts += [f"**{task}**, {len(records.protocol.final_seeds)} seeds:", markdown_table(headings, rows)]
    threads = records.lines[0]["hardware"]["threads"]
    parts += [
        "The second interval draws seeds and test examples anew (bootstrap). Seconds are medians on "
        f"{threads} threads of a shared machine."
    ]
    return parts


def _arm(row: Any) -> list[str]:
    cells = [row["arm"], f"{row['learning_rate']:g}" + (" (edge)" if row["at_edge"] else "")]
    cells += [f"{row['test']:.4f} [{row['test_low']:.4f}, {row['test_high']:.4f}]"]
    if math.isnan(row["difference"]):
        cells += ["—"] * 4
    else:
        cells += [f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"]
        cells += [f"[{row['boot_low']:+.4f}, {row['boot_high']:+.4f}]", f"{row['p_holm']:.3f}"]
        cells += ["yes" if row["matches"] else "no"]
    cells += [f"{row['trained_body']:,}", f"{row['peak_mib']:,.0f}", f"{row['train_seconds']:.0f}"]
    return [*cells, str(row["diverged"]), *([str(row[COLLAPSED])] if COLLAPSED in row else [])]


def _changes(records: Records) -> list[str]:
    rows = []
    for task in records.conditions:
        low, by_rank = low_rank(records, task), comparison.by_rank(records, task)
        for margin in MARGINS:
            stars = [smallest({rank: pair[kind] for rank, pair in by_rank.items()}, margin) for kind in (0, 1)]
            evidence = [*stars, update.functional_rank(records, task, margin=margin)]
            rows.append([task, f"{margin:g}", *map(str, evidence), rule(evidence, low)])
    headings = ["task", "margin", "r*", "r*, test examples drawn anew", "k*", "low rank"]
    parts = ["The verdict at other margins than the declared one:", markdown_table(headings, rows)]
    if edges := marked(records):
        parts += ["Arms whose best learning rate stands at the edge of what was tried, and which may be short of it:"]
        parts += bullets(edges)
    return parts


def _limits(records: Records) -> list[str]:
    lines = [line for line in records.lines if line["status"] == "completed"]
    models = sorted({line["config"]["model"] for line in lines})
    total = min(line["parameters"]["total"] for line in lines)  # of the base: an adapter adds to it
    train = sorted({line["inputs"]["examples"]["train"] for line in lines})
    tested = sorted({line["inputs"]["examples"]["test"] for line in lines})
    epochs = sorted({line["config"]["train"]["epochs"] for line in lines})
    steps = sorted({line["time"]["steps"] for line in lines})
    limits = [
        f"{len(models)} base model{'s' * (len(models) > 1)} ({listed(models)}, {total / 1e6:.1f} M parameters) and "
        f"{len(records.conditions)} task{'s' * (len(records.conditions) > 1)} ({listed(records.conditions)}): nothing "
        "is said of other models, sizes or tasks.",
        f"{_counts(train)} training examples, epochs: {_counts(epochs)}, steps: {_counts(steps)}. A longer training "
        "may need more directions.",
        f"{len(records.protocol.final_seeds)} seeds and {_counts(tested)} test examples of one split. Student's "
        "intervals hold for other seeds on this split, the bootstrap's for other test examples too.",
    ]
    alphas = sorted({alpha for line in lines if (alpha := line["config"]["method"].get("alpha")) is not None})
    if len(alphas) == 1:
        limits.append(
            f"LoRA's alpha is {alphas[0]:g} at every rank; only the learning rate is tuned, for every arm alike."
        )
    return bullets(limits)


def _counts(numbers: list[int]) -> str:
    return listed(f"{number:,}" for number in numbers)


def _metric(records: Records, task: str) -> str:
    name = next(str(line["metric"]) for line in records.of(task, "final") if "metric" in line)
    return labelled(name, records.higher_is_better(task))

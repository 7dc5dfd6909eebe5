"""A study's own page, `VERDICT.md`: every number of it is taken from the records by this program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lorax_lab.record.direction import labelled, oriented

from ..variants import COLLAPSED
from . import comparison, findings, margin, rules, update
from .margin import head_is_enough
from .markdown import bold, bullets, listed, probability, short
from .markdown import table as markdown_table
from .records import Records, collapsed, hours_of
from .statistics import Smallest
from .validator import breaches, marked, notes
from .verdict import SAMPLE, Ruling, answer, low_rank, rule, rulings, sentences, spectrum_line

NOT_FAIR = "None: the comparison breaks its own protocol, or is not complete."
COMMON = "top directions that two seeds share beyond chance (columns, rows)"
UNREAD = "None: the study's declaration or records cannot be read."
MARGINS = (0.5, 1.0, 1.5)
"""Shares of the declared margin at which the verdict is ruled again, to show how much it depends on it."""
LOSS = "loss_difference"
SHARED_TOO = (
    "Full updates of labels drawn at random share about as many of their first 32 and 64 directions "
    "(`paper_subspaces`): sharing so many is no sign of a task."
)


def write(records: Records, controls: Sequence[Records] = ()) -> str:
    """The whole page; of a comparison that is not fair, what is wrong with it and no verdict.

    Args:
        controls: the studies that are controls of this one.
    """
    parts = [f"# Verdict: {records.name}", " ".join(records.declared.texts["question"].split())]
    if faults := breaches(records):
        return "\n\n".join([*parts, f"**{NOT_FAIR}**", *bullets(faults)]) + "\n"
    cut, asked = update.has_cuts(records), update.asks_how_low(records)
    parts += [bold(answer(records)), *(bullets(told) if (told := sentences(records)) else []), source(records)]
    parts += [*(bullets(said) if (said := notes(records)) else []), *_growth(records)]
    if asked:
        parts += ["## Is it low?", *ruled(records)]
    parts += [f"## The arms against {records.protocol.reference}", *compared(records), *_arms(records)]
    if cut:
        parts += ["## What the full update looks like, and what is left when it is cut", *findings.cuts(records)]
    if records.shared is not None:
        parts += ["## What full updates have in common", *findings.shared(records.shared)]
    if stated := findings.controls(records, controls):
        parts += ["## Controls", *stated]
    parts += ["## What was predicted", f"> {' '.join(records.declared.texts['prediction'].split())}"]
    if asked:
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
        f"{' to '.join(sorted({days[0], days[-1]}))}; their times add up to "
        f"{hours_of(lines)}.{flagged} "
        f"No breach of the protocol was found: every arm had the same number of trials with "
        f"seed{'s' * (len(protocol.selection_seeds) > 1)} {listed(protocol.selection_seeds)}, chosen on validation, "
        f"and was then run with the fresh seeds {listed(protocol.final_seeds)}; the test split was read once by each "
        f"of these for its own score. {rules.intervals_rule(records)}"
    )


def _growth(records: Records) -> list[str]:
    parts = []
    for kind, title in (
        ("added", "Added after the first declaration:"),
        ("changed", "Changed after the first declaration:"),
    ):
        entries = [
            f"{entry['date']}: " + "; ".join(f"{key}: {_value(value)}" for key, value in entry[kind].items())
            for entry in records.declared.history
            if entry.get(kind)
        ]
        parts += [title, *bullets(entries)] if entries else []
    return parts


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"was {_value(value['was'])}, is {_value(value['is'])}"
    return listed(value) if isinstance(value, list) else str(value or "none")


def ruled(records: Records) -> list[str]:
    """What is ruled of a study whose full updates were cut: the rules, the rulings, and what the spectrum says."""
    found = rulings(records)
    caveat = [SHARED_TOO] if any(ruling.common for ruling in found) else []
    return [rules.low_rule(records), rulings_table(found), *caveat, spectrum_line(records)]


def compared(records: Records) -> list[str]:
    """What the comparisons of arms rest on: margin, power, and the second endpoint."""
    return [text for text in (rules.margin_rule(records), *rules.second_endpoint(records)) if text]


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
        half = oriented(-records.protocol.margin / 2, records.higher_is_better(task))
        headings = ["arm", "learning rate", f"{records.scored_on(task)} {_metric(records, task)}"]
        headings += [
            f"difference from {records.protocol.reference}",
            "p (Holm)",
            "matches",
            f"power at 0, at {half:+g}",
        ]
        arms, powers = comparison.table(records, task), margin.powers(records, task)
        headings += ["difference in log loss"] if LOSS in arms else []
        headings += ["trained, head apart", "peak MiB", "seconds", "diverged"]
        headings += [COLLAPSED] if COLLAPSED in arms else []
        rows = [_arm(row, powers.get(row["arm"])) for row in arms.to_dict("records")]
        parts += [f"**{task}**, {len(records.protocol.final_seeds)} seeds:", markdown_table(headings, rows)]
    threads = sorted({line["hardware"]["threads"] for line in records.lines})
    return [*parts, f"Seconds are medians; processes had {listed(threads)} thread{'s' * (threads != [1])}."]


def _arm(row: Any, powers: tuple[float, float] | None) -> list[str]:
    cells = [row["arm"], f"{row['learning_rate']:g}" + (" (edge)" if row["at_edge"] else "")]
    lost = math.isnan(row["test"])  # a final run diverged
    cells += ["—" if lost else f"{row['test']:.4f} [{row['test_low']:.4f}, {row['test_high']:.4f}]"]
    if powers is None:
        cells += ["—", "—", "no" if lost else "—", "—"]
    else:
        cells += [_signed(row, "difference"), probability(row["p_holm"]), "yes" if row["matches"] else "no"]
        cells += [", ".join(f"{power:.2f}" for power in powers)]
    if LOSS in row:
        cells += ["—" if powers is None else _signed(row, LOSS)]
    cells += [f"{row['trained_body']:,}", f"{row['peak_mib']:,.0f}", f"{row['train_seconds']:.0f}"]
    return [*cells, str(row["diverged"]), *([str(row[COLLAPSED])] if COLLAPSED in row else [])]


def _signed(row: Any, key: str) -> str:
    return f"{row[key]:+.4f} [{row[f'{key}_low']:+.4f}, {row[f'{key}_high']:+.4f}]"


def at_margin(records: Records, task: str, margin: float) -> tuple[Smallest | None, Smallest, str]:
    """r*, k* and the ruling, had that margin been declared."""
    r_star, k_star = comparison.enough(records, task, margin), update.functional_rank(records, task, margin=margin)
    solved = head_is_enough(records, task, margin)
    return r_star, k_star, rule([k_star, *([r_star] if r_star else [])], low_rank(records, task), solved)


def _changes(records: Records) -> list[str]:
    rows = []
    for task in records.conditions:
        for share in MARGINS:
            other = records.protocol.margin * share
            r_star, k_star, ruling = at_margin(records, task, other)
            rows.append([task, records.scale(task).amount(f"{other:g}"), str(r_star or "—"), str(k_star), ruling])
    parts = ["The verdict at half the declared margin, at the declared one, and at one and a half of it:"]
    parts += [markdown_table(["task", "margin", "r*", "k*", "low rank"], rows)]
    if edges := marked(records):
        parts += ["Arms whose best learning rate stands at the edge of what was tried, and which may be short of it:"]
        parts += bullets(edges)
    return parts


def _limits(records: Records) -> list[str]:
    lines = [line for line in records.lines if line["status"] == "completed"]
    models = sorted({line["config"]["model"] for line in lines})
    total = min(line["parameters"]["total"] for line in lines)  # of the base: an adapter adds to it
    tasks = len(records.conditions)
    words = f"{records.condition_word}{'s' * (tasks > 1)} {listed(records.conditions)}"
    samples = any(SAMPLE.search(name) for name in records.conditions)
    splits = "one split of each task, but where a condition is another sample of it" if samples else "one split"
    limits = [
        f"The base is {listed(models)} ({total / 1e6:.1f} M parameters), the {words}: nothing is said of other models, "
        "sizes or tasks.",
        f"{_amounts(records)}. A longer training may need more directions.",
        f"{len(records.protocol.final_seeds)} seeds and {splits}. What an interval does not cover, other seeds or "
        "other test examples, is said above.",
    ]
    if tasks > 1:
        limits.append("Every interval is of one task or condition by itself: none is corrected for their number.")
    alphas = sorted({alpha for line in lines if (alpha := line["config"]["method"].get("alpha")) is not None})
    if len(alphas) == 1:
        limits.append(
            f"LoRA's alpha is {alphas[0]:g} at every rank; only the learning rate is tuned, for every arm alike."
        )
    return bullets(limits)


def _amounts(records: Records) -> str:
    """Examples, passes and steps of the completed final runs, with the conditions' names where they differ."""
    of: dict[str, list[str]] = {}
    for name in records.conditions:
        for line in (line for line in records.of(name, "final") if line["status"] == "completed"):
            examples, epochs = line["inputs"]["examples"], line["config"]["train"]["epochs"]
            told = f"{examples['train']:,} training examples, {epochs} pass{'es' * (epochs > 1)}"
            text = f"{told} ({line['time']['steps']:,} steps), {examples['test']:,} test examples"
            if name not in of.setdefault(text, []):
                of[text].append(name)
    return "; ".join(text if len(of) == 1 else f"{listed(names)}: {text}" for text, names in of.items())


def _metric(records: Records, task: str) -> str:
    name = next(str(line["metric"]) for line in records.of(task, "final") if "metric" in line)
    return labelled(name, records.higher_is_better(task))

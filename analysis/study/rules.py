"""What a page says about the rules behind its verdict: margin, intervals, splits, power, the second endpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lorax_lab.record.scored import TRAINING

from . import comparison, margin, update
from .markdown import listed
from .records import Records
from .verdict import low_rank

RULES_SINCE = "2026-11-26T20:45:00Z"
"""When the present rules were written; studies that began before were run under others."""


def low_rule(records: Records) -> str:
    """What r*, k* and the three verdicts mean."""
    low = {task: low_rank(records, task) for task in records.conditions}
    share = f"{records.declared.low_share:g} of a matrix's smaller side"
    text = (
        f"A score is matched if it is surely not worse by more than the margin, {records.margin}. A rank is "
        f"low up to {share}, here {listed(sorted(set(low.values())))}. r* is the "
        "smallest rank from which on LoRA matches full fine-tuning on the test split. k* is the smallest number of "
        "directions to which the full update can be cut so that it matches the whole one; it is cut in all matrices at "
        "once, or in one type of matrix alone. *Supported*: every such rank is surely low. *Not supported*: one surely "
        "is not. *Undecided*: neither is sure, or the score without any update of these matrices (k = 0) is not surely "
        "short of a match, so that it tells no rank from another."
    )
    if any(margin.head_arm(records, task) for task in records.conditions):
        text += (
            " So it is where the head alone is not surely short of a match; this was added on 2026-11-28, and can only "
            "take a verdict away."
        )
    if began(records) < RULES_SINCE:
        text += (
            " Margin and low share were declared before the first final run. Two rules are newer: intervals cover the "
            "test examples, where they were Student's over the seeds alone, and a match at k = 0 makes a verdict "
            "undecided (added when the first full fine-tunes of the rank study were seen). Both can only take a "
            "verdict away."
        )
    return text


def began(records: Records) -> str:
    """When the first of the study's runs was written; empty where it has none."""
    return min((str(line["written"]) for line in records.lines), default="")


def intervals_rule(records: Records) -> str:
    """What the intervals cover, and on which examples r* and k* are decided."""
    text = "Intervals are 95 %, Student's over the seeds unless said otherwise."
    counted = [task for task in records.conditions if comparison.covers_examples(records, task)]
    seeds_alone = [task for task in records.conditions if task not in counted]
    if counted:
        text += (
            f" The interval of a difference on test{_on(records, counted)} covers other seeds and other test examples "
            "(crossed components of variance, each with Student's quantile of its own)."
        )
    if seeds_alone:
        text += (
            f" The interval of a difference on test{_on(records, seeds_alone)} covers the seeds alone, since its score "
            "is no sum over examples, or its runs kept none of their answers: another test split may decide otherwise."
        )
    if memorised := [task for task in records.conditions if records.scored_on(task) == TRAINING]:
        text += (
            f" The validation and test examples{_on(records, memorised)} are the training examples (task.memorise): "
            "every score is of these, wherever validation or test stands."
        )
    if not update.asks_how_low(records):
        return text
    on_test = [task for task in records.conditions if update.is_on_test(records, task)]
    others = [task for task in records.conditions if task not in on_test]
    if on_test:
        text += (
            f" k*{_on(records, on_test)} has the same margin, split and interval as r*: it is decided on test examples "
            "that chose nothing."
        )
    if others:
        text += (
            f" k*{_on(records, others)} is decided on validation, which chose the learning rates too, by an interval "
            "that covers the seeds alone, since the score is no sum over examples, or the runs kept no answers of "
            "their cuts on test."
        )
    if on_test and any(update.modules(update.functional(records, task)) for task in on_test):
        text += " The k* of one type of matrix is decided on validation, by an interval that covers the seeds alone."
    return text


def margin_rule(records: Records) -> str:
    """The margin as a share of what fine-tuning brings over the head alone, and the power of the study at it."""
    parts = []
    for task in records.conditions:
        if found := margin.over_head(records, task):
            share = found.share(records.protocol.margin)
            scale = records.scale(task)
            of = f"On {task} the margin of {scale.amount(f'{records.protocol.margin:g}')} is"
            if share is None:
                parts.append(f"{of} no share of what {found.brought}: {found.gain} is not surely above 0.")
            else:
                parts.append(f"{of} {100 * share:.0f} % of the {found.gain} that {found.brought}.")
        else:
            parts.append(f"On {task} no run stands for the head alone, so that the margin is no share of anything.")
        if chances := margin.powers(records, task).values():
            half = records.scale(task).amount(f"{records.protocol.margin / 2:g}")
            same, worse = ([pair[kind] for pair in chances] for kind in (0, 1))
            parts.append(
                f"With these {len(records.protocol.final_seeds)} seeds the chance to find an arm within the margin, "
                f"had it the components of variance that the arms on {task} have, is {_range(same)} at a true "
                f"difference of 0, and {_range(worse)} where it is {half} worse."
            )
    return " ".join(parts)


def second_endpoint(records: Records) -> list[str]:
    """What is said of the log loss on test; nothing where it was neither declared nor kept."""
    declared = records.protocol.loss_margin
    with_losses = [task for task in records.conditions if comparison.compared_losses(records, task)]
    if not with_losses:
        lacking = "was declared for the log loss, and the runs kept no log losses of their test examples"
        return [] if declared is None else [f"A margin of {declared:g} nats {lacking}: nothing is said of it."]
    text = f"The second endpoint is the log loss on test{_on(records, with_losses)}, in nats, lower is better. "
    if declared is None:
        return [text + "No margin was declared for it, so that it is only reported."]
    stars = [(task, comparison.enough_by_loss(records, task)) for task in with_losses]
    by_task = [f"{task}: r* = {star}" for task, star in stars if star]
    found = f" By it, {'; '.join(by_task)}." if by_task else ""
    return [f"{text}Its own margin, declared before the runs, is {declared:g}.{found}"]


def share_of(records: Records, task: str) -> str:
    """The margin's share in a table's cell, marked where no head was trained alone; a dash where there is none."""
    found = margin.over_head(records, task)
    share = found.share(records.protocol.margin) if found else None
    return (
        "—" if not found or share is None else f"{100 * share:.0f} %" + (f" ({found.instead})" if found.instead else "")
    )


def _on(records: Records, tasks: list[str]) -> str:
    """`on a and b`, where these are not all conditions."""
    return "" if len(tasks) == len(records.conditions) else f" on {listed(tasks)}"


def _range(chances: Iterable[float]) -> str:
    known = [chance for chance in chances if not math.isnan(chance)]
    if not known:
        return "unknown"
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{low} to {high}"

"""What a page says about the full update itself, and about the study's controls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from . import comparison, update
from .markdown import bullets, listed
from .markdown import table as markdown_table
from .records import Records
from .statistics import Interval
from .validator import breaches
from .verdict import Ruling, answer, low_rank, of_tasks, reading

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = {
    "random": "k directions drawn at random",
    "random_at_norm": "k directions drawn at random, at the cut's norm,",
    "bottom_at_norm": "the last k directions, at the cut's norm,",
    "scaled": "all directions, shrunk to the cut's norm,",
}
"""What the update is replaced by in each control that has a k of its own; `random` is of the first edition."""
STRUCTURED = {
    "scaled": "noise with its rows' and columns' scales",
    "signs": "its entries, signs drawn",
    "permuted": "its entries, permuted",
}
"""The nulls that keep something of the update, where a run measured them."""
NONE = "—"
REST = "remainder"
SHARED_SHOWN = (1, 8, 32)


def cuts(records: Records) -> list[str]:
    """The full update's spectral ranks, and what its cuts score, condition by condition."""
    parts = []
    for task in records.conditions:
        spectra, low, rows = update.spectral(records, task), low_rank(records, task), []
        nulls = update.structured(records, task)
        for measure in update.MEASURES:
            row = update.entry(spectra, measure)
            value, share = (
                f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]",
                f"{row['mean'] / row['null']:.2f}",
            )
            says = reading(Interval(row["mean"], row["low"], row["high"], row["seeds"]), low)
            value, share, says = (NONE, NONE, NONE) if math.isnan(row["mean"]) else (value, share, says)
            structured = [NONE if math.isnan(x := of_null[measure]) else f"{x:.1f}" for of_null in nulls.values()]
            rows.append([measure.replace("_", " "), value, f"{row['null']:.1f}", share, *structured, says])
        parts += [f"**{task}**, mean over {update.entry(spectra, 'spikes')['matrices']} matrices:"]
        headings = ["measure", "full update", "noise of the same shape", "share of noise"]
        headings += [*(STRUCTURED[name] for name in nulls), f"by the line of {low}"]
        parts += [markdown_table(headings, rows), _sentence(records, task, spectra)]
        parts += [f"Measures have no value where a matrix has none: {why}." for why in update.undefined(records, task)]
    return parts


def _sentence(records: Records, task: str, spectra: pd.DataFrame) -> str:
    norm, above, spikes, misfit = (
        update.entry(spectra, measure)["mean"]
        for measure in ("relative_norm", "above_rounding", "spikes", "bulk_misfit")
    )
    text = (
        f"On {task} the update is {norm:.4f} of ‖W₀‖ on average. Of its singular values {above:.0f} lie above fp32's "
        f"rounding. {_above_noise(spikes, misfit)} "
    )
    scale = records.scale(task)
    has_head = any(line["parameters"]["head"] for line in records.of(task, "final") if "parameters" in line)
    rest = "head, embeddings and biases" if has_head and update.changes_all(records, task) else "all else"
    text += f"Without it (k = 0, {rest} as trained) the model {scale.change(update.gains(records, task)[0])}. "
    k = update.functional_rank(records, task).size
    left = update.gains(records, task, REST).get(k or 0)
    if k and left is not None:
        split = ", on validation" if update.is_on_test(records, task) != update.is_on_test(records, task, REST) else ""
        text += f"What is left without the top k* = {k} direction{'s' * (k > 1)} {scale.change(left)}{split}. "
    if not k:
        return f"{text}{_smaller(records, task)}".strip()
    for part, name in CONTROLS.items():
        at = update.gains(records, task, part)
        if (beside := _next(at, k)) is not None:
            other = update.functional_rank(records, task, part=part)
            where = "At that k" if beside == k else f"At k = {beside}"
            whole, cut = at[beside], update.against(records, task, part, "cut")[beside]
            both = f"{scale.against(whole, 'the whole')} and {scale.against(cut, 'the cut')}"
            text += f"{where}, {name} {scale.verbs[1]} {both}, on validation; their own k* is {other}. "
    return f"{text}{_of_all_matrices(records, task, k)}{_smaller(records, task)}".strip()


def _next(ranks: Iterable[int], k: int) -> int | None:
    """The smallest of the ranks that is not below k: a control has fewer of them than the cut."""
    return min((rank for rank in ranks if rank >= k), default=None)


def _of_all_matrices(records: Records, task: str, k: int) -> str:
    """The cut that keeps as many directions, the largest over all matrices, beside the one that keeps k in each."""
    over_all = update.against(records, task, "global", "cut")
    if (beside := _next(over_all, k)) is None:
        return ""
    change = records.scale(task).change
    each, of_all = (update.on_validation(records, task, part)[beside] for part in ("cut", "global"))
    return (
        f"At k = {beside}, on validation, the model {change(each)} with the top k directions of each matrix, and "
        f"{change(of_all)} with as many in all, the largest over all matrices; by the second choice it "
        f"{change(over_all[beside])}. "
    )


def _smaller(records: Records, task: str) -> str:
    """The share of the whole update that scores best, against the whole."""
    tried = update.shrunk(records, task)
    if not tried:
        return ""
    best = max(tried, key=lambda percent: tried[percent].mean)
    gain, scale = tried[best], records.scale(task)
    kept = f" ({scale.difference(gain)})" if gain.low <= 0 <= gain.high else ""
    return (
        f"Of {listed(tried)} % of the update in every matrix, {best} % is best: the model {scale.change(gain)}{kept} "
        f"against 100 %, on validation, where it is chosen too (the interval holds for all {len(tried)} at once)."
    )


def _above_noise(spikes: float, misfit: float) -> str:
    distance = f"Kolmogorov–Smirnov distance from iid noise is {misfit:.2f}"
    if math.isnan(spikes):
        return f"How many stand above noise is not told: the bulk's {distance}, more than twice that of such noise."
    return f"Above the edge of the noise fitted to the bulk stand {spikes:.0f}; the bulk's {distance}."


def shared(table: pd.DataFrame) -> list[str]:
    """How many directions pairs of full updates have in common."""
    everywhere = update.shared(table)
    rows = []
    for row in everywhere[everywhere["k"].isin(SHARED_SHOWN)].to_dict("records"):
        similarity = f"{row['similarity']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        cells = [row["pair"], str(row["k"]), str(row["side"]), similarity, f"{row['random']:.3f}"]
        rows.append([*cells, f"{row['common']:.1f}", str(row["pairs"])])
    headings = ["pair", "k", "space", "φ(k, k)", "random", "in common beyond chance", "pairs"]
    most = int(table["k"].max())
    of_modules = {
        name: update.shared(table[(table["module"] == name) & (table["k"] == most)])
        for name in dict.fromkeys(table["module"])
    }
    text = (
        "How much of their top k directions two full updates share, mean over matrices (the pairs share runs, which "
        "their intervals leave out). Random subspaces share k / d; what lies beyond that is counted in directions."
    )
    by_module = [
        f"{pair}: " + ", ".join(f"`{name}` {_both(table, pair)}" for name, table in of_modules.items())
        for pair in dict.fromkeys(everywhere["pair"])
    ]
    return [
        text,
        markdown_table(headings, rows),
        f"By type of matrix, of the top {most} directions of the column and of the row space beyond chance:",
        *bullets(by_module),
    ]


def _both(table: pd.DataFrame, pair: str) -> str:
    rows = table[table["pair"] == pair].set_index("side")["common"]
    return f"{rows['column']:.1f} and {rows['row']:.1f}"


def controls(records: Records, others: Sequence[Records]) -> list[str]:
    """Gaussian updates where they were measured, and the studies that are controls of this one."""
    parts = []
    for task in records.conditions if update.has_cuts(records) else ():
        spectra, scale = update.spectral(records, task), records.scale(task)
        rows = [update.entry(spectra, measure) for measure in update.MEASURES]
        measured = [
            f"{row['measure'].replace('_', ' ')} {row['gaussian']:.1f} (null {row['null']:.1f})"
            for row in rows
            if row["gaussian"] is not None and not math.isnan(row["gaussian"])
        ]
        for gain in update.gains(records, task, "gaussian").values():
            parts += [
                f"**Gaussian ΔW** of equal norm, {task}: the lab reads off it {', '.join(measured)}; in the place of "
                f"the update it {scale.verbs[0]} {scale.against(gain, 'the whole')}."
            ]
    for other in others:
        parts += _of_control(other)
    return parts


def _of_control(other: Records) -> list[str]:
    faults = breaches(other)
    if faults:
        heading = "the comparison breaks its own protocol, or is not complete, and nothing is concluded from it"
        return [f"**{other.name}**: {heading}:", *bullets(faults)]
    if not update.has_cuts(other):
        return [f"**{other.name}** {answer(other)}"]
    texts = {key: " ".join(other.declared.texts[key].split()) for key in ("question", "prediction")}
    head, tail = f"**{other.name}** ({texts['question']})", f"Predicted: {texts['prediction']}"
    rulings = of_tasks(other)
    if len(rulings) == 1:
        return [f"{head} {_numbers(other, rulings[0])} {tail}"]
    return [head, *bullets([f"{ruling.task}: {_numbers(other, ruling)}" for ruling in rulings]), tail]


def _numbers(other: Records, ruling: Ruling) -> str:
    """Scores and ranks of a control, on one of its tasks."""
    tried = listed(arm.rank for arm in other.protocol.arms if arm.rank is not None)
    rows = comparison.table(other, ruling.task).to_dict("records")
    scores = ", ".join(
        f"{row['arm']} {NONE if math.isnan(row['test']) else format(row['test'], '.3f')}" for row in rows
    )
    spectra = update.spectral(other, ruling.task)
    entries = [update.entry(spectra, measure) for measure in update.MEASURES]
    ranks = [f"{row['measure'].replace('_', ' ')} {row['mean']:.1f} (noise {row['null']:.1f})" for row in entries]
    return (
        f"{other.scored_on(ruling.task).capitalize()} scores: {scores}. "
        f"Low rank: {ruling.verdict}; r* = {ruling.r_star or NONE} (tried: {tried or NONE}); k* = {ruling.k_star}; "
        f"{', '.join(ranks)}."
    )

"""`VERDICT.md`: the verdict in words and tables, every number of it taken from the records by this program."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.study import comparison, update
from analysis.study.records import Records
from analysis.study.statistics import Interval, smallest
from analysis.study.validator import breaches, marked
from analysis.study.verdict import LOW_SHARE, Ruling, first_line, low_rank, rule, rulings

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = {"random": "k directions drawn at random", "scaled": "all directions, shrunk to the cut's norm,"}
MARGINS = (0.01, 0.02, 0.03)
"""At which the verdict is ruled again, to show what hangs on the margin."""
SHARED_SHOWN = (1, 8, 32)


def write(records: Records, controls: Sequence[Records] = ()) -> str:
    """The whole document; of a comparison that is not fair, what is wrong with it and no verdict."""
    parts = ["# Verdict"]
    faults = breaches(records)
    if faults:
        parts += ["**None: the comparison breaks its own protocol, or is not complete.**", *_list(faults)]
        return "\n\n".join(parts) + "\n"
    found = rulings(records)
    parts += [f"**{first_line(found)}**", _source(records), "## Is it low?", _rule(records), _rulings(found)]
    parts += ["## Full fine-tuning against LoRA", *_arms(records)]
    parts += ["## What the full update looks like, and what is left when it is cut", *_cuts(records)]
    if records.shared is not None:
        parts += ["## What full updates have in common", *_shared(records.shared)]
    parts += ["## Controls", *_controls(records, controls)]
    parts += ["## What was predicted", f"> {' '.join(records.declared['prediction'].split())}"]
    parts += ["## What would change the verdict", *_changes(records)]
    parts += ["## Limits", *_limits(records)]
    return "\n\n".join(parts) + "\n"


def _source(records: Records) -> str:
    lines, rules = records.lines, records.rules
    trials = sum(line["config"]["measure"] == "trial" for line in lines)
    diverged = sum(line["status"] == "diverged" for line in lines)
    days = sorted(line["written"][:10] for line in lines)
    commit = str(lines[0]["git"]["commit"])[:10]
    return (
        f"Written by `python -m analysis verdict` from {len(lines)} recorded runs ({trials} learning-rate trials, "
        f"{len(lines) - trials} final runs, {diverged} diverged) of commit {commit}, "
        f"{' to '.join(sorted({days[0], days[-1]}))}. "
        f"No breach of the protocol was found: every arm had the same number of trials with seeds "
        f"{_words(rules.selection_seeds)}, chosen on validation, and was then run with the fresh seeds "
        f"{_words(rules.final_seeds)}; the test split was read once by each of these. Intervals are 95 %; those in "
        f"brackets are Student's over the seeds unless said otherwise."
    )


def _rule(records: Records) -> str:
    low = {task: low_rank(records, task) for task in records.tasks}
    margin = records.rules.margin
    return (
        f"Declared before the first final run: a score is matched if it is not worse by more than {margin:g}; a rank "
        f"is low up to {LOW_SHARE:g} of a matrix's smaller side, here {_words(sorted(set(low.values())))}. "
        "r* is the smallest rank whose LoRA matches full fine-tuning on the test split (with every larger one), k* the "
        "smallest number of directions to which the full update can be cut, in all matrices at once or in one type of "
        "matrix alone, without losing the whole update's validation score. *Supported*: every such rank is surely low. "
        "*Not supported*: one surely is not. *Undecided*: neither; or no update of these matrices (k = 0) is not "
        "surely short of a match, so that the score tells no rank from another (added when the first full fine-tunes "
        "were seen; it can only take a support away). The spectrum's own ranks stand beside what noise of the same "
        "shape has."
    )


def _rulings(found: list[Ruling]) -> str:
    rows = []
    for r in found:
        spectrum = f"{_short(r.effective)}; noise {r.null:.1f}"
        r_star = str(r.r_star) if r.r_star else "—"
        module = "all matrices" if r.module == update.ALL else f"`{r.module}`"
        rows.append([r.task, module, r.verdict, r_star, str(r.k_star), spectrum, _short(r.spikes)])
    headings = ["task", "matrices", "low rank", "r*", "k*", "effective rank", "directions above the noise edge"]
    return _table(headings, rows)


def _arms(records: Records) -> list[str]:
    parts = []
    for task in records.tasks:
        headings = ["arm", "learning rate", f"test {_metric(records)}", "difference from full"]
        headings += ["with other test examples", "p (Holm)", "matches"]
        headings += ["trained, head apart", "peak MiB", "seconds", "diverged"]
        rows = [_arm(row) for row in comparison.table(records, task).to_dict("records")]
        parts += [f"**{task}**, {len(records.rules.final_seeds)} seeds:", _table(headings, rows)]
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
    return [*cells, str(row["diverged"])]


def _cuts(records: Records) -> list[str]:
    parts = []
    for task in records.tasks:
        cuts, spectra = update.functional(records, task), update.spectral(records, task)
        rows = []
        for measure in update.MEASURES:
            row = update.entry(spectra, measure)
            cells = [measure.replace("_", " "), f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"]
            rows.append([*cells, f"{row['null']:.1f}", f"{row['mean'] / row['null']:.2f}"])
        parts += [f"**{task}**, mean over {update.entry(spectra, 'spikes')['matrices']} matrices:"]
        parts += [_table(["measure", "full update", "noise of the same shape", "share of noise"], rows)]
        parts += [_sentence(records.rules.margin, task, cuts, spectra)]
    return parts


def _sentence(margin: float, task: str, cuts: pd.DataFrame, spectra: pd.DataFrame) -> str:
    norm, above, spikes, misfit = (
        update.entry(spectra, measure)["mean"]
        for measure in ("relative_norm", "above_rounding", "spikes", "bulk_misfit")
    )
    without = -update.cut_intervals(cuts, "cut")[0].mean
    text = (
        f"On {task} the update is {norm:.4f} of ‖W₀‖ on average. Of its singular values {above:.0f} lie above fp32's "
        f"rounding and {spikes:.0f} above the edge of the noise fitted to the bulk (whose Kolmogorov–Smirnov distance "
        f"from noise is {misfit:.2f}; where that is not small, the edge is a chosen line). "
    )
    text += f"Without it (k = 0, head and embeddings as trained) the score falls by {without:.4f}. "
    k = update.functional_rank(cuts, margin)
    rest = update.cut_intervals(cuts, "remainder").get(k.size or 0)
    if k.size and rest is not None:
        text += f"What is left without the top k* = {k.size} directions scores {rest.mean:+.4f} against the whole. "
    for part, what in CONTROLS.items():
        at = update.cut_intervals(cuts, part)
        if k.size in at:
            other = update.functional_rank(cuts, margin, part=part)
            text += f"At that k, {what} score {at[k.size]} against the whole; their own k* is {other}. "
    return text.strip()


def _shared(table: pd.DataFrame) -> list[str]:
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
        f"{pair}: " + ", ".join(f"`{name}` {_both(found, pair)}" for name, found in of_modules.items())
        for pair in dict.fromkeys(everywhere["pair"])
    ]
    return [
        text,
        _table(headings, rows),
        f"By type of matrix, of the top {most} directions of the column and of the row space beyond chance:",
        *_list(by_module),
    ]


def _both(found: pd.DataFrame, pair: str) -> str:
    rows = found[found["pair"] == pair].set_index("side")["common"]
    return f"{rows['column']:.1f} and {rows['row']:.1f}"


def _controls(records: Records, others: Sequence[Records]) -> list[str]:
    parts = []
    for task in records.tasks:
        spectra, cuts = update.spectral(records, task), update.functional(records, task)
        rows = [update.entry(spectra, measure) for measure in update.MEASURES]
        measured = [
            f"{row['measure'].replace('_', ' ')} {row['gaussian']:.1f} (null {row['null']:.1f})"
            for row in rows
            if row["gaussian"] == row["gaussian"]
        ]
        for score in update.cut_intervals(cuts, "gaussian").values():
            parts += [
                f"**Gaussian ΔW** of equal norm, {task}: the lab reads off it {', '.join(measured)}; in the place of "
                f"the update it scores {score} against the whole."
            ]
    for other in others:
        parts += _of_control(other)
    return parts or ["None were run."]


def _of_control(other: Records) -> list[str]:
    faults = breaches(other)
    if faults:
        what = "the comparison breaks its own protocol, or is not complete, and nothing is concluded from it"
        return [f"**{other.name}**: {what}:", *_list(faults)]
    parts = []
    tried = _words(arm.rank for arm in other.rules.arms if arm.rank is not None)
    for ruling in (r for r in rulings(other) if r.module == update.ALL):
        rows = comparison.table(other, ruling.task).to_dict("records")
        scores = ", ".join(f"{row['arm']} {row['test']:.3f}" for row in rows)
        spectra = update.spectral(other, ruling.task)
        entries = [update.entry(spectra, measure) for measure in update.MEASURES]
        ranks = [f"{row['measure'].replace('_', ' ')} {row['mean']:.1f} (noise {row['null']:.1f})" for row in entries]
        parts += [
            f"**{other.name}** ({' '.join(other.declared['question'].split())}) Test scores: {scores}. "
            f"Low rank: {ruling.verdict}; r* = {ruling.r_star} (tried: {tried}); k* = {ruling.k_star}; "
            f"{', '.join(ranks)}; "
            f"directions above the noise edge {_short(ruling.spikes)}. "
            f"Predicted: {' '.join(other.declared['prediction'].split())}"
        ]
    return parts


def _changes(records: Records) -> list[str]:
    rows = []
    for task in records.tasks:
        cuts, low = update.functional(records, task), low_rank(records, task)
        by_rank = comparison.by_rank(records, task)
        for margin in MARGINS:
            stars = [smallest({rank: found[kind] for rank, found in by_rank.items()}, margin) for kind in (0, 1)]
            evidence = [*stars, update.functional_rank(cuts, margin)]
            rows.append([task, f"{margin:g}", *map(str, evidence), rule(evidence, low)])
    headings = ["task", "margin", "r*", "r*, test examples drawn anew", "k*", "low rank"]
    parts = ["The verdict at other margins than the declared one:", _table(headings, rows)]
    if edges := marked(records):
        parts += ["Arms whose best learning rate stands at the edge of what was tried, and which may be short of it:"]
        parts += _list(edges)
    return parts


def _limits(records: Records) -> list[str]:
    lines = [line for line in records.lines if line["status"] == "completed"]
    models = sorted({line["config"]["model"] for line in lines})
    total = max(line["parameters"]["total"] for line in lines if line["method"] == "full")
    first, time = lines[0], lines[0]["time"]
    examples, epochs = first["inputs"]["examples"], first["config"]["train"]["epochs"]
    alphas = sorted({line["config"]["method"]["alpha"] for line in lines if line["method"] == "lora"})
    return _list(
        [
            f"{len(models)} base model ({_words(models)}, {total / 1e6:.1f} M parameters) and {len(records.tasks)} "
            f"tasks ({_words(records.tasks)}): nothing is said of other models, sizes or tasks.",
            f"{examples['train']:,} training examples, epochs: {epochs}, steps: {time['steps']}. A longer training "
            "may need more directions.",
            f"{len(records.rules.final_seeds)} seeds and {examples['test']:,} test examples of one split. Student's "
            "intervals hold for other seeds on this split, the bootstrap's for other test examples too.",
            f"LoRA's alpha is {_words(f'{alpha:g}' for alpha in alphas)} at every rank; only the learning rate is "
            "tuned, in both arms alike.",
        ]
    )


def _metric(records: Records) -> str:
    return str(next(line["metric"] for line in records.lines if "metric" in line))


def _short(found: Interval) -> str:
    if math.isnan(found.low):
        return f"{found.mean:.1f}"
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _words(items: Iterable[Any]) -> str:
    listed = [str(item) for item in items]
    return ", ".join(listed[:-1]) + " and " + listed[-1] if len(listed) > 1 else "".join(listed)


def _list(items: Iterable[str]) -> list[str]:
    return ["\n".join(f"- {item}" for item in items)]


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

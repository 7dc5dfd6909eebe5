"""A card's findings as sentences and as tables of texts; Markdown and HTML are both made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorax_lab.card.facts import HARDLY, LISTED, Facts
from lorax_lab.card.noise import FEWER, MORE, NOISE, PRODUCT, SPIKES, UNTESTED, WORDS

CORRELATED = (
    "Noise with correlated entries can look the same; directions that reproduce over seeds are better evidence."
)


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and a table with its head first; either may be empty."""

    heading: str
    sentences: list[str]
    table: list[list[str]]


def headlines(facts: Facts) -> list[str]:
    """One to three sentences that stand at the top."""
    lines = [_noise(facts), _energy(facts)]
    return [*([_cut(facts["scores"])] if facts["scores"] else []), *lines]


def sections(facts: Facts) -> list[Section]:
    """The rest of the page, in order."""
    scored = [_scores(facts["scores"])] if facts["scores"] else []
    notes = facts["notes"][:LISTED]
    more = len(facts["notes"]) - len(notes)
    notes = [*notes, f"and {more} more, all in card.json"] if more > 0 else notes
    return [
        Section("Parameters", [], _parameters(facts)),
        *scored,
        Section("Spectrum by module type", _how_tested(facts), _modules(facts)),
        Section("Layers", _layers(facts["layers"]), []),
        *([Section("Notes", notes, [])] if notes else []),
    ]


def _noise(facts: Facts) -> str:
    verdict, modules = facts["verdict"], facts["modules"]
    tested = [m for m in modules if m["verdict"]["finding"] != UNTESTED]
    same = [m for m in tested if m["verdict"]["finding"] == verdict["finding"]]
    of = f"{len(same)} of {len(modules)} module types"
    match verdict["finding"]:
        case "noise":
            rest = f" ({of}; the others cannot be tested)" if len(same) < len(modules) else ""
            return f"This update is not told from noise{rest}: its spectrum is that of {verdict['null']}."
        case "fewer":
            return f"Its energy lies in fewer directions than noise's in {of} (null: {PRODUCT}). {CORRELATED}"
        case "more":
            return f"Its energy is spread more evenly than noise's in {of} (null: {PRODUCT})."
        case "spikes":
            return f"Directions stand above its own iid noise in {of}."
        case _:
            return f"Whether it is noise cannot be tested: {_reason(verdict)}."


def _reason(verdict: Facts) -> str:
    """Why it cannot be tested, and of how many matrices that is so where it is not of all."""
    untested, matrices = verdict["untested"], verdict["matrices"]
    return verdict["reason"] + (f" ({untested} of {matrices} matrices)" if untested < matrices else "")


def _energy(facts: Facts) -> str:
    held = facts["energy"]
    if not facts["layers"]["moved"]:
        return "Nothing moved: every update is zero."
    ranks = {share: "more than was measured" if rank is None else str(rank) for share, rank in held.items()}
    return f"Rank {ranks['90%']} in every matrix holds 90 % of its energy, rank {ranks['99%']} holds 99 %."


def _cut(scores: Facts) -> str:
    k, full, test = scores["chosen"], scores["full"], scores["test"]
    metric, margin = scores["metric"], f"{scores['margin']:g}"
    if k == full:
        return (
            f"No smaller cut is surely within {margin} of the whole's {metric} on {scores['task']}: keep rank {full}."
        )
    what = f"Cut to rank {k} of {full}" if k else "Without its update, by what is saved beside,"
    interval = "" if test["low"] is None else f", 95 % interval {test['low']:+.3f} to {test['high']:+.3f}"
    change = (
        f"{scores['whole']['test']:.3f} whole, {test['score']:.3f} cut, on {scores['examples']['test']:,} test "
        f"examples: {test['difference']:+.3f}{interval}"
    )
    low, high = (test["difference"] if end is None else end for end in (test["low"], test["high"]))
    if low >= -scores["margin"]:
        return f"{what} it keeps its {metric} on {scores['task']} within {margin} ({change})."
    if high < -scores["margin"]:
        return (
            f"{what} it loses more than {margin} of {metric} on {scores['task']} ({change}): validation chose wrongly."
        )
    return (
        f"{what} it is not surely within {margin} of its {metric} on {scores['task']} ({change}); on validation it was."
    )


def _parameters(facts: Facts) -> list[list[str]]:
    counts, layers = facts["parameters"], facts["layers"]
    rows = [["what", "value"], ["kind", " + ".join(facts["kinds"]).replace("pair", "difference of two checkpoints")]]
    rows += [["base", facts["base"] or "not given"]]
    rows += [["matrices", f"{counts['matrices']:,}, of {counts['adapted_weights']:,} weights"]]
    if "factors" in counts:
        share = counts["factors"] / counts["adapted_weights"]
        rows += [["trained in factors", f"{counts['factors']:,} numbers, {share:.2%} of the weights that they adapt"]]
        rows += [["saved in full beside", f"{counts['beside']:,} numbers (head, biases)"]] if counts["beside"] else []
        rows += [["rank", _ranks(counts)], ["scaling alpha / r", _range(counts["scalings"])]]
    else:
        rows += [["changed", f"{counts['changed_matrices']:,} of {counts['matrices']:,} matrices"]]
    rows += [["base's parameters", f"{counts['base']:,}"]] if "base" in counts else []
    sizes = [m["size"] for m in layers["matrices"] if m["size"] is not None]
    rows += [[f"{layers['unit']}, median", f"{sorted(sizes)[len(sizes) // 2]:.2g}"]] if sizes else []
    return rows


def _ranks(counts: Facts) -> str:
    """Of the factors, and of ΔW where it has another one: PiSSA's has twice that rank, DoRA's is full."""
    factors, updates = counts["ranks"], counts["update_ranks"]
    return _range(factors) + (f" of the factors; ΔW has {_range(updates)}" if updates != factors else "")


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


def _scores(scores: Facts) -> Section:
    metric, examples = scores["metric"], scores["examples"]
    better = "" if scores["higher_is_better"] else " (lower is better)"
    rows = [["k", f"{metric} on validation", "cut − whole, better is above 0", "lower end, one-sided 95 %", "within"]]
    for cut in scores["cuts"]:
        end = cut["difference"] if cut["surely"] is None else cut["surely"]
        whole, within = cut["k"] == scores["full"], end >= -scores["margin"]
        mark = "whole" if whole else "yes" if within else "no"
        difference = "" if whole else f"{cut['difference']:+.3f}"
        known = "" if whole else "–" if cut["surely"] is None else f"{cut['surely']:+.3f}"
        star = " ←" if cut["k"] == scores["chosen"] else ""
        rows.append([f"{cut['k']}{star}", f"{cut['score']:.3f}", difference, known, mark])
    test = scores["test"]
    interval = "" if test["low"] is None else f", 95 % interval {test['low']:+.3f} to {test['high']:+.3f}"
    sentences = [
        f"Every matrix is cut to its top k directions at once; head, biases and all else stay. The smallest k is taken "
        f"that with every larger one is surely within {scores['margin']:g} of the whole{better}, on "
        f"{examples['validation']:,} validation examples. On {examples['test']:,} test examples, which chose nothing, "
        f"rank {scores['chosen']} has {test['score']:.3f} and the whole {scores['whole']['test']:.3f}: "
        f"{test['difference']:+.3f}{interval}.",
        *scores["notes"],
    ]
    return Section(f"Score when cut: {scores['task']}", sentences, rows)


def _how_tested(facts: Facts) -> list[str]:
    findings = {m["verdict"]["finding"] for m in facts["modules"]}
    words = []
    if any(m["verdict"]["null"] == PRODUCT for m in facts["modules"]):
        words += [
            "A LoRA is a product of rank r, so its null is the product of Gaussian factors of that shape and rank."
        ]
    if findings & {NOISE, FEWER, MORE, SPIKES}:
        words += [
            "The chance that pure noise is called anything else is about 1 % for the whole card; for single matrices "
            "of rank 2 it was 2.5 %."
        ]
    untested: dict[str, list[str]] = {}
    for module in facts["modules"]:
        if module["verdict"]["finding"] == UNTESTED:
            untested.setdefault(_reason(module["verdict"]), []).append(module["module"])
    return [*words, *(f"{_listed(names)} cannot be tested: {reason}." for reason, names in untested.items())]


def _modules(facts: Facts) -> list[list[str]]:
    rows = [["module type", "n", "effective rank / null", "stable rank / null", "90 %", "99 %", "against noise"]]
    for m in facts["modules"]:
        null = m.get("null") or {}
        pairs = [f"{_number(m[key])} / {_number(null.get(key))}" for key in ("effective_rank", "stable_rank")]
        held = [_number(m[f"energy_rank_{share}"], "g") for share in (90, 99)]
        rows.append([m["module"], str(m["count"]), *pairs, *held, WORDS[m["verdict"]["finding"]]])
    return rows


def _number(value: float | None, form: str = "") -> str:
    return "–" if value is None else format(value, form or (",.0f" if value >= 100 else ".2f" if value < 10 else ".1f"))


def _layers(layers: Facts) -> list[str]:
    if not layers["moved"]:
        return ["Nothing moved."]
    rule = f"at most {HARDLY:.0%} of the median of their kind, by {layers['unit']}"
    words = [f"Hardly moved ({rule}): {_listed(layers['hardly'])}."] if layers["hardly"] else []
    words += (
        [f"Single matrices that hardly moved: {_listed(layers['hardly_matrices'])}."]
        if layers["hardly_matrices"]
        else []
    )
    if not words and layers["least"]:
        share, layer = layers["least"]
        words = [f"No layer hardly moved ({rule}). The least is {layer}, at {share:.0%} of the median."]
    return words


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f", and {more} more" if more > 0 else "")

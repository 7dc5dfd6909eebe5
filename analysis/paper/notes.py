"""The numbers that a reader has to know of a study's runs beside its claims: from its declaration, and its records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..study import comparison
from ..study.constants import constant
from ..study.figures.sets import sets_of
from ..study.records import Records, has_collapsed, rate_of
from .readings import ALONE, CONTROLS, OTHER_HEAD, RANK_1, SMALL, across, between, is_task, trained

EXAMPLES = "task.train_examples"
EQUAL = "query and value r=8"
"""The arm that unequal ranks are held against."""
Numbers = dict[str, Any]


def adapted(studies: Sequence[Records]) -> Numbers | None:
    """How many types of matrix LoRA adapts, and with what alpha; None where the declarations do not say."""
    cells = [cell for study in studies for cell in study.declared.settings.values() if "rank" in cell]
    alphas = {cell["method.alpha"] for cell in cells if "method.alpha" in cell}
    types = max((len(study.modules) for study in studies), default=0)
    return {"types": types, "alpha": alphas.pop()} if len(alphas) == 1 and types else None


def tasks_of(records: Records) -> list[str]:
    """The tasks of a study's runs: no control, and each once, whatever its size or head."""
    names = [name for name in records.conditions if is_task(name)]
    return list(dict.fromkeys(_settings(records, name).get("task.name", name) for name in names))


def _settings(records: Records, name: str) -> Mapping[str, Any]:
    """Of the reference on a condition, which tell whether two studies asked the same of it."""
    return records.declared.settings.get((name, records.protocol.reference), {})


def floors(records: Records, baselines: Records) -> list[Numbers]:
    """What no update of the attention and feed-forward matrices reaches, on the conditions that the baselines have with
    the same settings."""
    facts = []
    for task, name in product(records.conditions, baselines.conditions):
        if _settings(records, task) and _settings(records, task) == _settings(baselines, name):
            arms = comparison.table(baselines, name).set_index("arm", drop=False)
            rows = [arms.loc[arm].to_dict() for arm in (ALONE, *SMALL) if arm in arms.index]
            facts.append({"task": task, "study": baselines.name, "rows": rows})
    return facts


def ties(records: Records) -> list[Numbers]:
    """Controls of which every trial collapsed: their rates were chosen among ties, and with them their norms."""
    facts = []
    for control, task in CONTROLS.items():
        trials = records.of(control, "trial") if {control, task} <= set(records.conditions) else []
        if trials and all(map(has_collapsed, trials)):
            rates, of_task = (
                {str(records.arm_of(line)): rate_of(line) for line in records.of(name, "final")}
                for name in (control, task)
            )
            by_arm = [(arm, rate, of_task[arm]) for arm, rate in rates.items()]
            norms = [_relative_norm(records, name) for name in (control, task)]
            facts.append({"control": control, "task": task, "trials": len(trials), "norms": norms, "rates": by_arm})
    return facts


def _relative_norm(records: Records, task: str) -> float:
    """The mean of ‖ΔW‖ / ‖W‖ over the reference's matrices and seeds."""
    lines = comparison.seeds_of(records, task, records.protocol.reference).values()
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))


def baselines(records: Records) -> list[Numbers]:
    """Norms and biases against LoRA of rank 1, the usual head against a linear probe, and what each trains."""
    facts = []
    for task in filter(is_task, records.conditions):
        pooled = f"{task}{OTHER_HEAD}"
        arms = (ALONE, records.protocol.reference) if pooled in records.conditions else ()
        heads = {arm: across(records, arm, pooled, task) for arm in arms}
        gain = between(records, task, SMALL[-1], RANK_1)
        counts = trained(records, task, *SMALL, RANK_1)
        facts.append({"task": task, "small": SMALL[-1], "gain": gain, "heads": heads, "trained": counts})
    return facts


def sizes(records: Records) -> Numbers:
    """How many steps and passes each size has, what chose the rates, and between what the scores lie."""
    by_size = {cell[EXAMPLES]: cell for cell in records.declared.settings.values()}
    cells = [by_size[size] for size in sorted(by_size)]
    steps = [cell["train.epochs"] * math.ceil(cell[EXAMPLES] / cell["train.batch_size"]) for cell in cells]
    names, reference = records.conditions, records.protocol.reference
    scores = [comparison.table(records, name).set_index("arm")["test"][reference] for name in names]
    keys = ("validation_examples", "test_examples")
    facts: Numbers = {key: sorted({cell[f"task.{key}"] for cell in cells}) for key in keys}
    facts |= {"task": cells[0]["task.name"], "splits": {cell["task.split_seed"] for cell in cells}, "steps": steps}
    facts |= {"fewest": cells[0][EXAMPLES], "passes": [cell["train.epochs"] for cell in cells], "scores": scores}
    return facts | {"constants": dict.fromkeys(filter(None, (constant(records, name, "test") for name in names)))}


def unequal(records: Records) -> Numbers:
    """Arms of unequal ranks: what their scaling is, and what they gain over equal ones."""
    by_arm = {arm: cell for (_, arm), cell in records.declared.settings.items()}
    scalings: dict[str, dict[str, float]] = {}
    for arm, cell in by_arm.items():
        for name, _, rank in (text.rpartition(":") for text in cell.get("method.ranks") or ()):
            scalings.setdefault(arm, {})[name] = cell["method.alpha"] / int(rank)
    scaling = by_arm[EQUAL]["method.alpha"] / by_arm[EQUAL]["rank"]
    gains = {task: {arm: between(records, task, arm, EQUAL) for arm in scalings} for task in records.conditions}
    return {"equal": EQUAL, "scalings": scalings, "scaling": scaling, "gains": gains}


def cut_sets(records: Records) -> dict[str, Mapping[str, object]]:
    """k* of the full update in each set of matrices, by task; the other matrices keep theirs."""
    return {task: stars for task in records.conditions if (stars := sets_of(records, task))}


def means(records: Records) -> Sequence[object]:
    """Which means the numbers of Table 7 are: words alone."""
    return [None]

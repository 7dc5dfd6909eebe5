"""What a reader has to know of a study's runs beside its claims: from its declaration, and from its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from lorax_lab.study.declaration import Declaration

from ..study import comparison
from ..study.constants import constant
from ..study.figures.sets import sets_of
from ..study.markdown import listed
from ..study.records import Records, has_collapsed, rate_of
from .arms import ALONE, RANK_1, SMALL, across, between, trained_by
from .reading import CONTROLS, OTHER_HEAD, is_task, written

TASK, SPLIT, EXAMPLES = "task.name", "task.split_seed", "task.train_examples"
ALPHA, RANKS = "method.alpha", "method.ranks"
"""Settings of a cell."""
FULL = "full"
WRONG = "13,056 parameters"
"""What the prediction of the baselines says by mistake."""
THEIR_EPOCHS = "The paper's four sizes have about 200, 2,000, 400 and 6,100 steps in 40, 40, 4 and 2."
EQUAL = "query and value r=8"
"""The arm that unequal ranks are held against."""


def adapted(declared: Iterable[Declaration], studies: Iterable[Records]) -> list[str]:
    """Which matrices LoRA adapts, with what scaling, and what both may do to the claims; nothing where the declarations
    do not say."""
    cells = [cell for study in declared for cell in study.settings.values() if "rank" in cell and ALPHA in cell]
    alphas = {cell[ALPHA] for cell in cells}
    types = max((len(study.modules) for study in studies), default=0)
    if len(alphas) != 1 or not types:
        return []
    alpha = alphas.pop()
    return [
        f"LoRA adapts all {types} types of matrices here, unless an arm names some. In the paper's Figures 3, 4 and 6 "
        "to 8 and its Tables 7, 16 and 18 it adapts query and value alone. So here other matrices can do what an "
        "update of the query does there, and φ of the query may be lower. Where a heading says *query and value "
        "alone*, LoRA adapts these, as there. "
        f"As the paper's, alpha is one number for every rank, {alpha:g}: the scaling of B A is {alpha:g} / r, "
        f"{alpha / 8:g} at rank 8 and {alpha / 64:g} at rank 64. A smaller scaling leaves each direction less to do. "
        "So A of rank 64 may stay nearer to its random start, which lowers φ as well."
    ]


def tasks_of(records: Records) -> list[str]:
    """The tasks of a study's runs: no control, and each once, whatever its size or head."""
    names = [name for name in records.conditions if is_task(name)]
    return list(dict.fromkeys(_settings(records, name).get(TASK, name) for name in names))


def floors(records: Records, baselines: Records) -> Iterator[str]:
    """What no update of the attention and feed-forward matrices reaches, on the conditions that the baselines have with
    the same settings."""
    for task, name in product(records.conditions, baselines.conditions):
        if (own := _settings(records, task)) and own == _settings(baselines, name):
            scores = comparison.table(baselines, name).set_index("arm")
            rows = ((arm, scores.loc[arm]) for arm in (ALONE, *SMALL) if arm in scores.index)
            told = [f"{arm} {row['test']:.3f} [{row['test_low']:.3f}, {row['test_high']:.3f}]" for arm, row in rows]
            yield (
                f"Without any update of attention and feed-forward matrices {task} reaches (`{baselines.name}`): "
                f"{listed(told)}."
            )


def _settings(records: Records, task: str) -> Mapping[str, Any]:
    """Of the reference on a condition, which tell whether two studies asked the same of it; empty where the declaration
    has none."""
    return records.declared.settings.get((task, records.protocol.reference), {})


def ties(declared: Declaration, records: Records | None) -> Iterator[str]:
    """Where every trial of a control collapsed: its rates were chosen among ties, and with them its norm."""
    for control, task in CONTROLS.items() if records else ():
        assert records
        trials = records.of(control, "trial") if {control, task} <= set(records.conditions) else []
        if trials and all(map(has_collapsed, trials)):
            own, of_task = (_rates(records, each) for each in (control, task))
            told = [f"{arm} {rate:g} ({task} {of_task[arm]:g})" for arm, rate in own.items()]
            yield (
                f"On {control} all {len(trials)} trials collapsed, so that learning rates were chosen among ties: "
                f"{listed(told)}. The full update's norm is {_norm(records, control):.3f} of that of W, and "
                f"{_norm(records, task):.3f} on {task}."
            )


def _rates(records: Records, task: str) -> dict[str, float]:
    """The learning rate of each arm's final runs."""
    return {str(records.arm_of(line)): rate_of(line) for line in records.of(task, "final")}


def _norm(records: Records, task: str) -> float:
    """The norm of the reference's update over that of W, mean over matrices and seeds."""
    lines = [x for x in records.of(task, "final") if records.arm_of(x) == records.protocol.reference]
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))


def baselines(declared: Declaration, records: Records | None) -> Iterator[str]:
    """What the prediction of the baselines is told by, beside the claim: norms and biases against LoRA of rank 1, the
    usual head against a linear probe, and what each trains."""
    for task in filter(is_task, records.conditions if records else []):
        assert records
        small, pooled = SMALL[-1], f"{task}{OTHER_HEAD}"
        yield f"On {task} {small} gain {written(between(records, task, small, RANK_1))} over {RANK_1}."
        if pooled in records.conditions:
            heads = [f"{arm} {written(across(records, arm, pooled, task))}" for arm in (ALONE, FULL)]
            yield f"The usual head gains over a linear layer on the mean of the last layer: {listed(heads)}."
        yield f"Parameters {trained_by(records, task, *SMALL, RANK_1)}."
    if records:
        yield "Embeddings are matrices too: by no matrix the question means none of attention and feed-forward parts."
    if WRONG in declared.texts.get("prediction", ""):
        yield f"The prediction's {WRONG} of norms and biases are wrong{': see above' if records else ''}."


def sizes(declared: Declaration, records: Records | None) -> Iterator[str]:
    """What the intervals of several sizes leave out, what chose the rates, how many steps and passes each size has, and
    between what the scores lie."""
    cells = sorted({cell[EXAMPLES]: cell for cell in declared.settings.values()}.values(), key=_size)
    if len(cells) < 2:
        return
    few, many = cells[0], cells[-1]
    task, test = (
        cells[0]["task.name"],
        listed(f"{count:,}" for count in sorted({c["task.test_examples"] for c in cells})),
    )
    if len(seeds := {cell[SPLIT] for cell in cells}) == 1:
        yield (
            f"The task is {task} at every size, scored on the same {test} test examples. A smaller training set is "
            "part of each larger one, and the same for every seed of a run "
            f"(`{SPLIT}` {seeds.pop()}). So the sizes are not independent. The intervals leave out what other training "
            "examples would change, which may be most where there are few."
        )
    validation = listed(f"{count:,}" for count in sorted({cell["task.validation_examples"] for cell in cells}))
    yield (
        f"At each size the learning rates were chosen on {validation} validation examples, also where "
        f"{few[EXAMPLES]:,} are trained on."
    )
    steps, passes = (listed(f"{of(cell):,}" for cell in cells) for of in (_steps, _passes))
    yield (
        f"Training has {steps} steps, in {passes} passes over the examples: sizes differ in these too, the largest by "
        f"{_steps(many) / _steps(cells[-2]):.1f} times the steps. {THEIR_EPOCHS}"
    )
    if records:
        reference, names = records.protocol.reference, records.conditions
        scores = [comparison.table(records, name).set_index("arm")["test"][reference] for name in names]
        found = filter(None, (constant(records, name, comparison.SPLIT) for name in names))
        known = dict.fromkeys(f"; {what} has {score:.3f}" for score, what in found)
        yield f"Full fine-tuning scores {listed(f'{score:.3f}' for score in scores)}{''.join(known)}."


def _size(cell: dict[str, Any]) -> int:
    return int(cell[EXAMPLES])


def _passes(cell: dict[str, Any]) -> int:
    return int(cell["train.epochs"])


def _steps(cell: dict[str, Any]) -> int:
    return _passes(cell) * math.ceil(_size(cell) / int(cell["train.batch_size"]))


def unequal(declared: Declaration, records: Records | None) -> Iterator[str]:
    """Arms of unequal ranks: what their scaling is, and what they gain over equal ones."""
    arms = {arm: cell for (_, arm), cell in declared.settings.items() if cell.get(RANKS)}
    scaled = [
        f"{arm} has {listed(f'{cell[ALPHA] / int(rank):.3g} ({name})' for name, _, rank in _own(cell))}"
        for arm, cell in arms.items()
    ]
    same = next((cell for (_, arm), cell in declared.settings.items() if arm == EQUAL), None)
    if scaled and same:
        yield (
            f"Each matrix has the scaling of its own rank, alpha / r: {listed(scaled)}, where {EQUAL} has "
            f"{same[ALPHA] / same['rank']:g}. So unequal ranks are unequal scalings too."
        )
    for task in records.conditions if records else []:
        assert records
        gains = [f"{arm} gains {written(between(records, task, arm, EQUAL))}" for arm in arms]
        if gains:
            yield f"On {task}, over {EQUAL}: {listed(gains)}."


def _own(cell: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [text.rpartition(":") for text in cell[RANKS]]


def cut_sets(declared: Declaration, records: Records | None) -> Iterator[str]:
    """k* of the full update in each set of matrices; the other matrices keep theirs."""
    for task in records.conditions if records else []:
        assert records
        if found := sets_of(records, task):
            yield (
                f"On {task} the full update can be cut, in these matrices alone while the others keep theirs, to "
                f"k* directions: {listed(f'{name} {star}' for name, star in found.items())}."
            )


def means(declared: Declaration, records: Records | None) -> Iterator[str]:
    """Which means the numbers of Table 7 are."""
    if records:
        yield (
            "Ratios and factors in these tables are geometric means over seeds of the median over matrices. A ratio "
            "is taken matrix by matrix before that, so that it is not the ratio of two factors. Those of the figure "
            "and of its LaTeX table are arithmetic means of the median."
        )

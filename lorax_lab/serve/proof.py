"""The proof that serving changes nothing: every test example, answered by the adapter alone and in every other way."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorax_lab.console import WorkBar
from lorax_lab.serve.served import Served
from lorax_lab.streams import generator
from lorax_lab.tasks.batches import length_bucketed_batches

WAYS = ("exchanged", "merged", "mixed")
EXCHANGES = 1000
BATCH, WINDOW = 64, 50
"""Examples of a mixed batch, and how many batches are sorted by length together."""
ROUNDING = 1e-4
"""Largest difference, relative to the largest output, that fp32 and another order of sums can make."""
SCORE_ROUNDING = 1e-5
"""The same for scores: less than one example of 100,000."""


@dataclass(frozen=True)
class Proof:
    """How the ways to serve compare with the adapters alone.

    Args:
        tasks: for each task its score in the record, alone and in each way, the number of examples, how many
            predictions are the same in each way, and the largest relative difference of outputs.
        exchanges: the number of random exchanges, merges and unmerges, and the largest relative difference after any.
        base_unchanged: whether the base has the same bits as before.
    """

    tasks: dict[str, dict[str, Any]]
    exchanges: dict[str, Any]
    base_unchanged: bool

    @property
    def equal(self) -> bool:
        """Whether only rounding differs, and no prediction and no score."""
        rows = self.tasks.values()
        same = all(row[f"same.{way}"] == row["examples"] for row in rows for way in WAYS)
        recorded = all(abs(row[way] - row["recorded"]) <= SCORE_ROUNDING for row in rows for way in ("alone", *WAYS))
        small = all(row["difference"] <= ROUNDING for row in [*rows, self.exchanges])
        return same and recorded and small and self.base_unchanged


def prove(served: Served) -> Proof:
    """Compare all ways on all test splits, and one text of each task after each of 1,000 random exchanges."""
    before = served.exchange.fingerprint()
    cost = {name: sum(test.sizes) for name, test in served.tests.items()}
    one = sum(test.sizes[0] for test in served.tests.values()) * EXCHANGES // len(cost)
    with WorkBar(4 * sum(cost.values()) + one) as bar:
        outputs: dict[str, dict[str, Tensor]] = {}
        for name, test in served.tests.items():
            bar.begin(f"{name}: alone, exchanged, merged")
            outputs[name] = {"alone": test.outputs(served.alone(name))}
            served.exchange.switch(name)
            outputs[name]["exchanged"] = test.outputs(served.exchange.model)
            served.exchange.merge()
            outputs[name]["merged"] = test.outputs(served.exchange.model)
            bar.advance(3 * cost[name], f"{name}: alone, exchanged, merged")
        bar.begin("all tasks mixed")
        for name, mixed in _mixed(served).items():
            outputs[name]["mixed"] = mixed
        bar.advance(sum(cost.values()), "all tasks mixed")
        bar.begin("random exchanges")
        exchanges = _exchanged_at_random(served, {name: ways["alone"][0] for name, ways in outputs.items()})
        bar.advance(one, "random exchanges")
    tasks = {name: _compared(served, name, ways) for name, ways in outputs.items()}
    return Proof(tasks, exchanges, served.exchange.fingerprint() == before)


def _mixed(served: Served) -> dict[str, Tensor]:
    rows = served.rows
    lengths = [size for test in served.tests.values() for size in test.sizes]
    outputs: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(test.rows) for name, test in served.tests.items()}
    for indices in length_bucketed_batches(lengths, BATCH, generator(0, "mixed"), WINDOW):
        batch = [rows[i] for i in indices]
        answers = served.exchange.mixed(served.batch(batch), [name for name, _ in batch])
        for (name, i), answer in zip(batch, answers, strict=True):
            outputs[name][i] = answer.float().cpu()
    return {name: torch.stack(rows) for name, rows in outputs.items()}


def _exchanged_at_random(served: Served, expected: dict[str, Tensor]) -> dict[str, Any]:
    """`expected` has each adapter's outputs, when alone, for the first text of its task."""
    exchange, draw, worst = served.exchange, random.Random(0), 0.0
    texts = {name: served.batch([(name, 0)]) for name in served.tests}
    name = next(iter(texts))
    exchange.switch(name)
    for _ in range(EXCHANGES):
        match draw.choice(("switch", "merge", "unmerge")):
            case "switch":
                exchange.switch(name := draw.choice(list(texts)))
            case "merge":
                exchange.merge()
            case _:
                exchange.unmerge()
        worst = max(worst, _difference(exchange.serve(texts[name])[0].cpu(), expected[name]))
    return {"count": EXCHANGES, "difference": worst}


def _compared(served: Served, name: str, outputs: dict[str, Tensor]) -> dict[str, Any]:
    task, labels, alone = served.tasks[name], served.tests[name].labels, outputs["alone"]
    record = served.records[name]
    row: dict[str, Any] = {"run_id": record.run_id, "metric": task.metric, "examples": len(alone)}
    row["recorded"] = record.completed.metrics[f"test/{task.metric}"]
    row |= {way: task.score(logits.numpy(), labels)[task.metric] for way, logits in outputs.items()}
    for way in WAYS:
        ours, expected = served.predictions(name, outputs[way]), served.predictions(name, alone)
        same = torch.isclose(ours, expected, ROUNDING, ROUNDING) if ours.is_floating_point() else ours == expected
        row[f"same.{way}"] = int(same.sum())
    row["difference"] = max(_difference(outputs[way], alone) for way in WAYS)
    return row


def _difference(outputs: Tensor, expected: Tensor) -> float:
    return float((outputs - expected).abs().max() / expected.abs().max())

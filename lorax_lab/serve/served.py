"""What is served: the exchange with every task's adapter, and each task's test split and record."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorax_lab.launch.plan import Run
from lorax_lab.methods import peft_format
from lorax_lab.models import Base, load_base
from lorax_lab.record import record
from lorax_lab.record.record import Record
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.split import Split
from lorax_lab.train import make_accelerator


@dataclass(frozen=True, eq=False)
class Served:
    """Everything by the name of the task, in one order. A row is (task, index of an example of its test split)."""

    exchange: Exchange
    runs: dict[str, Run]
    records: dict[str, Record]
    tasks: dict[str, Task]
    tests: dict[str, Split]

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Every example of every test split."""
        return [(name, i) for name, test in self.tests.items() for i in range(len(test.rows))]

    def few(self, each: int) -> list[tuple[str, int]]:
        """The first `each` examples of every test split."""
        return [(name, i) for name, i in self.rows if i < each]

    def batch(self, rows: list[tuple[str, int]]) -> Batch:
        """Examples of any tasks as one batch, padded to the longest; without labels."""
        first = next(iter(self.tests.values()))
        chosen = [self.tests[name].rows[i] for name, i in rows]
        inputs = first.task.kind.collate(first.processor, chosen, [0] * len(rows))
        return {key: tensor for key, tensor in inputs.items() if key != "labels"}

    def alone(self, name: str) -> nn.Module:
        """A fresh base with the task's adapter on it, as after training."""
        model = self.bare(name)
        peft_format.load(model, self.runs[name].folder)
        return model.eval()

    def bare(self, name: str) -> nn.Module:
        """A fresh base with a head for the task, untrained."""
        model: nn.Module = _bare(self.runs[name], self.tasks[name]).model
        return model.to(self.exchange.device)

    def predictions(self, name: str, outputs: Tensor) -> Tensor:
        """The answer that each row of outputs (n, outputs) gives: a class, or a number."""
        return torch.from_numpy(self.tasks[name].kind.answers(outputs.cpu().numpy()))


def open_served(runs: dict[str, Run]) -> Served:
    """Load the base once, and add every run's adapter to it.

    Raises:
        ConfigError: an adapter is refused.
    """
    tasks = {name: load_task(run.config.task) for name, run in runs.items()}
    first = next(iter(runs))
    base = _bare(runs[first], tasks[first])
    bare: nn.Module = base.model
    bare.to(make_accelerator(runs[first].config.train).device)
    exchange = Exchange(base, base.sha256)
    tests = {}
    for name, run in runs.items():
        exchange.add(name, run.folder)
        tests[name] = Split.of(tasks[name], tasks[name].test, base.processor)
    records = {name: record.read_record(run.folder) for name, run in runs.items()}
    return Served(exchange, runs, records, tasks, tests)


def _bare(run: Run, task: Task) -> Base:
    kind = task.kind
    return load_base(run.config.model, task.head, run.config.seed, kind.model_class, kind.processor_class)

"""What is served: the exchange with every task's adapter, and each task's test split and record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lorax_lab.launch.plan import Run
from lorax_lab.methods import peft_format
from lorax_lab.models import Base, load_base, model_sha256
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.store import record
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.batches import collate
from lorax_lab.tasks.encoded import Encoded
from lorax_lab.train import make_accelerator


@dataclass(frozen=True, eq=False)
class Served:
    """Everything by the name of the task, in one order. A row is (task, index of an example of its test split)."""

    exchange: Exchange
    runs: dict[str, Run]
    records: dict[str, dict[str, Any]]
    tasks: dict[str, Task]
    tests: dict[str, Encoded]

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Every example of every test split."""
        return [(name, i) for name, test in self.tests.items() for i in range(len(test.rows))]

    def few(self, each: int) -> list[tuple[str, int]]:
        """The first `each` examples of every test split."""
        return [(name, i) for name, i in self.rows if i < each]

    def batch(self, rows: list[tuple[str, int]]) -> Batch:
        """Examples of any tasks as one batch, padded to the longest; without labels."""
        pad = next(iter(self.tests.values())).pad
        batch = collate([self.tests[name].rows[i] for name, i in rows], [0] * len(rows), pad)
        return {key: tensor for key, tensor in batch.items() if key != "labels"}

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
        """The class of each row of outputs (n, outputs), or for regression the outputs themselves."""
        return outputs[:, 0] if self.tasks[name].kind == "regression" else outputs.argmax(1)


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
    exchange = Exchange(base, model_sha256(runs[first].config.model))
    tests = {}
    for name, run in runs.items():
        exchange.add(name, run.folder)
        tests[name] = Encoded.of(base.tokenizer, tasks[name].test, run.config.task.max_length, tasks[name].kind)
    records = {name: record.read_record(run.folder) for name, run in runs.items()}
    return Served(exchange, runs, records, tasks, tests)


def _bare(run: Run, task: Task) -> Base:
    return load_base(run.config.model, task.num_labels, task.kind == "regression", run.config.seed)

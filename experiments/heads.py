"""Control of the rank study's second edition: other heads. One is the untrained pooler of the first edition, one is
trained alone first and kept while the body trains."""

from pathlib import Path

from experiments.rank_sweep_2 import tasks_of_the_second_edition, write_cloze
from experiments.study import UNGROUPED, Plan, full, lora, trained_by
from experiments.teacher import keep
from lorax_lab.data.assets import cache_folder
from lorax_lab.launch.compose import compose
from lorax_lab.models import load_base
from lorax_lab.study.protocol import Protocol
from lorax_lab.tasks import load_task

RANKS = (1, 8, 64)
BEGUN = ("sarcasm", "cloze")
"""The tasks that the study has; it began with sarcasm and grew by cloze."""
ALONE = ("method=head", "train.learning_rate=2e-3", "seed=0", "reference=false")
"""How a head is trained before it is kept. Of five rates from 5e-4 to 8e-3 this one did best on sarcasm's validation,
with another seed: .663, where one linear layer over the mean reaches .729."""
HEAD, WEIGHTS = "head.safetensors", "model.safetensors"
"""The file that such a run leaves, and the last file that is written into a kept head's folder."""


def plan() -> Plan:
    arms = (full(5e-5), *(lora(rank, 5e-4) for rank in RANKS))
    tasks = tasks_of_the_second_edition()
    levels = {f"{name} with the pooler": tasks[name] for name in BEGUN}
    with_kept_head = {
        f"{name} with a kept head": (*tasks[name], f"model={_folder(name)}", "train.head=false") for name in BEGUN
    }
    return Plan(
        protocol=Protocol(arms, rates=4, loss_margin=0.03),
        factors={"task": levels | with_kept_head},
        common=("train.precision=fp32",),
        control_of="rank_sweep_2",
        prepare=lambda: _prepare({name: tasks[name] for name in BEGUN}),
    )


def _folder(task: str) -> Path:
    return cache_folder() / "kept-heads" / task


def _prepare(tasks: dict[str, tuple[str, ...]]) -> None:
    write_cloze()
    for name, overrides in tasks.items():
        if not (_folder(name) / WEIGHTS).is_file():
            print(f"training a head alone on {name}, into {_folder(name)}", flush=True)
            train_head(_folder(name), overrides)


def train_head(folder: Path, task: tuple[str, ...], model: str = "minilm") -> None:
    """Write the model with a head that was trained alone on `task` into `folder`."""
    from safetensors.torch import load_file

    task = (*task, UNGROUPED)
    trained = trained_by((f"model={model}", *task, *ALONE), folder.with_name(f"{folder.name}-runs"), HEAD)
    base = load_base(model, load_task(compose(list(task)).task).head, 0)
    base.model.load_state_dict(load_file(trained), strict=False)
    keep(base, folder)

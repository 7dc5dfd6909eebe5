"""One training step of our LoRA against PEFT's, of it and of a random subspace against full fine-tuning, and scoring,
taking turns in one process.

Ours multiply with the kernel that `train.kernel=auto` chooses here; the others are PyTorch's own and PEFT's on it. In
bf16 both run under autocast, as Trainer's `bf16=True` has it, and ours keeps its frozen matrices in bf16."""

from __future__ import annotations

import copy
import statistics
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import now
from lorax_lab.launch.compose import compose
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.methods import METHODS
from lorax_lab.methods.subspace import SubspaceConfig
from lorax_lab.models import adaptable, head_modules, keep_frozen_in_bf16, load_base, select, use_kernel
from lorax_lab.record.provenance import hardware
from lorax_lab.streams import generator
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split
from lorax_lab.train import make_optimizer

WARMUP = 4
DIMENSION = 10_000
BF16 = "bf16"


def measure(rounds: int) -> dict[str, Any]:
    """Median of the paired ratios over `rounds` batches; each batch is given to all in turn."""
    models, batches, config = _contenders()
    kernel = kernel_of(config.train)
    use_kernel(models["ours"], kernel)
    use_kernel(models["our full"], kernel)
    use_kernel(models["gather"], kernel)
    settings = (config.train.optimizer, config.train.learning_rate, config.train.weight_decay)
    optimizers = {name: make_optimizer(model, *settings) for name, model in models.items()}
    timed = {name: partial(_step, model, optimizers[name], BF16 in name) for name, model in models.items()}
    timed |= {f"{name} scoring": partial(_score, models[name]) for name in ("our full", "full")}
    times: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for turn in range(WARMUP + rounds):
        batch = batches[turn % len(batches)]
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            seconds = timed[name](batch)
            if turn >= WARMUP:
                times[name].append(seconds)
    ours, theirs = f"({kernel})", "(torch)"
    rows = [
        _row(f"our LoRA {ours} / PEFT {theirs}", times["ours"], times["peft"], "≤ 0.85"),
        _row("our LoRA / PEFT, both in bf16", times[f"ours {BF16}"], times[f"peft {BF16}"], "≤ 0.85"),
        _row(f"our LoRA in bf16 / {ours}", times[f"ours {BF16}"], times["ours"], "≤ 1.00"),
        _row(f"our LoRA {ours} / our full {ours}", times["ours"], times["our full"], "≤ 0.75"),
        _row(f"subspace by gather {ours} / our full {ours}", times["gather"], times["our full"], "≤ 1.30"),
        _row(f"our full {ours} / PyTorch's {theirs}", times["our full"], times["full"], "≤ 1.00"),
        _row(f"scoring {ours} / PyTorch's {theirs}", times["our full scoring"], times["full scoring"], "≤ 1.00"),
    ]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "title": "One training step, r = 8 on all encoder matrices",
        "hardware": hardware(kernel),
        "rows": rows,
        "median_seconds": medians,
        "note": f"Median of {rounds} batches of {config.train.batch_size} movie reviews, each given to all in turn; in "
        "brackets the kernel of linear layers; spread: quartiles. In bf16 PEFT runs under autocast, as in Trainer.",
    }


def _contenders() -> tuple[dict[str, nn.Module], list[dict[str, torch.Tensor]], Any]:
    from peft import LoraConfig, get_peft_model

    config = compose(["rank=8"])
    task = load_task(config.task)
    base = load_base(config.model, task.head, 0)
    split = Split.encoded(task, task.train, base.processor)
    epoch = split.batches(config.train.batch_size, generator(0, "data-0"), config.train.length_window)
    batches = [batch.inputs for batch in epoch]
    if torch.cuda.is_available():
        base.model.cuda()
        batches = [{key: value.cuda() for key, value in batch.items()} for batch in batches]
    ours, full = copy.deepcopy(base.model), copy.deepcopy(base.model)
    METHODS["lora"].attach(ours, select(ours, ["all-linear"]), config.method, 8, generator(0, "adapter"))
    gather = copy.deepcopy(base.model)
    of_subspace = SubspaceConfig(dimension=DIMENSION)
    METHODS["subspace"].attach(gather, select(gather, ["all-linear"]), of_subspace, None, generator(0, "adapter"))
    settings = LoraConfig(
        task_type="SEQ_CLS",
        r=8,
        lora_alpha=config.method.alpha,
        target_modules=list(adaptable(base.model)),
        modules_to_save=head_modules(base.model),
    )
    theirs = get_peft_model(base.model, settings)
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs)]
    assert counts[0] == counts[1], f"the same parameters must train on both sides, not {counts}"
    contenders = {"ours": ours, "peft": theirs, "our full": full, "full": copy.deepcopy(full), "gather": gather}
    contenders |= {f"{name} {BF16}": copy.deepcopy(contenders[name]) for name in ("ours", "peft")}
    keep_frozen_in_bf16(contenders[f"ours {BF16}"])
    return {name: model.train() for name, model in contenders.items()}, batches, config


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, bf16: bool, batch: dict[str, torch.Tensor]) -> float:
    start = now()
    with torch.autocast(batch["labels"].device.type, torch.bfloat16, enabled=bf16):
        loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return now() - start


def _score(model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    model.eval()
    start = now()
    with torch.inference_mode():
        model(**batch)
    seconds = now() - start
    model.train()
    return seconds


def _row(what: str, ours: list[float], theirs: list[float], aim: str) -> dict[str, Any]:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"what": what, "ratio": middle, "spread": f"{low:.2f} – {high:.2f}", "aim": aim}

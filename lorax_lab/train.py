"""The training loop: batches in, a trained model and its learning curve out. Knows no task, no LoRA, no W&B, no SVD."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab import distributed
from lorax_lab.config import BEST, TrainConfig
from lorax_lab.config.checks import require_choice
from lorax_lab.errors import ConfigError, Diverged
from lorax_lab.pulse import PULSE
from lorax_lab.record.checkpoints import Checkpoints, Position, load_trained, trained_tensors
from lorax_lab.record.progress import Sink
from lorax_lab.streams import global_stream

Metrics = dict[str, float]
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]
"""From a model and the inputs of a batch to its mean loss, a scalar."""


@dataclass(frozen=True)
class Batch:
    """What one forward pass takes, and what it counts for.

    Args:
        inputs: what the model is called with, by name.
        weight: of the batch's mean loss among the batches of one step, for instance its number of examples.
        tokens: or other units that the model reads of it.
        share: of the weight, that `inputs` have where several processes divide the batch.
    """

    inputs: dict[str, Tensor]
    weight: float
    examples: int
    tokens: int
    share: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device. A copy to a GPU comes from pinned memory, and nothing waits for it."""
        on_gpu = device.type == "cuda"
        pinned = {key: value.pin_memory() if on_gpu else value for key, value in self.inputs.items()}
        return replace(self, inputs={key: value.to(device, non_blocking=on_gpu) for key, value in pinned.items()})

    def mine(self, weight_of: Callable[[dict[str, Tensor]], float]) -> Batch:
        """What this process computes of the batch, all of it without others. Where that is no row it takes the first
        with no share, since all processes take part in each step."""
        if distributed.processes() == 1:
            return self
        inputs = distributed.part(self.inputs)
        if all(len(value) for value in inputs.values()):
            return replace(self, inputs=inputs, share=weight_of(inputs) / self.weight)
        return replace(self, inputs={key: value[:1] for key, value in self.inputs.items()}, share=0.0)


@dataclass
class TrainResult:
    """What a training run leaves beside the weights: its curve and its cost.

    Args:
        steps: that were taken; early stopping leaves out some of those planned.
        kept: the step whose weights the model has now.
        seconds: of training, also of earlier attempts, which took `earlier` of them.
    """

    steps: int
    kept: int
    seconds: float
    examples: int
    tokens: int
    history: list[Metrics] = field(default_factory=list)
    earlier: float = 0.0

    def metrics(self, split: str) -> Metrics:
        """The metrics of `split` at the step whose weights are kept, by plain names; empty where none were taken."""
        prefix = f"{split}/"
        return {k.removeprefix(prefix): v for k, v in self.history[self.kept - 1].items() if k.startswith(prefix)}


def plan_steps(config: TrainConfig, batches_per_epoch: int) -> int:
    """Number of optimizer steps: the epochs' batches over the accumulation, cut at `max_steps`.

    A last group of fewer batches than `gradient_accumulation` still makes a step.
    """
    steps = config.epochs * math.ceil(batches_per_epoch / config.gradient_accumulation)
    return min(steps, config.max_steps or steps)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda left: left,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,
    "constant": lambda left: 1.0,
}
"""The values of `train.schedule`. Each gives the factor of the learning rate from the share of the steps after the
warm-up that is left, which falls from 1 to 0."""


def learning_rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """What the learning rate is multiplied by at `step` (from 0): linear warm-up over the share `warmup` of
    the steps, then one of `SCHEDULES`.

    >>> [round(learning_rate_factor(s, 10, 0.2, "linear"), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return SCHEDULES[schedule]((steps - step) / (steps - rise))


def check_machine(config: TrainConfig) -> None:
    """Refuse an unknown optimizer or schedule, and a device or a precision that this machine has not: a ConfigError
    names the key, its value, and what to type instead."""
    require_choice("train.optimizer", config.optimizer, tuple(OPTIMIZERS))
    require_choice("train.schedule", config.schedule, tuple(SCHEDULES))
    device = device_of(config).type
    if config.precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision=fp16 is not possible on a cpu; type train.precision=bf16 or fp32")
    if config.precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("train.precision=bf16 is not possible on this GPU; type train.precision=fp16 or fp32")


def device_of(config: TrainConfig) -> torch.device:
    """The device of `train.device`; for `auto` a GPU, else Apple's Metal, else the processor.

    Raises:
        ConfigError: it is not on this machine.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = next(name for name in here if here[name]) if config.device == "auto" else config.device
    if not here[device]:
        raise ConfigError(f"train.device={device} is not on this machine; type train.device=auto")
    return torch.device(device)


def autocast_of(config: TrainConfig) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which a model computes in `train.precision`; fp32 weights stay the master copy."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    return partial(torch.autocast, device_of(config).type, dtype) if dtype else nullcontext


class Muon(torch.optim.Optimizer):
    """torch's Muon for the groups that ask for it with `use_muon`, and AdamW for the others.

    Muon makes every singular value of a matrix's step about 1 (Jordan 2024, https://kellerjordan.github.io/posts/muon/).
    The step is scaled by .2 · √(larger side) to the size of AdamW's in a long training (Liu et al. 2025,
    https://arxiv.org/abs/2502.16982), so that one learning rate serves both parts.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        of_muon, of_adamw = ([group for group in groups if group["use_muon"] is wanted] for wanted in (True, False))
        self.parts: list[torch.optim.Optimizer] = []
        if of_muon:
            self.parts.append(torch.optim.Muon(of_muon, lr=lr, adjust_lr_fn="match_rms_adamw"))
        if of_adamw:
            self.parts.append(OPTIMIZERS["adamw"](of_adamw, lr=lr))
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of both. Their groups and states are this optimizer's, which may have loaded them from a file."""
        for part in self.parts:
            wanted = isinstance(part, torch.optim.Muon)
            part.param_groups = [group for group in self.param_groups if group["use_muon"] is wanted]
            part.state = self.state
            part.step()


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "muon": Muon,
}
"""The values of `train.optimizer`: each is called with groups of parameters, their weight decay, and `lr`."""


def make_optimizer(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """One of `OPTIMIZERS` over what is trainable; no weight decay on vectors (biases and norms).

    Muon is for matrices that multiply; an embedding is a table of vectors, as its authors say.
    """
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    members: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            kind = (p.ndim == 2 and id(p) not in tables, weight_decay if p.ndim >= 2 else 0.0)
            members.setdefault(kind, []).append(p)
    groups = [{"params": ps, "use_muon": muon, "weight_decay": decay} for (muon, decay), ps in members.items()]
    return OPTIMIZERS[name](groups, lr=learning_rate)


READ_AFTER = {"cpu": 1}
"""Steps, by device, after which losses and norms are read. On an accelerator, whose value is `READ_LATER`, each reading
waits for all steps before it."""
READ_LATER = 16


def train(
    model: nn.Module,
    epoch_batches: Callable[[int], list[Batch]],
    loss_of: Loss,
    config: TrainConfig,
    seed: int,
    validate: Callable[[], Metrics],
    score_of: Callable[[Metrics], float],
    sinks: Sequence[Sink],
    checkpoints: Checkpoints,
    after_step: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train in place, from the newest checkpoint if there is one; `epoch_batches(epoch)` gives an epoch's batches in
    order, on the CPU, the same whenever it is asked.

    Args:
        loss_of: the mean loss of a batch; the batches of a step count by their weights.
        validate: called `config.validations` times, evenly spaced, the last after the last step.
        score_of: what `config.patience` and `config.keep` go by, of a validation's metrics; higher is better.
        sinks: each is called as `sink(step, steps, metrics)` after every step, with the validation's metrics where one
            was due.
        after_step: called as `after_step(step, steps)` when the optimizer has stepped and the gradients are there.

    Raises:
        Diverged: a loss or gradient norm that is not finite, on a CPU before the optimizer uses it; parameters that are
            not, before a validation, a checkpoint or the end does.
        OSError: a checkpoint could not be written; the one before it is whole.
    """
    batches = epoch_batches(0)
    steps = plan_steps(config, len(batches))
    pauses = {round(steps * (i + 1) / config.validations) for i in range(config.validations)}
    optimizer = make_optimizer(model, config.optimizer, config.learning_rate, config.weight_decay)
    device, autocast = device_of(config), autocast_of(config)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")  # else its calls do nothing
    if isinstance(optimizer, torch.optim.SGD):  # torch's fused one moves its momentum in a step that is skipped
        vars(optimizer)["_step_supports_amp_scaling"] = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    patience = config.patience or math.inf
    model.train()
    with global_stream(seed, f"dropout-{distributed.rank()}" if distributed.rank() else "dropout"):
        at = checkpoints.load(model, optimizer, scaler) or Position()
        batches = epoch_batches(at.epoch) if at.epoch else batches
        before, start = at.seconds, time.perf_counter()
        unread: list[tuple[int, list[Tensor], Tensor, float]] = []  # step, losses, norm of the gradients, learning rate
        while at.step < steps and at.waited < patience:
            PULSE.beat("step")
            if at.batch >= len(batches):
                at.epoch, at.batch = at.epoch + 1, 0
                batches = epoch_batches(at.epoch)
            group = batches[at.batch : at.batch + config.gradient_accumulation]
            rate = config.learning_rate * learning_rate_factor(at.step, steps, config.warmup, config.schedule)
            for settings in optimizer.param_groups:
                settings["lr"] = rate
            losses = _accumulate(model, group, loss_of, device, autocast, scaler)
            distributed.sum_gradients(parameters)
            scaler.unscale_(optimizer)
            norm = distributed.full(nn.utils.clip_grad_norm_(parameters, config.clip_norm))
            unread.append((at.step + 1, losses, norm, rate))
            saves = distributed.agreed(checkpoints.due())
            settles = saves or at.step + 1 in pauses or at.step + 1 == steps
            reads = settles or len(unread) >= READ_AFTER.get(device.type, READ_LATER)
            rows = [_read(*values, steps, not scaler.is_enabled()) for values in unread] if reads else []
            scaler.step(optimizer)
            scaler.update()
            if after_step is not None:
                after_step(at.step + 1, steps)
            optimizer.zero_grad()
            at.step, at.batch = at.step + 1, at.batch + config.gradient_accumulation
            at.examples += sum(batch.examples for batch in group)
            at.tokens += sum(batch.tokens for batch in group)
            if not reads:
                continue
            unread.clear()
            if settles and not _are_finite(parameters):
                raise Diverged(f"parameters that are not finite after step {at.step} of {steps}")
            if at.step in pauses:
                validation = validate()
                rows[-1] |= {f"validation/{key}": value for key, value in validation.items()}
                _compare(model, at, score_of(validation), config.keep == BEST)
                model.train()
            at.history += rows
            at.seconds = before + time.perf_counter() - start
            if saves:
                PULSE.rest()
                checkpoints.save(model, optimizer, scaler, at)
            for row in rows:
                for sink in sinks:
                    sink(int(row["step"]), steps, row)
    PULSE.rest()
    if at.best:
        load_trained(model, at.best)
    kept_step = at.best_step if at.best else at.step
    return TrainResult(at.step, kept_step, at.seconds, at.examples, at.tokens, at.history, before)


def _are_finite(parameters: list[nn.Parameter]) -> bool:
    return math.isfinite(float(distributed.full(nn.utils.get_total_norm([p.detach() for p in parameters]))))


def _compare(model: nn.Module, at: Position, score: float, keep: bool) -> None:
    """Note whether a validation is the best so far; the first of equals is, and one that is not a number is not."""
    if not score > at.best_score:
        at.waited += 1
        return
    at.waited, at.best_score, at.best_step = 0, score, at.step
    if keep:
        at.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in trained_tensors(model).items()}


def _accumulate(
    model: nn.Module,
    group: list[Batch],
    loss_of: Loss,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    scaler: torch.amp.GradScaler,
) -> list[Tensor]:
    """Gradients of the group's mean loss Σ wᵢ lossᵢ / Σ wᵢ; returns its terms, which nothing waits for."""
    total_weight = sum(batch.weight for batch in group)
    terms = []
    for batch in group:
        with autocast():
            loss = loss_of(model, batch.to(device).inputs).float() * (batch.weight * batch.share / total_weight)
        terms.append(loss.detach())
        scaler.scale(loss).backward()
    return terms


def _read(step: int, losses: list[Tensor], norm: Tensor, rate: float, steps: int, refuses_norm: bool) -> Metrics:
    """The metrics of one step, which are read from its device.

    Raises:
        Diverged: a loss that is not finite, or such a norm where it is refused.
    """
    loss, length = distributed.total(sum(map(float, losses))), float(norm)
    if not math.isfinite(loss):
        raise Diverged(f"training loss {loss} at step {step} of {steps}")
    if refuses_norm and not math.isfinite(length):
        raise Diverged(f"gradient norm {length} at step {step} of {steps}")
    return {"step": step, "train/loss": loss, "train/gradient_norm": length, "train/learning_rate": rate}

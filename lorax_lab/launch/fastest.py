"""What is fastest on this machine: the kernel of linear layers, and whether products in bf16 are worth their casts.

Each is tried, never guessed, and the answer is kept in the cache folder for this machine and this torch.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import AUTO, KERNELS, RunConfig, TrainConfig
from lorax_lab.data.assets import cache_folder
from lorax_lab.errors import ConfigError
from lorax_lab.models import kernel
from lorax_lab.record.files import write_json
from lorax_lab.record.provenance import hardware

DECIDING = ("machine", "system", "processor", "instruction_set", "processors", "threads")
"""What a machine is for a choice, beside torch's version."""
MARGIN = 0.97
"""oneDNN is chosen where it takes at most this share of torch's time; for less, the usual kernel stays."""
TOKENS, LAYER = 256, (384, 1536)
"""A batch, and (in, out) of a layer of MiniLM. The gradient for its input is a product of the other shape."""
TURNS = 20
"""How often each is tried; that takes about a second."""
EXACT = 1e-5
"""Both kernels are exact to this, relative to the largest value; products in bf16 are not."""
FASTER = 0.8
"""A ratio up to which `auto` chooses bf16; above it, casts between the precisions take what the products save."""
SIDE, WARM_UP = 512, 3
"""Of the square matrices that are multiplied in both precisions, and how many turns do not count."""


def on_a_processor(config: TrainConfig) -> bool:
    """Whether a run trains on the machine's processor, and on no accelerator."""
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return config.device == "cpu" or (config.device == AUTO and not accelerated)


def check_processor(config: TrainConfig) -> None:
    """Refuse what only a processor does where the run trains on an accelerator.

    Raises:
        ConfigError: it names the key, its value, and what to type instead.
    """
    if config.kernel != "onednn":
        return
    if not on_a_processor(config):
        raise ConfigError("train.kernel=onednn is for a cpu alone; type train.kernel=auto or train.device=cpu")
    if not kernel.has_onednn():
        raise ConfigError("train.kernel=onednn is not in this build of torch; type train.kernel=torch")


def kernel_of(config: TrainConfig) -> str:
    """`torch` or `onednn`: what the run's linear layers multiply with."""
    if config.kernel != AUTO:
        return config.kernel
    if not on_a_processor(config) or not kernel.has_onednn():
        return "torch"
    return chosen("kernel", KERNELS, onednn_ratio, MARGIN)


def settled(config: RunConfig) -> RunConfig:
    """The configuration with fp32 or bf16 in the place of `auto`. Both decide bits, so a run's name follows from the
    one that is chosen, and all arms of a sweep have the same."""
    if config.train.precision != AUTO:
        return config
    return replace(config, train=replace(config.train, precision=precision_of(config.train)))


def precision_of(config: TrainConfig) -> str:
    """`bf16` where products are faster in it: tried on a processor, known of GPUs with units for it; else `fp32`."""
    if on_a_processor(config):
        return chosen("precision", ("fp32", "bf16"), bf16_ratio, FASTER)
    gpu = config.device in (AUTO, "cuda") and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


@lru_cache
def chosen(subject: str, options: tuple[str, ...], ratio_of: Callable[[], float | None], most: float) -> str:
    """One of two options: the answer of an earlier trial on this machine where one is kept. Otherwise the second one if
    the ratio of its time to that of the first is at most `most`; this answer is kept."""
    facts = hardware()
    machine = {key: facts[key] for key in DECIDING} | {"torch": torch.__version__}
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{subject}s" / f"{digest[:16]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        option = json.loads(path.read_text(encoding="utf-8"))[subject]
        if option in options:
            return str(option)
    ratio = ratio_of()
    option = options[int(ratio is not None and ratio <= most)]
    with suppress(OSError):
        write_json(path, {"machine": machine, subject: option, "ratio": ratio})
    return option


@lru_cache(maxsize=1)
def bf16_ratio() -> float:
    """Time of a bf16 product of square matrices on this processor over that of an fp32 one right after it: the median
    of several turns, so that a busy moment, which may slow either, decides nothing."""
    bf16, fp32 = (torch.full((SIDE, SIDE), 0.5, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    turns = [_seconds(torch.mm, bf16, bf16) / _seconds(torch.mm, fp32, fp32) for _ in range(WARM_UP + TURNS)]
    return median(turns[WARM_UP:])


def _seconds(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def onednn_ratio() -> float | None:
    """Time of oneDNN's output and gradients of a layer over torch's, the best of several turns; None where they are not
    exact here, or cannot be made."""
    with torch.random.fork_rng(devices=[]):  # what a run draws does not depend on a trial
        torch.manual_seed(0)
        layers, x = (kernel.OneDnnLinear(*LAYER), nn.Linear(*LAYER)), torch.randn(TOKENS, LAYER[0])
    try:
        exact = _products(copy.deepcopy(layers[0]).double(), x.double())
        for ours, in_fp64 in zip(_products(layers[0], x), exact, strict=True):
            if (ours - in_fp64).abs().max() > EXACT * in_fp64.abs().max():
                return None
        turns = [[_seconds(_products, layer, x) for layer in layers] for _ in range(TURNS)]
    except RuntimeError:  # oneDNN has no such product for this processor
        return None
    onednn, usual = map(min, zip(*turns, strict=True))
    return onednn / usual


def _products(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """The output of a layer, and the gradients of its square for the input and the weight."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, layer.weight], y.detach())]

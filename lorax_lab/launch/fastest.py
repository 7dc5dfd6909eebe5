"""The kernel of linear layers that is fastest on this machine. It is tried, never guessed; the answer is kept in the
cache folder for this machine and this torch."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor, nn

from lorax_lab.config import AUTO, KERNELS, TrainConfig
from lorax_lab.data.assets import cache_folder
from lorax_lab.errors import ConfigError
from lorax_lab.models import kernel
from lorax_lab.record.files import write_json
from lorax_lab.record.provenance import hardware

DECIDING = ("machine", "system", "processor", "instruction_set", "processors", "threads")
"""What a machine is for the choice, beside torch's version."""
MARGIN = 0.97
"""oneDNN is chosen where it takes at most this share of torch's time; for less, the usual kernel stays."""
TOKENS, LAYER = 256, (384, 1536)
"""A batch, and (in, out) of a layer of MiniLM. The gradient for its input is a product of the other shape."""
TURNS = 20
"""How often each is tried; that takes about a second."""
EXACT = 1e-5
"""Both kernels are exact to this, relative to the largest value; products in bf16 are not."""


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
    return chosen() if on_a_processor(config) and kernel.has_onednn() else "torch"


@lru_cache(maxsize=1)
def chosen() -> str:
    """The faster kernel here: the answer of an earlier trial on this machine where one is kept, else of one that is
    made and kept now."""
    facts = hardware()
    machine = {key: facts[key] for key in DECIDING} | {"torch": torch.__version__}
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "kernels" / f"{digest[:16]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        if (earlier := json.loads(path.read_text(encoding="utf-8"))["kernel"]) in KERNELS:
            return str(earlier)
    ratio = onednn_ratio()
    name = "onednn" if ratio is not None and ratio <= MARGIN else "torch"
    with suppress(OSError):
        write_json(path, {"machine": machine, "kernel": name, "ratio": ratio})
    return name


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
        turns = [[_seconds(layer, x) for layer in layers] for _ in range(TURNS)]
    except RuntimeError:  # oneDNN has no such product for this processor
        return None
    onednn, usual = map(min, zip(*turns, strict=True))
    return onednn / usual


def _seconds(layer: nn.Linear, x: Tensor) -> float:
    start = time.perf_counter()
    _products(layer, x)
    return time.perf_counter() - start


def _products(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """The output of a layer, and the gradients of its square for the input and the weight."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, layer.weight], y.detach())]

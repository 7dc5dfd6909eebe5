"""What is fastest on this machine: the kernel of linear layers, and whether products in bf16 are worth their casts.

Each is tried, never guessed, and the answer is kept in the cache folder for this machine and this torch.
"""

import copy
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from statistics import median

import torch
from torch import Tensor, nn

from lorax_lab.config import AUTO, KERNELS, RunConfig, TrainConfig
from lorax_lab.data.assets import cache_folder
from lorax_lab.errors import ConfigError
from lorax_lab.models import kernel
from lorax_lab.record.files import write_json
from lorax_lab.record.provenance import hardware

MARGIN = 0.97
"""oneDNN is chosen where it takes at most this share of torch's time; for less, the usual kernel stays."""
TOKENS, LAYER = 256, (384, 1536)
"""A batch, and (in, out) of a layer of MiniLM. The gradient for its input is a product of the other shape."""
TURNS, WARM_UP = 20, 3
"""How often each is tried, about a second in all, and how many turns before do not count."""
EXACT = 1e-5
"""Both kernels are exact to this, relative to the largest value; products in bf16 are not."""
FASTER = 0.8
"""A ratio up to which `auto` chooses bf16; above it, casts between the precisions take what the products save."""
SIDE = 512
"""Of the square matrices that are multiplied in both precisions."""


def on_a_processor(config: TrainConfig) -> bool:
    """Whether a run trains on the machine's processor, and on no accelerator."""
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return config.device == "cpu" or (config.device == AUTO and not accelerated)


def kernel_of(config: TrainConfig) -> str:
    """`torch` or `onednn`: what the run's linear layers multiply with.

    Raises:
        ConfigError: oneDNN is asked for and not here.
    """
    has_onednn = on_a_processor(config) and kernel.has_onednn()
    if config.kernel == "onednn" and not has_onednn:
        raise ConfigError("train.kernel=onednn needs a cpu, and a torch that has it; type train.kernel=auto")
    if config.kernel != AUTO:
        return config.kernel
    return chosen("kernel", KERNELS, onednn_ratio, MARGIN) if has_onednn else "torch"


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
    facts, deciding = hardware(), ("machine", "system", "processor", "instruction_set", "processors")
    machine = {key: facts[key] for key in deciding} | {"torch": torch.__version__}
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{subject}s" / f"{digest[:16]}.json"
    with suppress(OSError, ValueError, KeyError):  # a file that was cut short, or says something else, is as none
        return options[options.index(json.loads(path.read_text(encoding="utf-8"))[subject])]
    ratio = ratio_of()
    option = options[int(ratio is not None and ratio <= most)]
    with suppress(OSError):
        write_json(path, {"machine": machine, subject: option, "ratio": ratio})
    return option


def bf16_ratio() -> float:
    """Time of a bf16 product of square matrices on this processor over that of an fp32 one."""
    bf16, fp32 = (torch.full((SIDE, SIDE), 0.5, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    return _ratio(lambda: torch.mm(bf16, bf16), lambda: torch.mm(fp32, fp32))


def _ratio(work: Callable[[], object], usual: Callable[[], object]) -> float:
    """Time of `work` over that of what is usual right after it: the median of several turns, so that a busy moment,
    which may slow either, decides nothing."""

    def seconds(act: Callable[[], object]) -> float:
        start = time.perf_counter()
        act()
        return time.perf_counter() - start

    return median([seconds(work) / seconds(usual) for _ in range(WARM_UP + TURNS)][WARM_UP:])


def onednn_ratio() -> float | None:
    """Time of oneDNN's output and gradients of a layer over torch's; None where they are not exact here, or cannot be
    made."""
    with torch.random.fork_rng(devices=[]):  # what a run draws does not depend on a trial
        torch.manual_seed(0)
        layers, x = (kernel.OneDnnLinear(*LAYER), nn.Linear(*LAYER)), torch.randn(TOKENS, LAYER[0])
    try:
        exact = _products(copy.deepcopy(layers[0]).double(), x.double())
        for ours, in_fp64 in zip(_products(layers[0], x), exact, strict=True):
            if (ours - in_fp64).abs().max() > EXACT * in_fp64.abs().max():
                return None
        return _ratio(lambda: _products(layers[0], x), lambda: _products(layers[1], x))
    except RuntimeError:  # oneDNN has no such product for this processor
        return None


def _products(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """The output of a layer, and the gradients of its square for the input and the weight."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, layer.weight], y.detach())]

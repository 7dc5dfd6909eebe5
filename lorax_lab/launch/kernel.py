"""Which kernel multiplies in linear layers on this machine; what only a processor draws."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from lorax_lab.config import KERNELS, TrainConfig
from lorax_lab.errors import ConfigError
from lorax_lab.launch.precision import on_a_processor
from lorax_lab.launch.trials import chosen

if TYPE_CHECKING:
    from torch import Tensor, nn

MARGIN = 0.97
"""oneDNN is chosen where it takes at most this share of torch's time; for less, the usual kernel stays."""
TOKENS, SHAPES = 256, ((1536, 384), (384, 1536))
"""A batch, and (out, in) of two layers of MiniLM."""
TRIES, SECONDS = 12, 0.5
"""Turns at most, and when no other begins."""
EXACT = 1e-5
"""Both kernels are exact to this, relative to the largest value; products in bf16 are not."""


def check_kernel(config: TrainConfig) -> None:
    """Refuse oneDNN where it cannot multiply.

    Raises:
        ConfigError: it names the key, its value, and what to type instead.
    """
    from lorax_lab.models.kernel import has_onednn

    if config.kernel != "onednn":
        return
    if not on_a_processor(config):
        raise ConfigError("train.kernel=onednn multiplies on a cpu alone; type train.kernel=auto or train.device=cpu")
    if not has_onednn():
        raise ConfigError("train.kernel=onednn is not in this build of torch; type train.kernel=torch")


def check_dropout(config: TrainConfig) -> None:
    """Refuse masks of bytes where torch's own are drawn by an accelerator.

    Raises:
        ConfigError: it names the key, its value, and what to type instead.
    """
    if config.dropout == "bytes" and not on_a_processor(config):
        raise ConfigError("train.dropout=bytes draws on a cpu alone; type train.dropout=torch or train.device=cpu")


def kernel_of(config: TrainConfig) -> str:
    """`torch` or `onednn`: what the run's linear layers multiply with."""
    if config.kernel != "auto":
        return config.kernel
    return fastest() if on_a_processor(config) else "torch"


@lru_cache(maxsize=1)
def fastest() -> str:
    """The faster kernel on this machine, as `trials.chosen` finds it."""
    from lorax_lab.models.kernel import has_onednn

    return chosen("kernel", KERNELS, _decide) if has_onednn() else "torch"


def _decide() -> tuple[str, float | None]:
    ratio = onednn_ratio()
    return "onednn" if ratio is not None and ratio <= MARGIN else "torch", ratio


def onednn_ratio() -> float | None:
    """Time of oneDNN's output and gradients of two layers over torch's, the best of several turns; None where they are
    not exact here, or cannot be made."""
    import torch
    from torch import nn

    from lorax_lab.models.kernel import OneDnnLinear

    best: dict[tuple[str, tuple[int, int]], float] = {}
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # what a run draws does not depend on a trial
        torch.manual_seed(0)
        layers = {(k, s): c(s[1], s[0]) for s in SHAPES for k, c in (("torch", nn.Linear), ("onednn", OneDnnLinear))}
        inputs = {shape: torch.randn(TOKENS, shape[1]) for shape in SHAPES}
    try:
        if not all(_exact(layers["onednn", shape], x) for shape, x in inputs.items()):
            return None
        for turn in range(TRIES):
            for key, layer in layers.items():
                best[key] = min(_seconds(layer, inputs[key[1]]), best.get(key, float("inf")))
            if turn and time.perf_counter() - started > SECONDS:
                break
    except RuntimeError:  # oneDNN has no such product for this processor
        return None
    ours, theirs = (sum(best[kernel, shape] for shape in SHAPES) for kernel in ("onednn", "torch"))
    return ours / theirs


def _seconds(layer: nn.Linear, x: Tensor) -> float:
    start = time.perf_counter()
    _products(layer, x)
    return time.perf_counter() - start


def _products(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """The output of a layer, and the gradients of its square for the input and the weight."""
    import torch

    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, layer.weight], y.detach())]


def _exact(layer: nn.Linear, x: Tensor) -> bool:
    """Whether a layer's products are those of fp64 to the rounding of fp32."""
    import copy

    exact = _products(copy.deepcopy(layer).double(), x.double())
    pairs = zip(_products(layer, x), exact, strict=True)
    return all(bool((ours - theirs).abs().max() <= EXACT * theirs.abs().max()) for ours, theirs in pairs)

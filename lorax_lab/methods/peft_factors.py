"""ΔW of a layer that PEFT adapted: by its factors where it has such, else merged in fp64 and subtracted."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lorax_lab.methods.peft_updates import RANKNUM_EPS
from lorax_lab.models import out_in
from lorax_lab.spectra import LowRank, Update

ADAPTER = "default"
"""PEFT's name for the one adapter of a model."""


def keep_start(layer: Any) -> None:
    """Remember the factors that PEFT took out of W0, before they are trained: ΔW = s (B A − B₀ A₀)."""
    layer.started_from = tuple(_lora_factors(layer))


def update_of(layer: Any, factors: str, base_weight: Tensor) -> Update:
    """ΔW (out, in) of one layer, on the CPU; `base_weight` is W0 (out, in)."""
    if factors:
        return FACTORS[factors](layer)
    merged = copy.deepcopy(layer).cpu().double().eval()
    if merged.merged:
        bare(merged).weight.data.copy_(out_in(bare(merged), base_weight.double()))
        merged.merged_adapters.clear()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged.merge()
    return out_in(bare(merged), bare(merged).weight.detach()) - base_weight.cpu().double()


def bare(layer: Any) -> Any:
    """The base's own module inside a layer of PEFT."""
    return layer.get_base_layer()


def _lora_factors(layer: Any) -> tuple[Tensor, Tensor]:
    return _kept(layer.lora_B[ADAPTER].weight), _kept(layer.lora_A[ADAPTER].weight)


def _lora(layer: Any) -> LowRank:
    B, A = _lora_factors(layer)
    scaling = float(layer.scaling[ADAPTER])
    if not hasattr(layer, "started_from"):
        return LowRank(B, A, scaling)
    first_B, first_A = layer.started_from
    return LowRank(torch.cat([B, -first_B], 1), torch.cat([A, first_A]), scaling)


def _adalora(layer: Any) -> LowRank:
    """s B (E ∘ A) / (number of directions + 1e-5)."""
    B, A, E = (_kept(part[ADAPTER]) for part in (layer.lora_B, layer.lora_A, layer.lora_E))
    scaling = float(layer.scaling[ADAPTER]) / (float(layer.ranknum[ADAPTER]) + RANKNUM_EPS)
    return LowRank(B, E.double() * A.double(), scaling)


def _vera(layer: Any) -> LowRank:
    """diag(b) B diag(d) A, with the shared B and A cut to the layer's sides."""
    parts = (layer.vera_lambda_b, layer.vera_B, layer.vera_lambda_d, layer.vera_A)
    b, B, d, A = (_kept(part[ADAPTER]).double() for part in parts)
    return LowRank(b[:, None] * B[: layer.out_features], d[:, None] * A[:, : layer.in_features])


def _shared(layer: Any) -> LowRank:
    """B A, both put together from one set of numbers that all layers share."""
    copied = copy.deepcopy(layer).cpu().double()
    with torch.no_grad():
        A, B = copied._get_lora_matrices(ADAPTER)
    return LowRank(B.detach(), A.detach())


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


FACTORS: dict[str, Callable[[Any], LowRank]] = {"lora": _lora, "adalora": _adalora, "vera": _vera, "shared": _shared}

"""Norms, biases and the head. BitFit (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199) trains the biases
alone; here the gains of the normalisation layers train with them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorax_lab.config import MethodConfig
from lorax_lab.methods import part


@dataclass
class NormsAndBiasesConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "norms_and_biases"


def names(model: nn.Module) -> set[str]:
    """Every parameter called `bias`, and what belongs to a layer whose class is called a norm, as `LayerNorm` and
    `LlamaRMSNorm` are."""
    norms = [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
    return {
        name
        for name, _ in model.named_parameters()
        if name.rpartition(".")[2] == "bias" or name.rpartition(".")[0] in norms
    }


METHOD = part.method("norms_and_biases", NormsAndBiasesConfig, names, "norms and biases")

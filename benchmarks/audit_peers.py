"""The audit's peers, as people run them: `python benchmarks/audit_peers.py plain|floor|weightwatcher BASE TUNED`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def load(folder: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def plain(base: str, tuned: str) -> None:
    left, right = load(base), load(tuned)
    for name, weight in left.items():
        sigma = torch.linalg.svdvals(right[name].float() - weight.float())
        p = sigma / sigma.sum()
        print(name, float(torch.special.entr(p).sum().exp()), float(sigma.square().sum() / sigma[0] ** 2))


def floor(base: str, tuned: str) -> None:
    """The least that the exact values take: one fp64 Gram matrix and its eigenvalues."""
    left, right = load(base), load(tuned)
    for name, weight in left.items():
        x = right[name].double() - weight.double()
        x = x if x.shape[0] <= x.shape[1] else x.T
        print(name, float(torch.linalg.eigvalsh(x @ x.T)[-1]))


def weightwatcher(base: str, tuned: str) -> None:
    import weightwatcher as ww

    watcher = ww.WeightWatcher(model=as_module(load(tuned)), base_model=as_module(load(base)))
    print(watcher.analyze())


def as_module(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Linear layers with these weights, in fp32."""
    layers = nn.ModuleDict()
    for name, weight in tensors.items():
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight.float()
        layers[name.removesuffix(".weight").replace(".", "_")] = layer
    return layers


if __name__ == "__main__":
    {"plain": plain, "floor": floor, "weightwatcher": weightwatcher}[sys.argv[1]](*sys.argv[2:])

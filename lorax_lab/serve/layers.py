"""The layers of the base that follow the active adapter: its matrices and its head.

All of them read the state of one `Slot`. That state is exchanged as a whole, by one assignment, so that no layer is
ever ahead of another. The base's own tensors are never written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.methods.lora_layer import add_low_rank, merged_weight
from lorax_lab.models import delta_view
from lorax_lab.spectra import LowRank


@dataclass(frozen=True, eq=False)
class Adapter:
    """One task's adapter and head, ready to be served.

    Args:
        factors: ΔW by the matrix's dotted name in the bare base, in the base's dtype and on its device.
        heads: the task's own head modules by dotted name.
        outputs: width of the head: number of classes, 1 for regression.
    """

    name: str
    factors: dict[str, LowRank]
    heads: dict[str, nn.Module]
    outputs: int


@dataclass(frozen=True, eq=False)
class State:
    """Which adapters the layers apply, and to which rows.

    Args:
        parts: (adapter, first row, end) for consecutive rows of a batch of `rows`. An adapter that serves whole
            batches, of any size, has rows 0 to 1 of 1.
        merged: W0 + ΔW (out, in) by matrix, where a single adapter is merged.
    """

    parts: tuple[tuple[Adapter, int, int], ...] = ()
    rows: int = 1
    merged: dict[str, Tensor] = field(default_factory=dict)


class Slot:
    """Holds the one state that all layers read."""

    def __init__(self) -> None:
        self.state = State()


class ServedLinear(nn.Module):
    """y = W0 x + b + scaling · B A x, where B A is that of each row's adapter; W0 x is computed once for all rows."""

    def __init__(self, name: str, base: nn.Module, slot: Slot) -> None:
        super().__init__()
        self.name, self.base, self.slot = name, base, slot

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        state, bias = self.slot.state, self.base.bias
        assert bias is None or isinstance(bias, Tensor)
        if self.name in state.merged:
            return F.linear(x, state.merged[self.name], bias)
        flat = x.flatten(0, -2)  # (tokens, in), the tokens of a row next to each other
        y = F.linear(flat, delta_view(self.base), bias)
        share = len(flat) // state.rows
        for adapter, first, end in state.parts:
            if self.name in adapter.factors:
                update, tokens = adapter.factors[self.name], slice(first * share, end * share)
                add_low_rank(y[tokens], flat[tokens], update.A, update.B, update.scaling)
        return y.view(*x.shape[:-1], -1)

    def merged_weight(self, update: LowRank) -> Float[Tensor, "out in"]:
        """W0 + ΔW, in memory of its own."""
        return merged_weight(delta_view(self.base), update)


class ServedHead(nn.Module):
    """One module of the head. Each row goes through its own task's module; narrow outputs are padded with zeros."""

    def __init__(self, name: str, slot: Slot) -> None:
        super().__init__()
        self.name, self.slot = name, slot

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        state = self.slot.state
        share = len(x) // state.rows
        outputs = [
            adapter.heads[self.name](x[first * share : end * share], *args, **kwargs)
            for adapter, first, end in state.parts
        ]
        if len(outputs) == 1:
            return outputs[0]
        width = max(output.shape[-1] for output in outputs)
        return torch.cat([F.pad(output, (0, width - output.shape[-1])) for output in outputs])

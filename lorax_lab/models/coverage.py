"""What a run trains, adapts and measures of a base, and what it does not: every parameter is in one group, by name.

The updates of linear layers are adapted and measured. All else is named with the reason: what has no (out, in) matrix
of its own (3-D experts, convolutions), is no linear layer (embeddings, routers), or is no matrix (norms, biases).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorax_lab.models.matrices import adaptable, head_modules, is_head, output_layer, short_name

HEAD = "head"
"""New for the task. It trains in full under every method."""
NOT_TARGETED = "matrices that are not targeted"
"""Linear layers that `method.target_modules` leaves out."""
FIXED = "fixed"
"""What the model's own class keeps from training, such as the sinusoids of Whisper's encoder."""
VECTORS = ("norms", "biases", "vectors")
"""Reasons of what is no matrix."""


@dataclass(frozen=True)
class Census:
    """A base's parameters, each once, before a method changes the model.

    Attributes:
        measured: the weights of the matrices whose update is measured.
        others: all other parameters by type of module and reason, `("mlp.experts.gate_up_proj", "3-D experts")`.
    """

    measured: list[nn.Parameter]
    others: dict[tuple[str, str], list[nn.Parameter]]


def census(model: nn.Module, names: Sequence[str]) -> Census:
    """The parameters of a bare model by group.

    Args:
        names: the matrices whose update is measured, as `choose` gives them.
    """
    weights = {id(model.get_submodule(name).weight) for name in names}
    measured: list[nn.Parameter] = []
    others: dict[tuple[str, str], list[nn.Parameter]] = {}
    reasons = _Reasons(model)
    for name, parameter in model.named_parameters():
        if id(parameter) in weights:
            measured.append(parameter)
        else:
            others.setdefault((_place(name), reasons.reason(name, parameter)), []).append(parameter)
    return Census(measured, others)


def coverage(before: Census, model: nn.Module) -> dict[str, Any]:
    """Numbers of parameters once a method is attached to the model that `before` was taken of.

    Returns:
        `base`, the parameters of the bare model; `adapted`, those of the matrices whose update is measured; `parts`,
        a dict for each group of others (`module`, `reason`, `parameters`, `trained`); `trained`, all that train, and
        `measured`, those of them that make a measured update: the matrices, or what the method adds beside them.
        `base` = `adapted` + Σ `parameters`, and `trained` = `measured` + Σ `trained` of the parts.
    """
    parts = [
        {"module": module, "reason": reason, "parameters": _count(group), "trained": _count(group, trained=True)}
        for (module, reason), group in before.others.items()
    ]
    elsewhere = {id(parameter) for group in before.others.values() for parameter in group}
    adapted = _count(before.measured)
    return {
        "base": adapted + sum(_count(group) for group in before.others.values()),
        "trained": _count(model.parameters(), trained=True),
        "adapted": adapted,
        "measured": _count([p for p in model.parameters() if id(p) not in elsewhere], trained=True),
        "parts": parts,
    }


def not_measured(before: Census) -> dict[str, float]:
    """The matrices of the body that are neither adapted nor measured: their share of the body's parameters by reason,
    the largest first."""
    sizes: dict[str, int] = {}
    for (_, reason), group in before.others.items():
        if reason not in (HEAD, FIXED, *VECTORS):
            sizes[reason] = sizes.get(reason, 0) + _count(group)
    head = sum(_count(group) for (_, reason), group in before.others.items() if reason == HEAD)
    body = _count(before.measured) + sum(_count(group) for group in before.others.values()) - head
    return {reason: size / body for reason, size in sorted(sizes.items(), key=lambda item: -item[1])}


def in_words(shares: dict[str, float]) -> str:
    """Shares of the body, in words.

    >>> in_words({"3-D experts": 0.906, "routers": 0.0004})
    "3-D experts (91 % of the body's parameters), routers (under 1 %)"
    """
    texts = [f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %" for share in shares.values()]
    texts[0] += " of the body's parameters"
    return ", ".join(f"{reason} ({text})" for reason, text in zip(shares, texts, strict=True))


class _Reasons:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.heads, self.linear = model, head_modules(model), adaptable(model)
        self.output = [layer] if (layer := output_layer(model)) is not None else []
        counts = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        self.tied = {key for key, count in counts.items() if count > 1}

    def reason(self, name: str, parameter: nn.Parameter) -> str:
        """The reason for the parameter of that dotted name: the first that holds."""
        owner, _, last = name.rpartition(".")
        module = self.model.get_submodule(owner)
        kind, sides = type(module).__name__.lower(), parameter.ndim
        is_state_space, is_table = hasattr(module, "A_log"), isinstance(module, nn.Embedding) or "embedding" in kind
        reasons = {
            FIXED: not parameter.requires_grad,
            HEAD: is_head(name, self.heads),
            NOT_TARGETED: owner in self.linear and last == "weight",
            "norms": "norm" in kind,
            "biases": sides < 2 and "bias" in last,
            "vectors": sides < 2 and not is_state_space,
            "output layer": sides > 1 and is_head(name, self.output),
            "tied embeddings": sides > 1 and is_table and id(parameter) in self.tied,
            "embeddings": sides > 1 and is_table,
            "convolutions": isinstance(module, nn.modules.conv._ConvNd),
            "state-space parameters": is_state_space,
            f"{sides}-D experts": sides > 2 and "expert" in f"{kind}.{last}",
            f"{sides}-D tensors": sides > 2,
            "routers": "router" in kind,
            "other matrices": True,
        }
        return next(reason for reason, holds in reasons.items() if holds)


def _place(name: str) -> str:
    """The type of module that a parameter belongs to; its own name too where that is neither weight nor bias.

    >>> _place("bert.encoder.layer.3.output.LayerNorm.bias"), _place("model.layers.0.mlp.experts.down_proj")
    ('output.LayerNorm', 'mlp.experts.down_proj')
    """
    owner, _, last = name.rpartition(".")
    return short_name(owner if last in ("weight", "bias") else name)


def _count(parameters: Iterable[nn.Parameter], trained: bool = False) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad or not trained)

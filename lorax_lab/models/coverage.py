"""What a run trains, adapts and measures of a base, and what it does not: every parameter is in one group, by name.

The updates of linear layers are adapted and measured. All else is named with the reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from lorax_lab.models.matrices import adaptable, head_modules, is_head, output_layer, short_name
from lorax_lab.record.result import Coverage, Part

HEAD, NOT_TARGETED, FIXED = "head", "matrices that are not targeted", "fixed"
"""New for the task; left out by `method.target_modules`; kept from training by the model's own class."""
STAND_IN = ".parametrizations."
"""In the name that torch gives a weight in whose place something else stands."""
VECTORS = ("norms", "biases", "vectors")
"""Reasons of what is no matrix."""


@dataclass(frozen=True)
class Census:
    """A base's parameters, each once, before a method changes the model: the number of weights of the matrices whose
    update is measured, which a quantized layer does not keep; all others by type of module and reason,
    `("mlp.experts.gate_up_proj", "3-D experts")`."""

    measured: int
    unmeasured: dict[tuple[str, str], list[nn.Parameter]]


def census(model: nn.Module, names: Sequence[str]) -> Census:
    """The parameters of a bare model by group; `names` are the matrices whose update is measured."""
    weights, reason = {id(model.get_submodule(name).weight) for name in names}, _reasons(model)
    measured, unmeasured = 0, dict[tuple[str, str], list[nn.Parameter]]()
    for name, parameter in model.named_parameters():
        if id(parameter) in weights:
            measured += parameter.numel()
        else:
            unmeasured.setdefault((_place(name), reason(name, parameter)), []).append(parameter)
    return Census(measured, unmeasured)


def coverage(before: Census, model: nn.Module) -> Coverage:
    """Numbers of parameters once a method is attached to the model that `before` was taken of. None count as measured
    where they move other weights with the matrices."""
    groups = before.unmeasured.items()
    parts = [Part(*place, _count(group), _count(group, trained=True)) for place, group in groups]
    adapted, trained = before.measured, _count(model.parameters(), trained=True)
    base, measured = adapted + sum(p.parameters for p in parts), trained - sum(p.trained for p in parts)
    unmeasured = {id(parameter) for group in before.unmeasured.values() for parameter in group}
    if any(STAND_IN in name and id(p) in unmeasured for name, p in model.named_parameters()):
        measured = 0
    return Coverage(base, trained, adapted, measured, parts)


def not_measured(before: Census) -> dict[str, float]:
    """The matrices of the body that are neither adapted nor measured: their share of the body's parameters by reason,
    the largest first."""
    sizes = Counter[str]()
    for (_, reason), group in before.unmeasured.items():
        sizes[reason] += _count(group)
    body = before.measured + sizes.total() - sizes[HEAD]
    return {reason: size / body for reason, size in sizes.most_common() if reason not in (HEAD, FIXED, *VECTORS)}


def _reasons(model: nn.Module) -> Callable[[str, nn.Parameter], str]:
    """From a parameter and its dotted name to the reason why its update is not measured: the first that holds."""
    heads, linear = head_modules(model), adaptable(model)
    output = [layer] if (layer := output_layer(model)) is not None else []
    counts = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))

    def reason(name: str, parameter: nn.Parameter) -> str:
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        kind, sides = type(module).__name__.lower(), parameter.ndim
        is_state_space, is_table = hasattr(module, "A_log"), isinstance(module, nn.Embedding) or "embedding" in kind
        reasons = {
            FIXED: not parameter.requires_grad,
            HEAD: is_head(name, heads),
            NOT_TARGETED: owner in linear and last == "weight",
            "norms": "norm" in kind,
            "biases": sides < 2 and "bias" in last,
            "vectors": sides < 2 and not is_state_space,
            "output layer": sides > 1 and is_head(name, output),
            "tied embeddings": sides > 1 and is_table and counts[id(parameter)] > 1,
            "embeddings": sides > 1 and is_table,
            "convolutions": isinstance(module, nn.modules.conv._ConvNd),
            "state-space parameters": is_state_space,
            f"{sides}-D experts": sides > 2 and "expert" in f"{kind}.{last}",
            f"{sides}-D tensors": sides > 2,
            "routers": "router" in kind,
            "other matrices": True,
        }
        return next(reason for reason, holds in reasons.items() if holds)

    return reason


def _place(name: str) -> str:
    """The type of module that a parameter belongs to; its own name too where that is neither weight nor bias.

    >>> _place("bert.encoder.layer.3.output.LayerNorm.bias"), _place("model.layers.0.mlp.experts.down_proj")
    ('output.LayerNorm', 'mlp.experts.down_proj')
    """
    owner, _, last = name.rpartition(".")
    return short_name(owner if last in ("weight", "bias") else name)


def _count(parameters: Iterable[nn.Parameter], trained: bool = False) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad or not trained)

"""What the lab needs from a method: its settings, and the few functions that every method has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.spectra import Update

Settings = TypeVar("Settings", bound=MethodConfig)
Shapes = dict[str, tuple[int, int]]
"""(out, in) by the matrix's dotted name."""


def _nothing(*_: Any) -> None:
    """The function of a method that has nothing to do."""


def _smaller_side(settings: Any, rank: int | None, shape: tuple[int, int]) -> int:
    """The rank of a matrix that nothing else bounds."""
    return min(shape)


@dataclass(frozen=True)
class Method(Generic[Settings]):
    """One way to change a model.

    Attributes:
        settings: the dataclass of the method's own settings, with their defaults and checks.
        weights: the file of `export` that holds what was trained.
        attach: (model, names, settings, rank, generator) makes the method's part of the model trainable, in place.
            What ΔW is right after it, `start` says.
        updates: (model, base weights) gives {matrix name: ΔW}, each `LowRank` or dense, always (out, in). A dense one
            may be made anew whenever it is read, from the model as it is then.
        export: (model, settings, base's public name) gives {file name: tensors, or plain values for a .json}.
        load: (model, folder) puts what `export` saved onto a bare base, head included.
        saved_updates: (folder, bare model, base weights) gives the `updates` of what `export` saved.
        check: (settings, rank, shapes of the targets) raises a `ConfigError` for what `attach` cannot do.
        check_base: (settings, bare model, names of the targets) raises a `ConfigError` for what `attach` cannot do with
            the model's parameters, whose values are not read.
        merge: writes W0 + ΔW into the weights; a second time it changes nothing.
        unmerge: undoes `merge`, to the bit.
        penalty: (model) gives what is added to the loss of each training batch.
        stepped: (model, step, steps) is called after each optimizer step, while the gradients are there. A method that
            has it needs all the steps that were planned, and the weights of the last.
        start: ΔW right after `attach`: `zero`, `rounding` (zero but for fp32 rounding of W0) or `drawn` (not zero).
        most_rank: (settings, rank, shape of the matrix) gives the rank of ΔW at most.
        update_dtype: the precision that a dense ΔW was computed in; its rounding floor follows from it.
        has_rank: whether the run's `rank` is a dial of this method.
        size: the method's own setting that bounds what it can learn, where `rank` is none of it.
        steps_as_full: a step holds about as much as one of full fine-tuning.
        trains_body: it trains something besides the head.
        multiplies_only: products are all that its layers do with the frozen weights, so that these may be kept in the
            precision of the products.
        is_reference: every weight trains. The other methods are compared with this one, and its update is truncated.
    """

    settings: type[Settings]
    weights: str
    attach: Callable[[nn.Module, list[str], Settings, int | None, torch.Generator], None]
    updates: Callable[[nn.Module, dict[str, Tensor]], Mapping[str, Update]]
    export: Callable[[nn.Module, Settings, str], dict[str, dict[str, Any]]]
    load: Callable[[nn.Module, Path], None]
    saved_updates: Callable[[Path, nn.Module, dict[str, Tensor]], Mapping[str, Update]]
    check: Callable[[Settings, int | None, Shapes], None] = _nothing
    check_base: Callable[[Settings, nn.Module, list[str]], Any] = _nothing
    merge: Callable[[nn.Module], Any] = _nothing
    unmerge: Callable[[nn.Module], Any] = _nothing
    penalty: Callable[[nn.Module], Tensor] | None = None
    stepped: Callable[[nn.Module, int, int], None] | None = None
    start: str = "zero"
    most_rank: Callable[[Settings, int | None, tuple[int, int]], int] = _smaller_side
    update_dtype: torch.dtype = torch.float32
    has_rank: bool = True
    size: str | None = None
    steps_as_full: bool = False
    trains_body: bool = True
    multiplies_only: bool = False
    is_reference: bool = False

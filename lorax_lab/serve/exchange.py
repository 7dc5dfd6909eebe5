"""One frozen base and the adapters of many tasks: exchanged, merged and unmerged.

The base's bits are never written. An exchange is one assignment: all layers read one `Slot`. A merge puts W0 + ΔW into
memory of its own, and unmerging frees that memory: nothing is subtracted, so nothing is rounded.
"""

import copy
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.methods import adapters, lora
from lorax_lab.methods.lineage import lineage_of, weights_sha256
from lorax_lab.methods.lora_layer import add_low_rank, merged_weight
from lorax_lab.models import Base, adaptable, delta_view, head_modules, is_head, shapes_of
from lorax_lab.record.record import RECORD, read_record
from lorax_lab.spectra import LowRank

Batch = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Adapter:
    """One task's adapter and head: ΔW and head modules by dotted name, in the base's dtype and on its device."""

    name: str
    factors: dict[str, LowRank]
    heads: dict[str, nn.Module]


@dataclass(eq=False)
class Slot:
    """The active adapter, which all layers read, and W0 + ΔW (out, in) by matrix where it is merged."""

    adapter: Adapter | None = None
    merged: dict[str, Tensor] = field(default_factory=dict)


class ServedLinear(nn.Module):
    """y = W0 x + b + scaling · B A x, with B A of the active adapter; (W0 + ΔW) x + b where it is merged."""

    def __init__(self, name: str, base: nn.Module, slot: Slot) -> None:
        super().__init__()
        self.name, self.base, self.slot = name, base, slot

    def forward(self, x: Tensor) -> Tensor:  # from (*batch, in) to (*batch, out)
        bias, merged = self.base.bias, self.slot.merged.get(self.name)
        assert bias is None or isinstance(bias, Tensor)
        if merged is not None:
            return F.linear(x, merged, bias)
        flat = x.flatten(0, -2)  # (tokens, in)
        y = F.linear(flat, delta_view(self.base), bias)
        if self.slot.adapter and (update := self.slot.adapter.factors.get(self.name)):
            add_low_rank(y, flat, update.A, update.B, update.scaling)
        return y.view(*x.shape[:-1], -1)


class ServedHead(nn.Module):
    """One module of the head: that of the active adapter."""

    def __init__(self, name: str, slot: Slot) -> None:
        super().__init__()
        self.name, self.slot = name, slot

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        assert self.slot.adapter is not None, "an adapter is active whenever the model is called"
        return self.slot.adapter.heads[self.name](*args, **kwargs)


class Exchange:
    """A base held once, with adapters by name; the one in the slot is active. A call that is refused changes nothing.

    Args:
        base: a bare model, which the exchange takes over; its head is only a pattern for the adapters' heads. Its name
            and its files' hash are those that the records of the runs on it have.
    """

    def __init__(self, base: Base) -> None:
        self.model = base.model.eval().requires_grad_(False)
        self.base_name, self.model_sha256 = base.name, base.sha256
        self.adapters: dict[str, Adapter] = {}
        self._slot = Slot()
        names = head_modules(self.model)
        self._base = {key: t for key, t in self.model.state_dict().items() if not is_head(key, names)}
        self._shapes = shapes_of(self.model)
        self._heads = {name: self.model.get_submodule(name) for name in names}
        self._layers = {name: ServedLinear(name, module, self._slot) for name, module in adaptable(self.model).items()}
        for name, layer in self._layers.items():
            self.model.set_submodule(name, layer)
        for name in names:
            self.model.set_submodule(name, ServedHead(name, self._slot))

    @property
    def merged(self) -> bool:
        """Whether the active adapter is merged."""
        return bool(self._slot.merged)

    def add(self, name: str, folder: Path) -> None:
        """Add the adapter saved in `folder`, of a run or of PEFT. A ConfigError says that the name is taken, that the
        adapter has another base or is damaged, or that its head does not fit."""
        if name in self.adapters:
            raise ConfigError(f"there is an adapter {name} already; choose another name for {folder}")
        saved, factors = self._admit(folder), {}
        for key, update in saved.factors.items():  # copied, since what was read is mapped from a file that may change
            weight: Any = self._layers[key].base.weight
            factors[key] = LowRank(update.B.to(weight, copy=True), update.A.to(weight, copy=True), update.scaling)
        self.adapters[name] = Adapter(name, factors, self._heads_of(saved.saved, folder))

    def switch(self, name: str) -> None:
        """Make the adapter of that name active, unmerged, with its head."""
        if name not in self.adapters:
            raise ConfigError(f"there is no adapter {name}; {suggest(name, tuple(self.adapters))}")
        self._slot.adapter, self._slot.merged = self.adapters[name], {}

    def merge(self) -> None:
        """Serve the active adapter at the base's own speed, which takes the memory of one more copy of its matrices."""
        factors = self._active().factors
        if not self.merged:
            weights = {name: delta_view(self._layers[name].base) for name in factors}
            self._slot.merged = {name: merged_weight(weights[name], update) for name, update in factors.items()}

    def unmerge(self) -> None:
        """Serve from the base's own bits again, which were never written; it does nothing where nothing is merged."""
        self._slot.merged = {}

    @torch.inference_mode()
    def serve(self, batch: Batch) -> Tensor:
        """The active adapter's outputs for a batch, (rows, outputs); `labels` are ignored."""
        self._active()
        return self.model(**{k: t.to(self.model.device) for k, t in batch.items() if k != "labels"}).logits

    def fingerprint(self) -> str:
        """SHA-256 of the names and bytes that the base's tensors have now, without its head."""
        digest = hashlib.sha256()
        for name, tensor in self._base.items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def held(self) -> dict[str, list[Tensor]]:
        """All tensors in memory: those of the base, of the adapters with their heads, and the merged ones."""
        adapters = self.adapters.values()
        factors = [t for adapter in adapters for update in adapter.factors.values() for t in (update.A, update.B)]
        heads = [p for adapter in adapters for head in adapter.heads.values() for p in head.parameters()]
        merged = list(self._slot.merged.values())
        return {"base": list(self._base.values()), "adapters": [*factors, *heads], "merged": merged}

    @cached_property
    def _weights_sha256(self) -> str:
        return weights_sha256(self._base)

    def _active(self) -> Adapter:
        if self._slot.adapter is None:
            raise ConfigError(f"no adapter is active; switch to one of {', '.join(self.adapters)}")
        return self._slot.adapter

    def _admit(self, folder: Path) -> adapters.Adapter:
        """The adapter in `folder`, if its base is this one. A run's record has the hash of the base's files, an
        adapter's own file that of the base's weights; where it says nothing there is only the base's name."""
        record = read_record(folder) if (folder / RECORD).is_file() else None
        if record and (record.status, record.method) != ("completed", "lora"):
            reason = f"a {record.status} run of method={record.method}, no trained adapter"
            raise ConfigError(f"{folder}: {reason}; name a completed run of method=lora")
        saved = lora.read(folder, self._shapes)
        lineage = None if record else lineage_of(folder)
        stated = record.completed.inputs.model_sha256 if record else lineage and lineage.model_sha256
        name = str(saved.settings.get("base_model_name_or_path"))
        theirs, ours = (name, stated or self.model_sha256), (self.base_name, self.model_sha256)
        if theirs == ours and lineage:
            theirs, ours = (name, lineage.base_weights), (self.base_name, self._weights_sha256)
        if theirs != ours:
            bases = "; held here is ".join(f"{name} (sha256 {sha256[:12]})" for name, sha256 in (theirs, ours))
            raise ConfigError(f"{folder}: this adapter belongs to another base, {bases}")
        return saved

    def _heads_of(self, saved: dict[str, Tensor], folder: Path) -> dict[str, nn.Module]:
        """The task's head. A part of the body (a pooler) is the base's if it was not saved."""
        heads, body = copy.deepcopy(self._heads), f"{self.model.base_model_prefix}."
        parameters = {f"{name}.{key}": p for name, module in heads.items() for key, p in module.named_parameters()}
        if missing := [key for key in parameters if key not in saved and not key.startswith(body)]:
            raise ConfigError(f"{folder}: {missing[0]} is missing; a task's head is saved with its adapter")
        last = [key.rpartition(".")[0] for key, p in parameters.items() if len(p) == self.model.config.num_labels][-1]
        outputs = len(saved.get(f"{last}.weight", parameters[f"{last}.weight"]))
        for key, tensor in saved.items():
            shape = parameters[key].shape if key in parameters else None
            if shape and key.rpartition(".")[0] == last:
                shape = torch.Size([outputs, *shape[1:]])
            if tensor.shape != shape:
                expected = f"the base's head has {tuple(shape)}" if shape else "the base has no such part of the head"
                raise ConfigError(f"{folder}: {key} is {tuple(tensor.shape)}; {expected}")
            parameters[key].data = tensor.to(parameters[key], copy=True)
        return heads

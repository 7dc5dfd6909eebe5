"""One frozen base and the adapters of many tasks: exchanged, merged and unmerged, or mixed in one batch.

The base's bits are never written. An exchange is one assignment, whatever the size of the model. A merge puts W0 + ΔW
into memory of its own, and unmerging frees that memory: nothing is subtracted, so nothing is rounded.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.methods.lora_layer import set_module
from lorax_lab.models import Base, adaptable, head_modules, is_head, shapes_of
from lorax_lab.serve.admission import admit
from lorax_lab.serve.layers import Adapter, ServedHead, ServedLinear, Slot, State
from lorax_lab.spectra import LowRank

Batch = dict[str, Tensor]


class Exchange:
    """A base held once, with adapters by name; the one in the slot is active.

    A call that is refused changes nothing: the active adapter stays and answers as before. An exchange serves one
    caller at a time.

    Args:
        base: a bare model, which the exchange takes over; its head is only a pattern for the adapters' heads.
        model_sha256: of the base's files, as in the records of the runs on it.
    """

    def __init__(self, base: Base, model_sha256: str) -> None:
        self.model = base.model.eval().requires_grad_(False)
        self.base_name, self.model_sha256 = base.name, model_sha256
        self.adapters: dict[str, Adapter] = {}
        self._slot = Slot()
        names = head_modules(self.model)
        self._base = {key: t for key, t in self.model.state_dict().items() if not is_head(key, names)}
        self._shapes = shapes_of(self.model)
        self._heads = {name: self.model.get_submodule(name) for name in names}
        self._layers = {name: ServedLinear(name, module, self._slot) for name, module in adaptable(self.model).items()}
        for name, layer in self._layers.items():
            set_module(self.model, name, layer)
        for name in names:
            set_module(self.model, name, ServedHead(name, self._slot))

    @property
    def device(self) -> torch.device:
        """The device of the base."""
        return next(self.model.parameters()).device

    @property
    def active(self) -> str | None:
        """Name of the active adapter, None before the first exchange."""
        parts = self._slot.state.parts
        return parts[0][0].name if parts else None

    @property
    def merged(self) -> bool:
        """Whether the active adapter is merged."""
        return bool(self._slot.state.merged)

    def add(self, name: str, folder: Path) -> None:
        """Add the adapter saved in `folder`, a run's folder or one of PEFT's; the active adapter stays.

        Raises:
            ConfigError: the name is taken; the adapter has another base, or another rank than it states, is damaged, or
                has a head that does not fit.
        """
        if name in self.adapters:
            raise ConfigError(f"there is an adapter {name} already; choose another name for {folder}")
        saved = admit(folder, self._shapes, self.base_name, self.model_sha256)
        factors = {key: self._on_device(key, update) for key, update in saved.factors.items()}
        heads, outputs = self._heads_of(saved.head, folder)
        self.adapters[name] = Adapter(name, factors, heads, outputs)

    def switch(self, name: str) -> None:
        """Make the adapter active, unmerged, with its head.

        Raises:
            ConfigError: the name is unknown; the active adapter stays, merged or not.
        """
        self._slot.state = State(((self._adapter(name), 0, 1),))

    def merge(self) -> None:
        """Serve the active adapter at the base's own speed; merging twice is merging once.

        Until `unmerge` or `switch` it takes the memory of one more copy of every matrix that the adapter has.
        """
        state = self._active_state()
        if not state.merged:
            factors = state.parts[0][0].factors
            merged = {name: self._layers[name].merged_weight(update) for name, update in factors.items()}
            self._slot.state = replace(state, merged=merged)

    def unmerge(self) -> None:
        """Serve from the base's own bits again, which were never written; it does nothing where nothing is merged."""
        self._slot.state = replace(self._slot.state, merged={})

    @torch.inference_mode()
    def serve(self, batch: Batch) -> Tensor:
        """The active adapter's outputs for a batch, (rows, outputs); `labels` are ignored."""
        self._active_state()
        return self._logits(batch)

    @torch.inference_mode()
    def mixed(self, batch: Batch, names: list[str]) -> list[Tensor]:
        """The outputs of adapter `names[i]` for row i of one batch: (outputs,) for each row, as wide as its own head.

        The rows are sorted by adapter, so that every matrix of the base is multiplied once for all rows and each
        adapter's factors once for its own rows. The active adapter plays no part, and stays, merged or not.

        Raises:
            ConfigError: a name is unknown, or there is not one name for each row.
        """
        rows = len(next(iter(batch.values())))
        if len(names) != rows or not rows:
            raise ConfigError(f"{len(names)} names for a batch of {rows} rows; it takes one for each row")
        chosen = {name: self._adapter(name) for name in names}
        position = {name: i for i, name in enumerate(chosen)}
        order = sorted(range(rows), key=lambda row: position[names[row]])
        parts, first = [], 0
        for name, adapter in chosen.items():
            parts.append((adapter, first, first := first + names.count(name)))
        before, self._slot.state = self._slot.state, State(tuple(parts), rows)
        try:
            logits = self._logits({key: tensor[order] for key, tensor in batch.items()})
        finally:
            self._slot.state = before
        of_row = dict(zip(order, logits, strict=True))
        return [of_row[row][: chosen[names[row]].outputs] for row in range(rows)]

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
        merged = list(self._slot.state.merged.values())
        return {"base": list(self._base.values()), "adapters": [*factors, *heads], "merged": merged}

    def head_bytes(self, name: str) -> int:
        """Bytes of the parts of an adapter's head that the base's checkpoint does not have."""
        heads = self._adapter(name).heads
        return sum(p.nbytes for key, head in heads.items() if not self._in_body(key) for p in head.parameters())

    def _in_body(self, key: str) -> bool:
        return key.startswith(f"{self.model.base_model_prefix}.")

    def _logits(self, batch: Batch) -> Tensor:
        inputs = {key: tensor.to(self.device) for key, tensor in batch.items() if key != "labels"}
        logits: Tensor = self.model(**inputs).logits
        return logits

    def _adapter(self, name: str) -> Adapter:
        if name not in self.adapters:
            raise ConfigError(f"there is no adapter {name}; {suggest(name, tuple(self.adapters))}")
        return self.adapters[name]

    def _active_state(self) -> State:
        if self.active is None:
            raise ConfigError(f"no adapter is active; switch to one of {', '.join(self.adapters)}")
        return self._slot.state

    def _on_device(self, name: str, update: LowRank) -> LowRank:
        """A copy of the factors on the base's device: those that were read are mapped from a file that may change."""
        weight = self._layers[name].base.weight
        assert isinstance(weight, Tensor)
        return LowRank(update.B.to(weight, copy=True), update.A.to(weight, copy=True), update.scaling)

    def _heads_of(self, saved: dict[str, Tensor], folder: Path) -> tuple[dict[str, nn.Module], int]:
        """The task's head and its width. A part of the body (a pooler) is the base's if it was not saved."""
        heads = {name: copy.deepcopy(module) for name, module in self._heads.items()}
        own = {f"{name}.{key}": p for name, module in heads.items() for key, p in module.named_parameters()}
        if missing := [key for key in own if key not in saved and not self._in_body(key)]:
            raise ConfigError(f"{folder}: {missing[0]} is missing; a task's head is saved with its adapter")
        last = [key.rpartition(".")[0] for key, p in own.items() if len(p) == self.model.config.num_labels][-1]
        outputs = len(saved.get(f"{last}.weight", own[f"{last}.weight"]))
        for key, tensor in saved.items():
            shape = own[key].shape if key in own else None
            if shape and key.rpartition(".")[0] == last:
                shape = torch.Size([outputs, *shape[1:]])
            if tensor.shape != shape:
                expected = f"the base's head has {tuple(shape)}" if shape else "the base has no such part of the head"
                raise ConfigError(f"{folder}: {key} is {tuple(tensor.shape)}; {expected}")
            own[key].data = tensor.to(own[key], copy=True)
        return heads, outputs

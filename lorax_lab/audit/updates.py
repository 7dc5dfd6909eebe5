"""What is audited: two checkpoints, a checkpoint and an adapter, or an adapter alone, as a list of matrices."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from lorax_lab.audit.checkpoints import (
    Checkpoint,
    Difference,
    Note,
    Pairing,
    Stored,
    as_matrix,
    open_checkpoint,
    pair,
    plain_name,
)
from lorax_lab.audit.kohya import is_kohya, read_kohya
from lorax_lab.audit.loralib import FACTOR, is_loralib, read_loralib
from lorax_lab.errors import ConfigError
from lorax_lab.methods.peft_files import LORA_BIAS, TRAINED_TOKENS, by_module, read_files
from lorax_lab.methods.peft_format import SETTINGS
from lorax_lab.methods.peft_updates import Adapter, AdapterUpdate, is_adapter, read_adapter
from lorax_lab.spectra import Update

COMMON = 0.5
"""Share of the matrices that two checkpoints must have in common. A tuned model has nearly all of its base's; some may
be cut away, or have another vocabulary."""
TYPED = "python -m lorax_lab.audit BASE ADAPTER"
IN_BOTH = ("tied", "transposed", "unsupported dtype", "3-D")
"""Notes on matrices that both sides have, and that are not measured, or under another name."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """One update to be measured; its data is read only when `update` is called.

    Args:
        name: the weight's name in the base.
        kind: `pair`, or the adapter's method.
        shape: (out, in).
        base, tuned: W0 and W_tuned on disk, as stored; None where there is no such side.
        update: ΔW: the difference on disk, factors, or a dense matrix.
        module: an adapter's own name of the module, which may have a wrapper's parts that the base's lacks; else empty.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    base: Stored | None
    tuned: Stored | None
    update: Callable[[], Difference | Update]
    module: str = ""

    @property
    def cost(self) -> int:
        """Multiplications of its Gram matrix, or of the QR of its factors: how the remaining time is estimated."""
        short = min(self.shape) if self.kind == "pair" or "dora" in self.kind else 64
        return self.shape[0] * self.shape[1] * short


@dataclass(frozen=True, eq=False)
class Updates:
    """The updates to be measured, notes on what is not measured, and a fingerprint of it all.

    Args:
        title: for people.
        slug: as part of a folder's name.
        adapter: None for two checkpoints.
        beside: what a file of loralib's holds beside its factors, such as a head, by name.
        unplaced: names of an adapter's tensors that are in no update, and take the place of no tensor of the base.
    """

    title: str
    slug: str
    matrices: list[Matrix]
    notes: list[Note]
    fingerprint: str
    base: Checkpoint | None
    adapter: Adapter | None
    beside: dict[str, Stored] = field(default_factory=dict)
    unplaced: Callable[[], list[str]] = list


def open_updates(base: str, tuned: str | None, alpha: float | None = None, with_base: str = TYPED) -> Updates:
    """The updates between what the two names on the command line stand for.

    Args:
        alpha: of a plain file of loralib's factors, which does not contain it.
        with_base: the command that names an adapter and its base, for refusals.

    Raises:
        ConfigError: a name is no checkpoint and no adapter, a checkpoint stands alone, or the alpha is missing, is not
            the file's own, or has nothing to scale.
    """
    if tuned is None:
        if not is_any_adapter(base):
            raise ConfigError(
                f"{base} alone is no adapter folder (adapter_config.json, adapter_model.safetensors) and no file with "
                "tensors named lora_A and lora_B, or lora_down and lora_up; type: python -m lorax_lab.audit BASE TUNED"
            )
        return _adapter(None, base, alpha, with_base)
    if is_any_adapter(base):
        raise ConfigError(f"BASE={base} is an adapter; type: {with_base}")
    if is_any_adapter(tuned):
        return _adapter(open_checkpoint(base), tuned, alpha, with_base)
    if alpha is not None:
        raise ConfigError(
            f"--alpha {alpha:g} scales an adapter's factors, and {tuned} is no adapter; leave --alpha out"
        )
    return _pair(base, tuned)


def is_any_adapter(name: str) -> bool:
    """Whether a name is a PEFT adapter's folder, or a single file of factors under loralib's or kohya's names."""
    path = Path(name).expanduser()
    return (_is_plain(path) and (is_kohya(path) or is_loralib(path))) or is_adapter(path)


def _is_plain(path: Path) -> bool:
    """Whether no settings of PEFT stand beside a file."""
    return not (path.parent / SETTINGS).is_file()


Rest = tuple[dict[str, Stored], Callable[[], list[str]]]
"""`beside` and `unplaced` of `Updates`."""


def _read_adapter(name: str, alpha: float | None, base: Checkpoint | None) -> tuple[Adapter, Rest]:
    path = Path(name).expanduser()
    if _is_plain(path) and is_kohya(path):
        adapter, left = read_kohya(path, alpha, base.tensors if base else None)
        return adapter, ({}, lambda: left)
    if _is_plain(path) and is_loralib(path):
        adapter, beside = read_loralib(path, alpha)
        return adapter, (beside, list)
    adapter = read_adapter(path)
    stated = {adapter.settings.get("lora_alpha"), *(adapter.settings.get("alpha_pattern") or {}).values()}
    if alpha is not None and stated != {alpha}:
        listed = ", ".join(sorted(map(str, stated)))
        raise ConfigError(f"--alpha {alpha:g}: {SETTINGS} of {name} states {listed}; leave --alpha out")
    return adapter, ({}, lambda: _unplaced(path))


def _unplaced(path: Path) -> list[str]:
    """Tensors of PEFT's that `read_adapter` leaves out: factors of convolutions, and what is added to a bias or to
    single tokens."""
    _, tensors = read_files(path)
    modules, rest = by_module(tensors)
    kernels = {name: parts for name, parts in modules.items() if any(part.ndim > 2 for part in parts.values())}
    factors = [f"{name}.{part}" for name, parts in kernels.items() for part in parts]
    return [*factors, *(name for name in rest if name.endswith((LORA_BIAS, TRAINED_TOKENS)))]


def _pair(base_name: str, tuned_name: str) -> Updates:
    base, tuned = open_checkpoint(base_name), open_checkpoint(tuned_name)
    if factors := [key for key in tuned.tensors if FACTOR.fullmatch(key)]:
        raise ConfigError(
            f"{tuned_name} holds {factors[0]}, a factor of loralib: its weights may lack ΔW; name the file itself, "
            f"{tuned.files[0]}, with --alpha"
        )
    pairing = pair(base, tuned)
    matrices = [
        Matrix(p.name, "pair", _sides(p.base.shape), p.base, p.tuned, lambda p=p: Difference(p.base, p.tuned))  # type: ignore[misc]
        for p in pairing.pairs
    ]
    if not matrices:
        reasons = "; ".join(f"{note.kind} {note.name}: {note.detail}" for note in pairing.notes[:5])
        raise ConfigError(f"{base_name} and {tuned_name} share no 2-D weight that can be measured ({reasons})")
    _refuse_strangers(base, tuned, pairing)
    fingerprint = base.fingerprint() + tuned.fingerprint()
    title = f"{tuned_name} against {base_name}"
    return Updates(title, _slug(base_name, tuned_name), matrices, pairing.notes, fingerprint, base, None)


def _refuse_strangers(base: Checkpoint, tuned: Checkpoint, pairing: Pairing) -> None:
    """Refuse two models of which neither was tuned from the other: a matrix or two of one name and shape, such as an
    embedding, are no finding.

    Raises:
        ConfigError: less than half of the matrices of the side with fewer are in the other one.
    """
    both = len(pairing.pairs) + sum(note.kind in IN_BOTH for note in pairing.notes)
    fewest = min(sum(len(stored.shape) >= 2 for stored in side.tensors.values()) for side in (base, tuned))
    if both < COMMON * fewest:
        share = f"{base.name} and {tuned.name} have {both} of {fewest} matrices in common, by name and shape"
        raise ConfigError(f"{share}; needed is half of them: name a base and a model that was tuned from it")


def _adapter(base: Checkpoint | None, name: str, alpha: float | None, with_base: str) -> Updates:
    adapter, (beside, unplaced) = _read_adapter(name, alpha, base)
    by_name = _by_plain_name(base) if base else {}
    notes = [Note("adapter", adapter.name, text) for text in adapter.notes]
    matrices = []
    for update in adapter.updates.values():
        if base and update.group:
            raise ConfigError(
                f"{name}: {update.name} of a MergedLinear: which rows of its weight the group belongs to is not in the "
                "file; leave BASE out"
            )
        stored = by_name.get(plain_name(f"{update.name}.weight"))
        stored = as_matrix(stored) if stored else None
        if stored is None and (base or update.needs_base):
            where = f"BASE has no {update.name}.weight" if base else f"a {update.kind} update needs its base"
            raise ConfigError(f"{name}: {where}; type: {with_base} with the adapter's own base")
        if stored and stored.shape not in (update.shape, update.shape[::-1]):
            raise ConfigError(
                f"{name}: {update.name} is {update.shape}, in BASE {stored.shape}; give the adapter's own base"
            )
        matrices.append(_matrix(update, stored))
        if update.note:
            notes.append(Note("caution", update.name, update.note))
    if not matrices:
        raise ConfigError(f"{name}: the adapter holds no matrix that can be measured ({'; '.join(adapter.notes)})")
    fingerprint = (base.fingerprint() if base else "") + _files_hash(Path(name).expanduser())
    title = f"the adapter {name}" + (f" on {base.name}" if base else "")
    slug = _slug(*([base.name] if base else []), name)
    return Updates(title, slug, matrices, notes, fingerprint, base, adapter, beside, unplaced)


def _matrix(update: AdapterUpdate, stored: Stored | None) -> Matrix:
    def whole() -> Tensor:
        assert stored is not None, f"{update.name} needs its base"
        return update.oriented(stored.block(0, 0, stored.shape[0]))

    make = (lambda: update.update(whole())) if update.needs_base else update.update
    name = stored.name if stored else f"{update.name}.weight"
    return Matrix(name, update.kind, update.shape, stored, None, make, update.name)


def _by_plain_name(base: Checkpoint) -> dict[str, Stored]:
    """The base's tensors by plain name; aliases of tied tensors are among them."""
    return {plain_name(name): stored for name, stored in base.tensors.items()}


def _files_hash(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    files = sorted({path, *(p for p in folder.iterdir() if p.name.startswith("adapter_"))})
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.is_file()]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def _slug(*names: str) -> str:
    ends = [re.sub(r"[^A-Za-z0-9.]+", "-", Path(name).name).strip("-.") for name in reversed(names)]
    short_hash = hashlib.sha256("\0".join(names).encode()).hexdigest()[:6]
    return "-against-".join([*dict.fromkeys(ends)]) + f"-{short_hash}"


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    assert len(shape) == 2, f"a matrix, not {shape}"
    return shape[0], shape[1]

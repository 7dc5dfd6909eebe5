"""What is audited: two checkpoints, a checkpoint and an adapter, or an adapter alone, as a list of matrices."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lorax_lab.audit.checkpoint import Checkpoint, Matrix, Note, fingerprint_of, open_checkpoint, pair
from lorax_lab.errors import ConfigError
from lorax_lab.methods.adapters import GROUP, LORALIB_KEY, Adapter, AdapterUpdate, format_of, read_adapter
from lorax_lab.methods.lineage import Lineage, lineage_of
from lorax_lab.methods.names import is_embedding, is_output_layer, plain_name
from lorax_lab.models.tensor_files import WEIGHT_DTYPES, as_matrix, dtype_of
from lorax_lab.spectra import Update

WITH_BASE = "type python -m lorax_lab.audit BASE ADAPTER, or python -m lorax_lab.audit card ADAPTER --base BASE"


@dataclass(frozen=True, eq=False)
class Updates:
    """The updates to be measured, notes on what is not measured, and a fingerprint of it all."""

    title: str  # for people
    slug: str  # as part of a folder's name
    matrices: list[Matrix]
    notes: list[Note]
    fingerprint: str
    base: Checkpoint | None
    adapter: Adapter | None  # None for two checkpoints
    lineage: Lineage | None  # what the tuned side says of its origin


def open_updates(base: str, tuned: str | None, alpha: float | None = None) -> Updates:
    """The updates between what the two names on the command line stand for; `alpha` is that of a file of loralib's
    factors, which does not contain it.

    Raises:
        ConfigError: a name is no checkpoint and no adapter, a checkpoint stands alone, or the alpha does not fit.
    """
    if alpha is not None and not 0 < alpha < math.inf:
        raise ConfigError(f"--alpha {alpha:g}: allowed are numbers > 0; type --alpha 16")
    if tuned is None and is_adapter(base):
        return _adapter(None, base, alpha)
    if tuned is None:
        raise ConfigError(f"{base} is no adapter, so it needs a second name: type python -m lorax_lab.audit BASE TUNED")
    if is_adapter(base):
        raise ConfigError(f"BASE={base} is an adapter; {WITH_BASE}")
    if is_adapter(tuned):
        return _adapter(open_checkpoint(base), tuned, alpha)
    if alpha is not None:
        raise ConfigError(f"--alpha {alpha:g} scales an adapter's factors, and {tuned} is no adapter; leave it out")
    return _pair(base, tuned)


def is_adapter(name: str) -> bool:
    """Whether a name is a PEFT adapter's folder, or a single file of factors under loralib's or kohya's names."""
    return bool(format_of(Path(name).expanduser()))


def in_title(name: str) -> str:
    """What a title calls a folder, a file, or a name that is none: of a path only its end."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name


def _pair(base_name: str, tuned_name: str) -> Updates:
    base, tuned = open_checkpoint(base_name), open_checkpoint(tuned_name)
    if factors := [key for key in tuned.tensors if LORALIB_KEY.fullmatch(key)]:
        factor = f"{tuned_name} holds {factors[0]}, a factor of loralib: its weights may lack ΔW"
        raise ConfigError(f"{factor}; name the file itself, {tuned.files[0]}, with --alpha")
    pairing = pair(base, tuned)
    if not pairing.pairs:
        reasons = "; ".join(f"{note.kind} {note.name}: {note.detail}" for note in pairing.notes[:5])
        raise ConfigError(f"{base_name} and {tuned_name} share no 2-D weight that can be measured ({reasons})")
    fingerprint = fingerprint_of(base.files) + fingerprint_of(tuned.files)
    title, slug = f"{in_title(tuned_name)} against {in_title(base_name)}", _slug(base_name, tuned_name)
    notes, lineage = pairing.notes, lineage_of(tuned.files[0])
    if lineage and (misfit := lineage.misfit(base_name, base.tensors)):  # as of two checkpoints of one base
        notes, lineage = [Note("caution", in_title(tuned_name), misfit), *notes], None
    return Updates(title, slug, pairing.pairs, notes, fingerprint, base, None, lineage)


def _adapter(base: Checkpoint | None, name: str, alpha: float | None) -> Updates:
    path = Path(name).expanduser()
    adapter = read_adapter(path, alpha, base.tensors if base else None)
    lineage = lineage_of(path)
    if base and lineage and (misfit := lineage.misfit(base.name, base.tensors)):
        raise ConfigError(f"{path} {misfit}; name its own base")
    weights = {plain_name(key): (key, as_matrix(stored)) for key, stored in base.tensors.items()} if base else None
    is_tied = base is not None and base.config.get("tie_word_embeddings") is not False
    matrices = [_matrix(update, weights, name, is_tied) for update in adapter.updates.values()]
    if not matrices:
        raise ConfigError(f"{name}: the adapter holds no matrix that can be measured ({'; '.join(adapter.notes)})")
    notes = [Note("adapter", adapter.name, text) for text in adapter.notes]
    notes += [Note("caution", update.name, update.note) for update in adapter.updates.values() if update.note]
    if base and not lineage:
        notes.append(Note("caution", adapter.name, f"nothing in its file proves that it was trained on {base.name}"))
    folder = path if path.is_dir() else path.parent
    files = {path, *folder.glob("adapter_*")}
    fingerprint = fingerprint_of(base.files) if base else ""
    fingerprint += fingerprint_of(sorted(file for file in files if file.is_file()))
    title = f"the adapter {in_title(name)}" + (f" on {in_title(base.name)}" if base else "")
    slug = _slug(*([base.name] if base else []), name)
    return Updates(title, slug, matrices, notes, fingerprint, base, adapter, lineage)


def _matrix(
    update: AdapterUpdate, weights: dict[str, tuple[str, Tensor]] | None, adapter: str, is_tied: bool
) -> Matrix:
    """An adapter's update beside the base's own matrix; `weights` has name and matrix by plain name. `is_tied` is
    whether the base's output layer is its embedding."""
    if weights is None:
        if update.needs_base:
            raise ConfigError(f"{adapter}: a {update.kind} update needs its base; {WITH_BASE}")
        return Matrix(f"{update.name}.weight", update.kind, update.shape, None, None, update.update, update.name)
    if update.foreign == GROUP:
        raise ConfigError(f"{adapter}: {update.name} is {GROUP}, whose rows are not in the file; leave BASE out")
    name, stored = weights.get(plain_name(f"{update.name}.weight"), ("", None))
    if stored is None and is_tied and is_output_layer(f"{update.name}.weight"):  # the file has the embedding alone
        tables = [table for key, table in weights.values() if is_embedding(key) and tuple(table.shape) == update.shape]
        name, stored = f"{update.name}.weight", tables[0] if len(tables) == 1 else None
    if stored is not None and stored.dtype not in WEIGHT_DTYPES:
        raise ConfigError(f"{name} in BASE is {dtype_of(stored)}; dequantize it first (model.dequantize())")
    if stored is None or tuple(stored.shape) not in (update.shape, update.shape[::-1]):
        there = "and BASE has no such weight" if stored is None else f"in BASE {tuple(stored.shape)}"
        raise ConfigError(f"{adapter}: {update.name} is {update.shape}, {there}; name the adapter's own base")

    def make() -> Update:
        return update.update(update.oriented(stored) if update.needs_base else None)

    return Matrix(name, update.kind, update.shape, stored, None, make, update.name)


def _slug(*names: str) -> str:
    ends = [re.sub(r"[^A-Za-z0-9.]+", "-", Path(name).name).strip("-.") for name in reversed(names)]
    short_hash = hashlib.sha256("\0".join(names).encode()).hexdigest()[:6]
    return "-against-".join([*dict.fromkeys(ends)]) + f"-{short_hash}"

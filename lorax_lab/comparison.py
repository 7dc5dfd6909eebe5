"""The comparison of a run with its reference, the full fine-tune of the same model, task, data, budget and seed.

It is a part of the record that can be made again at any time.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import check_planned
from lorax_lab.measure import rows
from lorax_lab.methods import METHODS, REFERENCE
from lorax_lab.models import base_weights, load_base, select
from lorax_lab.record.files import sha256_of
from lorax_lab.record.folder import check_file, load_spectra
from lorax_lab.record.provenance import code_sha256
from lorax_lab.record.record import DamagedRecord, Record, read_record, status_of, write_record
from lorax_lab.record.result import Comparison
from lorax_lab.spectra import LowRank, Update
from lorax_lab.tasks import load_task


def read_reference(
    reference: Path, base: nn.Module, original: dict[str, Tensor]
) -> tuple[Comparison, Mapping[str, Tensor]]:
    """The update of the full fine-tune in a folder, and what identifies its weights; a `DamagedRecord` where these are
    not those of its record."""
    full = METHODS[REFERENCE]
    check_file(reference, full.weights)
    sha256, update = sha256_of(reference / full.weights), full.saved_updates(reference, base, original)
    return Comparison(sha256), cast("Mapping[str, Tensor]", update)


def compare(config: RunConfig, folder: Path, reference: Path) -> Record:
    """Compare a completed run with its reference from what both have saved, and write its record anew; nothing trains.
    The numbers are those that the run would have recorded if the reference had been there; to rounding where
    a method's file leaves out directions that are zero, as AdaLoRA's does.

    Raises:
        DamagedRecord: the run's weights are not those that it saved. ConfigError: they cannot be read, or
            the base or the data are not the run's.
    """
    method, record = METHODS[config.method.name], read_record(folder)
    for name in record.completed.files:
        if name.endswith((".safetensors", ".json")):
            check_file(folder, name)
    task = load_task(config.task)
    base = load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    check_planned(config, folder.name, base.sha256, task.data_sha256)
    original = base_weights(base.model, select(base.model, config.method.target_modules))
    read, full_update = read_reference(reference, base.model, original)
    spectra, result = load_spectra(folder), record.completed
    saved = method.saved_updates(folder, base.model, original)
    updates = {name: _with_zeros(update, len(spectra[name]["sigma"])) for name, update in saved.items()}
    matrices = rows.compared(result.matrices, updates, full_update)
    comparison = replace(read, code=code_sha256(), written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    result = replace(result, reference=reference.name, matrices=matrices, comparison=comparison)
    write_record(folder, replace(record, result=result))
    return read_record(folder)


def _with_zeros(update: Update, rank: int) -> Update:
    """A low-rank update with all the directions that were measured; those that its file left out are zero."""
    if not isinstance(update, LowRank) or len(update.A) >= rank:
        return update
    zeros = rank - len(update.A)
    return LowRank(pad(update.B, (0, zeros)), pad(update.A, (0, 0, 0, zeros)), update.scaling)


def lacks_comparison(folder: Path, reference: str | None) -> bool:
    """Whether a run has its result and is still to be compared with its reference; None wants no comparison."""
    if reference is None or status_of(folder) != "completed":
        return False
    return read_record(folder).completed.reference is None


def why_unusable(reference: Path) -> str | None:
    """Why a run cannot be compared with the reference in this folder; None where it can."""
    weights, status = METHODS[REFERENCE].weights, status_of(reference)
    if status is None or status == "damaged":
        return f"its reference {reference.name} is {status or 'not recorded'}"
    if status != "completed":
        reason = read_record(reference).reason
        return f"its reference {reference.name} is {status}" + (f" ({reason})" if reason else "")
    try:
        check_file(reference, weights)
    except FileNotFoundError:
        return f"the weights of its reference {reference.name} are gone; with force=true it is trained again"
    except DamagedRecord as error:
        return str(error)
    return None

"""`python -m lorax_lab.export RUN FOLDER`: a run's result as transformers and PEFT load it, with a model card.

What trains the base's own weights becomes a model's folder, an adapter becomes PEFT's. A pipeline takes the head's size
and the classes' names from `config.json`, and reads the weights of the base beside it. So an adapter with a head of its
own has its base in the folder; that of a language model stands alone.
"""

import argparse
import copy
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HTTPError
from jinja2 import Environment, PackageLoader, StrictUndefined

from lorax_lab.config import MEAN, OWN, RunConfig
from lorax_lab.config.identity import portable, science
from lorax_lab.console import say
from lorax_lab.errors import ConfigError, answer, first_line
from lorax_lab.launch.compose import typed
from lorax_lab.methods import METHODS
from lorax_lab.methods.adapters import SETTINGS, WEIGHTS, read_files
from lorax_lab.methods.lineage import Lineage, base_weights
from lorax_lab.models import load_base
from lorax_lab.models.files import quiet
from lorax_lab.models.tensor_files import read_tensors
from lorax_lab.record import measures
from lorax_lab.record.direction import scored_on
from lorax_lab.record.files import save_tensors, write_json, write_text
from lorax_lab.record.folder import SPECTRA, check_file
from lorax_lab.record.record import Record, read_record
from lorax_lab.record.redact import guard
from lorax_lab.record.variation import overrides
from lorax_lab.tasks import kind_of

PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSpeechSeq2Seq": "automatic-speech-recognition",
}
"""transformers' name of the pipeline, by the class of a kind of task."""
SIGNS = re.compile(r"([\\`*_<\[\]!|])")
"""Signs that mean something in Markdown."""


def main(arguments: list[str] | None = None) -> int:
    """Write the folder, and push it where that is asked for. Returns the exit code: 0 done, 2 a wrong input."""
    parser = argparse.ArgumentParser("python -m lorax_lab.export", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("--push-to-hub", metavar="NAME", help="upload it as NAME or OWNER/NAME, made if missing")
    options = parser.parse_args(arguments)
    return answer(lambda: _answer(options.run, options.folder, options.push_to_hub))


def _answer(run: Path, folder: Path, name: str | None) -> int:
    export(run, folder, to_push=name)
    say(f"in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if name:
        say(f"pushed to {_push(folder, name)}")
    return 0


def export(run: Path, folder: Path, to_push: str | None = None) -> None:
    """Write the result of the run in a folder to another one, which is new or empty.

    Args:
        to_push: the hub's repository that it is for. Nothing is written where nobody is logged in.

    Raises:
        ConfigError: no finished run that kept its weights, or damaged ones; another base than the run's; a head that
            transformers has no class for; a folder with something in it; no login.
    """
    record, config = _finished(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"FOLDER={folder} is there and not empty; name a new folder")
    if to_push and not huggingface_hub.get_token():
        raise ConfigError(f"--push-to-hub {to_push}: nobody is logged in to the hub; type hf auth login")
    inputs, kind, method = record.completed.inputs, kind_of(config.task.kind), METHODS[record.method]
    head, is_adapter = kind.head(inputs.classes), method.weights == WEIGHTS
    base = load_base(config.model, head, config.seed, kind.model_class, kind.processor_class)
    if base.sha256 != inputs.model_sha256:
        ours, theirs = base.sha256[:12], inputs.model_sha256[:12]
        raise ConfigError(f"model={config.model} has sha256 {ours}, and {run} was trained on {theirs}; put that back")
    hashes, weights = (inputs.model_sha256, inputs.data_sha256), base_weights(config.model)
    lineage = Lineage(base.name, weights, *hashes, record.code, record.run_id, science(config, *hashes))
    model: Any = base.model
    if inputs.classes:
        model.config.id2label = dict(enumerate(inputs.classes))
        model.config.label2id = {label: index for index, label in enumerate(inputs.classes)}
    if head and hasattr(config.task, "max_length"):
        base.processor.model_max_length = config.task.max_length  # where truncation=True cuts, as the run did
    with quiet():
        if is_adapter:
            _write_adapter(run, folder, lineage)
        else:
            method.load(model, run)
        has_pipeline = not is_adapter or _is_read(copy.deepcopy(model), folder)
        if not is_adapter or (head and has_pipeline):
            model.save_pretrained(folder)
        if not is_adapter:
            for file in folder.glob("*.safetensors"):
                save_tensors(file, read_tensors(file), lineage.header())
        base.processor.save_pretrained(folder)
    write_text(folder / "README.md", _card(run, record, config, lineage, has_pipeline))


def _finished(run: Path) -> tuple[Record, RunConfig]:
    try:
        record = read_record(run)
        if record.status != "completed" or record.is_trial:
            ending = "a trial" if record.is_trial else f"a run that is {record.status}"
            raise ConfigError(f"RUN={run} is {ending} and has no weights; name a completed run of measure=k90")
        for name in (METHODS[record.method].weights, SETTINGS, SPECTRA):
            if name in record.completed.files:
                check_file(run, name)
    except FileNotFoundError:
        raise ConfigError(f"RUN={run} is no finished run, or has lost files; name one, as runs/RUN") from None
    config = typed(record.config)
    if getattr(config.task, "pooling", OWN) == MEAN:
        pooled = f"RUN={run} has task.pooling={MEAN}, a head that no class of transformers has"
        raise ConfigError(f"{pooled}; train it with task.pooling={OWN} and export that run")
    return record, config


def _write_adapter(run: Path, folder: Path, lineage: Lineage) -> None:
    """PEFT's two files as the run left them. DoRA's magnitudes get the end of their name, without which transformers
    passes them by; PEFT reads both."""
    settings, tensors = read_files(run)
    name, _, revision = str(settings["base_model_name_or_path"]).partition("@")
    renamed = {re.sub("(_magnitude_vector)$", r"\1.weight", key): tensor for key, tensor in tensors.items()}
    save_tensors(folder / WEIGHTS, renamed, lineage.header())
    settings |= {"base_model_name_or_path": name, "revision": revision or None}
    write_json(folder / SETTINGS, lineage.in_settings(settings), indent=2)


def _is_read(model: Any, folder: Path) -> bool:
    """Whether transformers' own loader, which pipelines use, takes the whole adapter; some of PEFT's it cannot."""
    try:
        return not model.load_adapter(str(folder)).missing_keys
    except (ValueError, RuntimeError):
        return False


def _card(run: Path, record: Record, config: RunConfig, lineage: Lineage, has_pipeline: bool) -> str:
    """The model card, from the run's record alone."""
    made = Environment(
        loader=PackageLoader("lorax_lab.export", ""), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["md"] = lambda text: SIGNS.sub(r"\\\1", " ".join(str(text).split()))
    result, means, kind = record.completed, measures.means(run), kind_of(config.task.kind)
    null, head, published = means.get("null.effective_rank"), kind.head(result.inputs.classes), portable(record.config)
    if path := record.config["task"].get("path"):  # where a table or a folder lies is nobody's business
        of_hub = config.task.source == "hub" and not Path(path).is_absolute()
        published["task"]["path"] = path if of_hub else Path(path).name
    cuts = [row for row in result.truncation or [] if row["part"] == "cut" and row.get("module") is None]
    facts = {
        "record": record,
        "result": result,
        "task": config.task.name,
        "pipeline": PIPELINES.get(kind.model_class) if has_pipeline else None,
        "model_class": kind.model_class,
        "labels": head.get("num_labels"),
        "max_length": getattr(config.task, "max_length", None) if head else None,
        "is_adapter": METHODS[record.method].weights == WEIGHTS,
        "base": lineage.base,
        "base_weights": lineage.base_weights,
        "bits": record.config["method"].get("bits"),
        "split_of": partial(scored_on, record.config),
        "effective_rank": means.get("effective_rank"),
        "null": null if measures.has_null(record.method, null) else None,
        "cuts": [(row["k"], row[result.metric]) for row in cuts],
        "command": shlex.join(["python", "-m", "lorax_lab.run", *overrides(published)]),
    }
    return made.get_template("README.md.j2").render(facts)


def _push(folder: Path, name: str) -> str:
    """Upload the folder; the name of the repository, with its owner."""
    try:
        hub = huggingface_hub.HfApi()
        repository = str(hub.create_repo(name, exist_ok=True).repo_id)
        hub.upload_folder(repo_id=repository, folder_path=folder)
    except (HTTPError, OSError, ValueError) as error:
        again = f"{folder} is whole: type hf upload {name} {folder}"
        raise ConfigError(f"--push-to-hub {name} did not succeed ({first_line(error)}); {again}") from error
    return repository


if __name__ == "__main__":
    guard()
    sys.exit(main())

"""A small base of the lab's own training: random weights, trained fully by an ordinary run, kept as a model's folder.

No pretrained vision or speech model can be had without a model hub. What a fine-tune of such a base shows is how the
lab treats images and recordings; its weights are nobody's published ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard
from lorax_lab.tasks import KINDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEED = 0
TRAINED = "model.safetensors"


def main(what: str, module: str, make: Callable[[Path], None], arguments: list[str] | None = None) -> int:
    """`python -m MODULE FOLDER`: make the base, unless the folder has it already.

    Args:
        what: the base in words, for `--help`.
        make: writes the model into FOLDER, and what is needed beside it.

    Returns:
        The exit code: 0, 2 for a wrong input, 130 for Ctrl-C.
    """
    guard()
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=what)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; then type model=FOLDER")
    folder: Path = parser.parse_args(arguments).folder

    def work() -> int:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file; name a folder")
        if not (folder / "config.json").is_file():
            make(folder)
        print(f"the base: model={folder}")
        return 0

    return answer(work, "; the same command begins anew")


def train(folder: Path, kind: str, config: Any, processor: Any, overrides: list[str]) -> None:
    """Write `folder/training/random` (the model with random weights), train all of it by one run in
    `folder/training/runs`, and write the trained model into `folder`: the body, with an output layer over a vocabulary
    where it has one, without the head.

    Args:
        kind: of the task, which names the model's class.
        config: the model's, as transformers has it.
        overrides: of the run: its task, its budget.

    Raises:
        ConfigError: the run did not end well; its own message stands above.
    """
    from safetensors.torch import load_file

    random, runs = folder / "training" / "random", folder / "training" / "runs"
    model = _bare(kind, config)
    _save(model, processor, random)
    settings = [f"model={random}", "method=full", f"seed={SEED}", f"runs_dir={runs}", "tracking=disabled"]
    command = [sys.executable, "-m", "lorax_lab.run", *settings, *overrides]
    if subprocess.run(command, check=False).returncode:
        raise ConfigError(f"the run that trains the base in {runs} did not end well; what stands above says why")
    [trained] = runs.glob(f"*/{TRAINED}")
    tensors = load_file(trained)
    fitting = {key: tensors[key] for key, own in model.state_dict().items() if tensors[key].shape == own.shape}
    model.load_state_dict(fitting, strict=False)
    _save(model, processor, folder)


def _bare(kind: str, config: Any) -> PreTrainedModel:
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: PreTrainedModel = getattr(transformers, KINDS[kind].model_class).from_config(config)
    return model


def _save(model: Any, processor: Any, folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    whole = model if model.get_output_embeddings() is not None else model.base_model
    processor.save_pretrained(folder)
    whole.save_pretrained(folder)

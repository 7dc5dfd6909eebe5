"""A model's files: which folder holds them, fetched first where that is needed, and what identifies them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from lorax_lab.errors import ConfigError, suggest

PRESETS = ("minilm", "smollm2")
PUBLIC_NAMES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
HASHED = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")


@lru_cache(maxsize=8)
def resolve(name: str) -> Path:
    """The folder that holds the files of the model `name`, fetched first where that is needed."""
    if name == "minilm":
        from lorax_lab.data.assets import fetch

        return fetch("minilm")
    if name == "smollm2":
        return _smollm2()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model={name}: the folder has no config.json; {_what_to_type()}")
        return folder
    return _from_hub(name)


@lru_cache(maxsize=8)
def model_sha256(name: str) -> str:
    """What identifies the model's weights, configuration and tokenizer: the pinned archive's SHA-256 for a
    preset (nothing is fetched), else the SHA-256 over the names and contents of the folder's files."""
    if name in PRESETS:
        from lorax_lab.data.assets import ASSETS

        return ASSETS[name].archive_sha256
    folder, digest = resolve(name), hashlib.sha256()
    for path in sorted(p for pattern in HASHED for p in folder.glob(pattern)):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    if not name or repo.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ConfigError(f"model={name}: there is no such folder; {_what_to_type(name)}")
    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=list(HASHED)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"model={name} is no preset and no folder, and the hub did not give it ({reason}); {_what_to_type(name)}"
        ) from error


def _what_to_type(name: str = "") -> str:
    presets = suggest(name, PRESETS)
    return f"presets need no hub ({presets}): type model=minilm, or model=/path/to/a/folder with config.json"


def _smollm2() -> Path:
    """SmolLM2-135M-Instruct from its GGUF file, dequantized once to an fp32 folder in the cache."""
    from lorax_lab.data.assets import fetch

    source = fetch("smollm2")
    target = source.parent / "smollm2-fp32"
    if (target / "config.json").is_file():
        return target
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ConfigError("model=smollm2 needs the gguf package: pip install 'lorax_lab[gguf]'") from None
    _dequantize(source, target)
    return target


def _dequantize(source: Path, target: Path) -> None:
    import tempfile

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, quiet():
        folder = Path(scratch) / target.name
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
        plain = GgufConfig(gguf_file=source.name, dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, quantization_config=plain, gguf_file=source.name, dtype=torch.float32
        )
        model.save_pretrained(folder)
        if not target.exists():  # another process may have been faster
            folder.rename(target)


def first_line(error: BaseException) -> str:
    """An error's first line, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class quiet:
    """Transformers' report of freshly drawn head weights is expected here: keep it off the screen."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.level, self.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self.level)
        if self.bars:
            logging.enable_progress_bar()

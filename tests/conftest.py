"""Small real models, tokenizers and tables, made here and saved to disk: no network."""

import contextlib
import csv
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES
from here import without_workers
from hypothesis import settings
from jaxtyping import install_import_hook
from torch import nn

collect_ignore = ["nightly/faults/sitecustomize.py"]
if "SHAPES" in os.environ:  # `make test-slow`: annotated shapes are held to the real ones
    install_import_hook("lorax_lab.spectra", "shapes.checked")
with contextlib.suppress(ImportError), warnings.catch_warnings(action="ignore"):
    importlib.import_module("setuptools")  # BOFT's first import of it fails where its warnings are errors
torch.set_num_threads(1)  # the models are tiny: threads only wait for each other

GOOD = ["good", "great", "fine", "lovely", "warm", "bright", "sweet", "brave"]
BAD = ["bad", "poor", "dull", "ugly", "cold", "grim", "sour", "weak"]
PLAIN = ["the", "film", "is", "a", "story", "of", "and", "very", "with", "quite", "scene", "plot", "end", "it"]


def tiny_config(kind: str, words: int = 64) -> object:
    """The sizes of the family, for so many words; Whisper's fit `tiny_speech_processor`."""
    from transformers import AutoConfig

    (family,) = [family for family in FAMILIES if family.kind == kind]
    changes: dict[str, Any] = {"vocab_size": words}
    if kind == "whisper":
        tokenizer = tiny_speech_processor().tokenizer
        changes = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
        changes |= {"vocab_size": len(tokenizer), "num_mel_bins": 16, "begin_suppress_tokens": None}
        changes |= {"max_source_positions": 50, "max_target_positions": 32}
        changes["decoder_start_token_id"] = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    return AutoConfig.for_model(kind, **family.config | changes)


def tiny_speech_processor() -> Any:
    """Whisper's own processor, which hears one second and writes small letters."""
    from string import ascii_lowercase

    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    vocabulary = {token: i for i, token in enumerate([*special, "Ġ", *ascii_lowercase])}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=[], pad_token=special[0], additional_special_tokens=special[1:]
    )
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=16, chunk_length=1), tokenizer)


def tiny_model(kind: str = "bert", seed: int = 0) -> nn.Module:
    """A sequence classifier of two layers, 32 wide, from its configuration alone."""
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(tiny_config(kind)).eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with its tokenizer, saved as any model folder is."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "tiny-bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *PLAIN]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    wrapped.save_pretrained(folder)
    tiny_model("bert").base_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 different sentences with the label that their good or bad words give."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "reviews.csv"
    rows: dict[str, str] = {}
    while len(rows) < 400:
        label = draw.choice(["negative", "positive"])
        words = draw.choices(PLAIN, k=draw.randint(2, 9)) + draw.choices(GOOD if label == "positive" else BAD, k=3)
        draw.shuffle(words)
        rows[" ".join(words)] = label
    return write_csv(path, ("sentence", "label"), *rows.items())


def write_csv(path: Path, *rows: tuple[str, str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="session")
def small_words(model_folder: Path, table_file: Path) -> list[str]:
    """Overrides of a run that takes a second: tiny model, local table, W&B off; the folder is the test's."""
    data = ["task=local", f"task.path={table_file}", "task.text=sentence", "task.label=label"]
    sizes = ["task.train_examples=96", "task.validation_examples=64", "task.test_examples=64"]
    alike_anywhere = ["train.device=cpu", "train.precision=fp32"]
    return [f"model={model_folder}", *data, *sizes, *alike_anywhere, "tracking=disabled", "workers=1"]


@pytest.fixture
def small_run(small_words: list[str], tmp_path: Path) -> list[str]:
    """`small_words` in a folder of the test's own."""
    return [*small_words, f"runs_dir={tmp_path / 'runs'}"]


@pytest.fixture
def steady_run(model_folder: Path, small_run: list[str], tmp_path: Path) -> list[str]:
    """`small_run` of a model that drops nothing: its numbers are those of any number of processes."""
    folder = shutil.copytree(model_folder, tmp_path / "steady" / "tiny-bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    changed = [word for word in small_run if not word.startswith(("model=", "runs_dir=", "task.train_examples="))]
    return [*changed, f"model={folder}", "train.kernel=torch", "task.train_examples=94"]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the lab's cache, which is the test's own."""
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the test works in is its own too."""
    monkeypatch.chdir(cache.parent)


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person's own W&B or Trackio."""
    for key in [key for key in os.environ if key.startswith(("WANDB", "TRACKIO"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-a-person"))


@pytest.fixture(params=[True, False], ids=["higher is better", "lower is better"])
def higher(request: pytest.FixtureRequest) -> bool:
    """Whether higher scores are better: a test of a study that takes it runs both ways."""
    return bool(request.param)


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m lorax_lab.run` with the given arguments, in this process and so at once; no hub."""
    from huggingface_hub import constants

    from lorax_lab.launch.entry import launch
    from lorax_lab.launch.runs import ENDING

    before = {number: signal.getsignal(number) for number in ENDING}
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        without_workers(patch)
        patch.setattr(sys, "argv", ["lorax_lab/run.py", *arguments])
        warnings.simplefilter("default")
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                code = launch()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(list(arguments), code, output.getvalue(), errors.getvalue())


def ran(*arguments: str) -> str:
    """What `launched` prints of a command line that ends well."""
    done = launched(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Starts sweeps that can be killed; in tests/nightly/faults alone."""
    from launcher import Launchers

    return Launchers(tmp_path_factory.mktemp("launches"))


@pytest.fixture
def tiny(small_run: list[str]) -> list[str]:
    """Words of a run whose training takes a fraction of a second."""
    sizes = ["task.train_examples=48", "task.validation_examples=16", "task.test_examples=16"]
    return [*small_run, *sizes, "train.batch_size=8", "train.validations=1", "checkpoint_seconds=0"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="ten times as many kills and resumes, and other examples")
    parser.addoption("--seed", type=int, help="replay the chances of an earlier run (marker faults)")


def pytest_configure(config: pytest.Config) -> None:
    """Fuzzers try the same examples each time, so that a change is judged by what it changed; new ones with --full."""
    settings.register_profile("lab", derandomize=not config.getoption("--full"), database=None, deadline=None)
    settings.load_profile("lab")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers whose seed is printed, for replay with --seed."""
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"replay with --seed={seed}")
    return random.Random(seed)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))

"""One base, many tasks: whatever is exchanged, merged, mixed or refused, each adapter answers as it does alone."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_model
from recorded import run_record
from test_methods import BATCH, lora_config, outputs
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora, peft_format
from lorax_lab.models import Base, select
from lorax_lab.record import record
from lorax_lab.record.folder import files_of, save_trained
from lorax_lab.record.result import Inputs
from lorax_lab.serve.exchange import Exchange
from lorax_lab.streams import generator

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
CLASSES = {"two": 2, "again": 2, "three": 3, "few matrices": 2, "numbers": 1}
ROUNDING = {"atol": 1e-5, "rtol": 1e-5}
Folders = dict[str, Path]
Spoil = Callable[[dict[str, dict[str, Any]]], None]


def model_of(kind: str, classes: int = 2) -> nn.Module:
    """The tiny base with a head of `classes` outputs; the body is the same for all."""
    model = tiny_model(kind)
    head = "classifier" if kind == "bert" else "score"
    setattr(model, head, nn.Linear(32, classes, bias=kind == "bert"))
    model.config.num_labels = model.num_labels = classes  # type: ignore[union-attr, assignment]
    return model.eval()


def save_run(folder: Path, kind: str, name: str, spoil: Spoil = lambda files: None, **changes: Any) -> Path:
    """The folder of a run whose adapter has random factors and a random head; `spoil` changes its files before they are
    written, `changes` are made to its record."""
    model, config, draw = model_of(kind, CLASSES[name]), lora_config(), generator(0, name)
    targets = ["all-linear"] if name != "few matrices" else [select(model, ["all-linear"])[0]]
    lora.attach(model, select(model, targets), config, 4, draw)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 5)
    files = lora.export(model, config, "tiny")
    spoil(files)
    save_trained(folder, files)
    inputs = Inputs("ours", "d", {}, [])
    parts: dict[str, Any] = {"config": {"model": "tiny"}, "inputs": inputs, "files": files_of(folder)}
    record.write_record(folder, run_record(folder.name, **parts | changes))
    return folder


def exchange_of(kind: str, folders: Folders) -> Exchange:
    exchange = Exchange(Base(model_of(kind), None, "tiny"), "ours")  # type: ignore[arg-type]
    for name, folder in folders.items():
        exchange.add(name, folder)
    return exchange


def alone(kind: str, folders: Folders) -> dict[str, torch.Tensor]:
    """What each adapter says to `BATCH` in a model of its own."""
    found = {}
    for name, folder in folders.items():
        model = model_of(kind, CLASSES[name])
        peft_format.load(model, folder)
        found[name] = outputs(model.eval())
    return found


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Folders]:
    """A kind of model (GPT-2 stores its weights (in, out)) and a folder of a run for each task."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, {name: save_run(folder / name, request.param, name) for name in CLASSES}


def test_an_exchanged_adapter_answers_to_the_bit_as_alone(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange, expected = exchange_of(kind, folders), alone(kind, folders)
    for name in [*folders, *reversed(folders)]:
        exchange.switch(name)
        assert exchange.active == name
        assert torch.equal(exchange.serve(BATCH), expected[name])
    assert not torch.allclose(expected["two"], expected["again"], atol=1e-2)


@pytest.mark.slow
def test_a_thousand_random_exchanges_merges_and_unmerges_leave_no_trace(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange, expected, draw = exchange_of(kind, folders), alone(kind, folders), random.Random(0)
    base, merges = exchange.fingerprint(), 0
    exchange.switch(name := "two")
    for _ in range(1000):
        done = draw.choice(["switch", "merge", "unmerge"])
        if done == "switch":
            exchange.switch(name := draw.choice(list(folders)))
        else:
            getattr(exchange, done)()
        assert exchange.merged == (done == "merge")
        merges += exchange.merged
        torch.testing.assert_close(exchange.serve(BATCH), expected[name], **ROUNDING)
    assert exchange.fingerprint() == base
    exchange.unmerge()
    assert torch.equal(exchange.serve(BATCH), expected[name])
    assert 200 < merges < 800


def test_merging_writes_no_bit_of_the_base_and_unmerging_restores_the_outputs_bits(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange, expected = exchange_of(kind, folders), alone(kind, folders)
    base = exchange.fingerprint()
    exchange.switch("three")
    exchange.merge()
    once, held = exchange.serve(BATCH), exchange.held()["merged"]
    exchange.merge()
    assert all(now is then for now, then in zip(exchange.held()["merged"], held, strict=True))
    assert torch.equal(exchange.serve(BATCH), once)
    assert not torch.equal(once, expected["three"])
    assert exchange.fingerprint() == base
    matrices = [update.shape for update in exchange.adapters["three"].factors.values()]
    assert [tuple(tensor.shape) for tensor in exchange.held()["merged"]] == matrices
    exchange.unmerge()
    exchange.unmerge()
    assert torch.equal(exchange.serve(BATCH), expected["three"])
    assert not exchange.held()["merged"]


def test_the_base_hash_sees_a_changed_bit(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange = exchange_of(kind, folders)
    before = exchange.fingerprint()
    layer = next(iter(exchange._layers.values()))
    layer.base.weight.view(torch.int32)[0, 0] ^= 1  # type: ignore[operator, index]
    assert exchange.fingerprint() != before


def test_rows_of_a_mixed_batch_answer_as_alone(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange, draw = exchange_of(kind, folders), random.Random(0)
    exchange.switch("again")
    exchange.merge()
    before = exchange.serve(BATCH)
    tokens = torch.tensor([[draw.randrange(4, 30) for _ in range(6)] for _ in range(12)])
    tokens[3, 4:] = 0
    batch = {"input_ids": tokens, "attention_mask": (tokens != 0).long(), "labels": torch.zeros(12, dtype=torch.long)}
    models = {}
    for name, folder in folders.items():
        models[name] = model_of(kind, CLASSES[name])
        peft_format.load(models[name], folder)
    for rows in (12, 12, 12, 1):
        names = [draw.choice(list(folders)) for _ in range(rows)]
        part = {key: tensor[:rows] for key, tensor in batch.items()}
        found = exchange.mixed(part, names)
        for i, name in enumerate(names):
            with torch.no_grad():
                one = {key: tensor[i : i + 1] for key, tensor in part.items() if key != "labels"}
                expected = models[name].eval()(**one).logits[0]
            assert found[i].shape == (CLASSES[name],)
            torch.testing.assert_close(found[i], expected, **ROUNDING)
    assert exchange.active == "again"
    assert torch.equal(exchange.serve(BATCH), before)


def setting(key: str, value: Any) -> Spoil:
    return lambda files: files[SETTINGS].update({key: value})


def tensor(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Spoil:
    def spoil(files: dict[str, dict[str, Any]]) -> None:
        key = next(key for key in files[WEIGHTS] if part in key)
        changed = change(files[WEIGHTS].pop(key).clone())
        files[WEIGHTS] |= {} if changed is None else {key: changed}

    return spoil


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def flip(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


HEAD = {"bert": "classifier.weight", "gpt2": "score.weight"}
SPOILT: dict[str, tuple[Spoil, str]] = {
    "another base's name": (setting("base_model_name_or_path", "other"), "belongs to another base, other.*is tiny"),
    "another rank than the settings": (setting("r", 3), "have rank 4, but the settings give 3"),
    "another shape": (tensor("lora_A", lambda t: t[:, 1:]), r"the model's matrix is"),
    "factors of different ranks": (tensor("lora_B", lambda t: t[:, 1:]), "the model's matrix is"),
    "half a pair": (tensor("lora_B", lambda t: None), "lora_B is missing"),
    "nan in a factor": (tensor("lora_B", lambda t: t.fill_(float("nan"))), "nan or inf"),
    "inf in the head": (tensor("HEAD", lambda t: t.fill_(float("inf"))), "nan or inf"),
    "no head": (tensor("HEAD", lambda t: None), "is missing; a task's head is saved with its adapter"),
    "a head of another width": (tensor("HEAD", lambda t: t[:, 1:]), "the base's head has"),
    "another method": (setting("peft_type", "IA3"), "peft_type=IA3 is not possible"),
    "DoRA": (setting("use_dora", True), "use_dora=True is not possible"),
}
CHANGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (bytes_of(WEIGHTS, flip), "is not what was written"),
    "a flipped bit in the settings": (bytes_of(SETTINGS, flip), "is not what was written"),
    "a flipped bit in the record": (bytes_of("record.json", flip), "record.json"),
    "cut weights": (bytes_of(WEIGHTS, lambda content: content[:-100]), "is not what was written"),
    "an empty file": (bytes_of(WEIGHTS, lambda content: b""), "is not what was written"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "is missing"),
    "cut weights and no record": (
        lambda folder: ((folder / "record.json").unlink(), bytes_of(WEIGHTS, lambda content: content[:-100])(folder)),
        "cannot be read as part of a PEFT adapter",
    ),
}
RECORDED: dict[str, tuple[dict[str, Any], str]] = {
    "another base": (
        {"inputs": Inputs("theirs", "d", {}, [])},
        r"another base, tiny \(sha256 theirs…\); .*sha256 ours",
    ),
    "another rank than the record": ({"rank": 8}, "has rank 4, but its record says rank 8"),
    "a diverged run": ({"status": "diverged"}, "a diverged run of method=lora, no trained adapter"),
    "a full fine-tune": ({"method": "full"}, "a completed run of method=full"),
}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("what", [*SPOILT, *CHANGED, *RECORDED, "no folder", "a name that is taken"])
def test_what_is_refused_leaves_the_adapter_in_place(
    served: tuple[str, Folders], what: str, merged: bool, tmp_path: Path
) -> None:
    kind, folders = served
    exchange = exchange_of(kind, folders)
    exchange.switch("three")
    if merged:
        exchange.merge()
    before, base, known = exchange.serve(BATCH), exchange.fingerprint(), dict(exchange.adapters)
    folder, name, expected = tmp_path / "run", "new", "cannot be read"
    if what in SPOILT:
        spoil, expected = SPOILT[what]
        if "head" in what:
            spoil = _of_head(spoil, HEAD[kind])
        save_run(folder, kind, "two", spoil)
    if what in CHANGED:
        change, expected = CHANGED[what]
        change(save_run(folder, kind, "two"))
    if what in RECORDED:
        changes, expected = RECORDED[what]
        save_run(folder, kind, "two", **changes)
    if what == "a name that is taken":
        folder, name, expected = folders["two"], "again", "there is an adapter again already"
    with pytest.raises(ConfigError, match=expected) as refusal:
        exchange.add(name, folder)
    assert str(folder) in str(refusal.value)
    assert exchange.adapters == known
    assert (exchange.active, exchange.merged) == ("three", merged)
    assert torch.equal(exchange.serve(BATCH), before)
    assert exchange.fingerprint() == base


def test_an_unknown_name_is_refused_and_the_one_in_place_stays(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange = exchange_of(kind, folders)
    with pytest.raises(ConfigError, match="no adapter is active; switch to one of two, again"):
        exchange.serve(BATCH)
    exchange.switch("two")
    before = exchange.serve(BATCH)
    with pytest.raises(ConfigError, match="there is no adapter thre; did you mean 'three'"):
        exchange.switch("thre")
    with pytest.raises(ConfigError, match="there is no adapter nine"):
        exchange.mixed(BATCH, ["two", "nine"])
    with pytest.raises(ConfigError, match="1 names for a batch of 2 rows"):
        exchange.mixed(BATCH, ["two"])
    assert torch.equal(exchange.serve(BATCH), before)


def test_a_batch_that_fails_leaves_the_adapter_in_place(served: tuple[str, Folders]) -> None:
    kind, folders = served
    exchange = exchange_of(kind, folders)
    exchange.switch("two")
    before = exchange.serve(BATCH)
    too_large = BATCH | {"input_ids": BATCH["input_ids"] + 1000}
    with pytest.raises(IndexError):
        exchange.mixed(too_large, ["again", "three"])
    assert torch.equal(exchange.serve(BATCH), before)


def test_an_adapter_is_served_from_memory_whatever_becomes_of_its_file(
    served: tuple[str, Folders], tmp_path: Path
) -> None:
    kind, _ = served
    exchange = exchange_of(kind, {"two": save_run(tmp_path / "run", kind, "two")})
    exchange.switch("two")
    before = exchange.serve(BATCH)
    with (tmp_path / "run" / WEIGHTS).open("r+b") as file:
        file.write(bytes((tmp_path / "run" / WEIGHTS).stat().st_size))
    assert torch.equal(exchange.serve(BATCH), before)


def test_an_adapter_of_pefts_own_is_served(served: tuple[str, Folders], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    kind, folders = served
    names = select(model_of(kind), ["all-linear"])[:3]
    settings = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=names, fan_in_fan_out=kind == "gpt2",
        rank_pattern={names[1]: 2}, init_lora_weights=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = get_peft_model(model_of(kind), settings).eval()
    theirs.save_pretrained(tmp_path)
    written = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps(written | {"base_model_name_or_path": "tiny"}))
    exchange = exchange_of(kind, folders)
    exchange.add("theirs", tmp_path)
    exchange.switch("theirs")
    torch.testing.assert_close(exchange.serve(BATCH), outputs(theirs), **ROUNDING)


def _of_head(spoil: Spoil, key: str) -> Spoil:
    """`spoil` with HEAD in the place of the head's own name."""

    def wrapped(files: dict[str, dict[str, Any]]) -> None:
        names = {name: name.replace(key, "HEAD") for name in files[WEIGHTS]}
        renamed = {SETTINGS: files[SETTINGS], WEIGHTS: {names[n]: t for n, t in files[WEIGHTS].items()}}
        spoil(renamed)
        files[WEIGHTS] = {name.replace("HEAD", key): t for name, t in renamed[WEIGHTS].items()}

    return wrapped

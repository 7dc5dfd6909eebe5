"""One base, many tasks: whatever is exchanged, merged, mixed or refused, each adapter answers as it does alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_model
from recorded import run_record
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.execute import execute
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import run_of
from lorax_lab.methods import METHODS, lora
from lorax_lab.models import Base, select
from lorax_lab.record import record
from lorax_lab.record.folder import files_of, save_trained
from lorax_lab.record.result import Inputs
from lorax_lab.serve import exchange, prove
from lorax_lab.serve.__main__ import main
from lorax_lab.serve.exchange import Exchange, ServedHead
from lorax_lab.streams import generator

TOKENS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
BATCH = {"input_ids": TOKENS, "attention_mask": (TOKENS != 0).long()}
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
CLASSES = {"two": 2, "again": 2, "three": 3, "few matrices": 2, "numbers": 1}
Folders = dict[str, Path]
Spoil = Callable[[dict[str, dict[str, Any]]], None]


def model_of(kind: str, classes: int = 2) -> nn.Module:
    """The tiny base with a head of `classes` outputs; the body is the same for all."""
    model = tiny_model(kind)
    head = "classifier" if kind == "bert" else "score"
    setattr(model, head, nn.Linear(32, classes, bias=kind == "bert"))
    model.config.num_labels = model.num_labels = classes
    return model.eval()


def save_run(folder: Path, kind: str, name: str, spoil: Spoil = lambda files: None, **changes: Any) -> Path:
    """The folder of a run whose adapter has random factors and a random head; `spoil` changes its files before they are
    written, `changes` are made to its record."""
    model, config, draw = model_of(kind, CLASSES[name]), METHODS["lora"].settings(alpha=8.0), generator(0, name)
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
    exchange = Exchange(Base(model_of(kind), None, "tiny", "ours"))
    for name, folder in folders.items():
        exchange.add(name, folder)
    return exchange


def alone(kind: str, folders: Folders) -> dict[str, torch.Tensor]:
    """What each adapter says in a model of its own."""
    answers = {}
    for name, folder in folders.items():
        model = model_of(kind, CLASSES[name])
        lora.load(model, folder)
        with torch.inference_mode():
            answers[name] = model.eval()(**BATCH).logits
    return answers


@pytest.mark.parametrize("kind", ["bert", "gpt2"])  # GPT-2 stores its weights (in, out)
def test_an_exchanged_adapter_answers_to_the_bit_as_alone_and_merged_but_for_rounding(
    kind: str, tmp_path: Path
) -> None:
    """Also once its files are gone, and from a folder without a record, as PEFT writes it."""
    folders = {name: save_run(tmp_path / "runs" / name, kind, name) for name in CLASSES}
    copies = {name: shutil.copytree(folder, tmp_path / name) for name, folder in folders.items()}
    (copies["again"] / record.RECORD).unlink()
    exchange, expected = exchange_of(kind, copies), alone(kind, folders)
    for folder in copies.values():
        (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size))
    base = exchange.fingerprint()
    for name in [*folders, *reversed(folders)]:
        exchange.switch(name)
        assert torch.equal(exchange.serve(BATCH), expected[name])
        exchange.merge()
        assert exchange.merged
        torch.testing.assert_close(exchange.serve(BATCH), expected[name], atol=1e-5, rtol=1e-5)
        exchange.unmerge()
        assert torch.equal(exchange.serve(BATCH), expected[name])
        exchange.merge()  # and the next one is exchanged for it
    assert exchange.fingerprint() == base
    assert not torch.allclose(expected["two"], expected["again"], atol=1e-2)


def tensor(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Spoil:
    def spoil(files: dict[str, dict[str, Any]]) -> None:
        key = next(key for key in files[WEIGHTS] if part in key)
        changed = change(files[WEIGHTS].pop(key).clone())
        files[WEIGHTS] |= {} if changed is None else {key: changed}

    return spoil


SPOILT: dict[str, tuple[Spoil, str]] = {
    "another base's name": (lambda files: files[SETTINGS].update(base_model_name_or_path="other"), "other"),
    "no head": (tensor("classifier.weight", lambda t: None), "classifier.weight"),
    "a head of another width": (tensor("classifier.weight", lambda t: t[:, 1:]), "classifier.weight"),
}
RECORDED: dict[str, tuple[dict[str, Any], str]] = {
    "another base": ({"inputs": Inputs("theirs", "d", {}, [])}, "theirs"),
    "a diverged run": ({"status": "diverged"}, "diverged"),
    "a full fine-tune": ({"method": "full"}, "method=full"),
}


@pytest.mark.parametrize("case", [*SPOILT, *RECORDED, "cut weights", "no folder", "a name that is taken"])
def test_what_is_refused_leaves_the_adapter_in_place(case: str, tmp_path: Path) -> None:
    folders = {name: save_run(tmp_path / name, "bert", name) for name in ("two", "three")}
    exchange = exchange_of("bert", folders)
    exchange.switch("three")
    exchange.merge()
    before, adapters, folder, name = exchange.serve(BATCH), dict(exchange.adapters), tmp_path / "run", "new"
    spoil, expected = SPOILT.get(case, (lambda files: None, str(folder)))
    changes, expected = RECORDED.get(case, ({}, expected))
    if case != "no folder":
        save_run(folder, "bert", "two", spoil, **changes)
    if case == "cut weights":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    if case == "a name that is taken":
        name, expected = "two", "two"
    with pytest.raises(ConfigError, match=expected) as refusal:
        exchange.add(name, folder)
    assert str(folder) in str(refusal.value)
    with pytest.raises(ConfigError, match="nine"):
        exchange.switch("nine")
    assert exchange.adapters == adapters
    assert exchange.merged
    assert torch.equal(exchange.serve(BATCH), before)


def test_every_answer_is_equal_and_the_proof_sees_a_merge_that_writes_the_base_and_other_answers(
    small_run: list[str], table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs of small tasks: two classes, and a number."""
    rows = table_file.read_text().splitlines()[1:]
    numbers = "".join(f"{row.rsplit(',', 1)[0]},{len(row)}\n" for row in rows)
    (tmp_path / "n.csv").write_text(f"sentence,label\n{numbers}")
    runs = []
    for more in ([], [f"task.path={tmp_path / 'n.csv'}", "task.kind=regression"]):
        run = run_of(compose([*small_run, "rank=2", "train.validations=0", "reference=false", *more]))
        execute(run.config, run.run_id, run.folder, None)
        runs.append(str(run.folder))
    assert main([*runs, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "serving.json").read_text())
    assert results["equal"]
    assert [row["same.merged"] for row in results["runs"].values()] == [64, 64]
    assert results["bytes_held"]["merged"] == 4 * 2 * (4 * 32 * 32 + 2 * 32 * 64)
    sizes = [(Path(run) / part).stat().st_size for run in runs for part in (WEIGHTS, SETTINGS)]
    assert results["bytes_on_disk"]["adapters"] == sum(sizes)
    opened, heads = prove.open_served([Path(run) for run in runs]), ServedHead.forward
    with monkeypatch.context() as patch:
        patch.setattr(ServedHead, "forward", lambda self, *args, **kwargs: -heads(self, *args, **kwargs))
        assert not prove.prove(opened)["equal"]
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "merged_weight", lambda weight, update: weight.mul_(1.5))
        proof = prove.prove(opened)
    assert not proof["base_unchanged"]
    assert not proof["equal"]

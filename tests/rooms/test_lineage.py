"""What trained weights say of their base, also once PEFT has saved them again, and who refuses another base."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ran
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorax_lab.audit.__main__ import main as audit
from lorax_lab.config import identity
from lorax_lab.errors import ConfigError
from lorax_lab.export.__main__ import main as export
from lorax_lab.launch.compose import typed
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import SETTINGS, WEIGHTS
from lorax_lab.methods.lineage import KEY, OPEN, Lineage, base_weights, lineage_of, weights_sha256
from lorax_lab.models import load_base, shapes_of
from lorax_lab.record.record import RECORD, read_record
from lorax_lab.serve.exchange import Exchange

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def runs(small_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a small run of each method, exported beside itself."""
    store = tmp_path_factory.mktemp("lineage")
    folders = {}
    for method in ("full", "lora", "peft/dora"):
        words = [*small_words, f"method={method}", "reference=false", "train.max_steps=2", f"runs_dir={store / 'runs'}"]
        ran(*words, *(["rank=2"] if method != "full" else []))
        (folders[method],) = (store / "runs").glob(f"*-{method.replace('/', '_')}-*")
        assert export([str(folders[method]), str(store / "exported" / method)]) == 0
    return folders


@pytest.fixture
def another(model_folder: Path, tmp_path: Path) -> Path:
    """A model of the base's name and shapes, one matrix of which has other numbers."""
    folder = shutil.copytree(model_folder, tmp_path / "another" / model_folder.name)
    tensors = load_file(folder / MODEL)
    name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    save_file(tensors | {name: tensors[name] + 1e-3}, folder / MODEL, metadata={"format": "pt"})
    return folder


def audited(*words: object, out: Path) -> int:
    return audit([*map(str, words), "--out", str(out)])


@pytest.mark.parametrize("method", ["full", "lora", "peft/dora"])
def test_every_file_of_trained_weights_names_its_base_data_code_and_configuration(
    method: str, runs: dict[str, Path], model_folder: Path
) -> None:
    record = read_record(runs[method])
    inputs = record.completed.inputs
    exported = runs[method].parents[1] / "exported" / method
    for folder in (runs[method], exported):
        with safe_open(folder / (MODEL if method == "full" else WEIGHTS), framework="pt") as opened:
            stated = json.loads(opened.metadata()[KEY])
        assert stated == {
            "base": "tiny-bert", "base_weights": base_weights(str(model_folder)), "model_sha256": inputs.model_sha256,
            "data_sha256": inputs.data_sha256, "code": record.code, "run_id": record.run_id,
            "configuration": identity.science(typed(record.config), inputs.model_sha256, inputs.data_sha256),
        }  # fmt: skip
        if method != "full":
            settings = json.loads((folder / SETTINGS).read_text())
            assert settings[OPEN] == ({KEY: stated} if settings["task_type"] else None)
    assert stated["base_weights"] in (exported / "README.md").read_text()


def test_peft_loads_it_without_a_warning_and_keeps_it_where_it_saves_it(
    runs: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    base: Any = load_base(str(model_folder), {"num_labels": 2}, 0).model
    PeftModel.from_pretrained(base, runs["lora"]).save_pretrained(tmp_path, save_embedding_layers=False)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as opened:
        assert KEY not in opened.metadata()
    assert lineage_of(tmp_path) == lineage_of(runs["lora"])


def test_without_a_task_type_the_settings_of_peft_stay_as_they_are(runs: dict[str, Path]) -> None:
    lineage, theirs = lineage_of(runs["lora"]), {"base_model_class": "BertModel"}
    assert lineage.in_settings({"task_type": None, OPEN: theirs})[OPEN] == theirs


@pytest.mark.parametrize("method", ["lora", "peft/dora"])
def test_another_base_of_the_same_shapes_is_refused_by_audit_and_card(
    method: str, runs: dict[str, Path], model_folder: Path, another: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for base, code in ((another, 2), (model_folder, 0)):
        for words in ([base, runs[method]], ["card", runs[method], "--base", base]):
            assert audited(*words, out=tmp_path / f"{len(words)}-{code}") == code
            said = capsys.readouterr()
            assert (f"BASE={another} has other weights" in said.err) == (code == 2)
            assert "nothing in its file proves" not in said.out


def test_two_checkpoints_of_one_base_are_measured_with_a_caution(
    runs: dict[str, Path], another: Path, tmp_path: Path
) -> None:
    assert audited("card", runs["full"], "--base", another, "--extract", "rank=1", out=tmp_path / "card") == 0
    assert lineage_of(tmp_path / "card" / "adapter-rank=1").base_weights == base_weights(str(another))
    assert audited("card", runs["lora"], "--extract", "rank=1", out=tmp_path / "of_lora") == 0
    assert lineage_of(tmp_path / "of_lora" / "adapter-rank=1") == lineage_of(runs["lora"])
    later = shutil.copytree(runs["full"], tmp_path / "later")
    with safe_open(later / MODEL, framework="pt") as opened:
        header = opened.metadata()
    tensors = {name: tensor * 1.01 for name, tensor in load_file(later / MODEL).items()}
    save_file(tensors, later / MODEL, metadata=header)
    assert audited(runs["full"], later, out=tmp_path / "out") == 0
    assert f"and BASE={runs['full']} has other weights" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_copy_of_its_base_in_bf16_is_its_base(
    method: str, runs: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    coarse = shutil.copytree(model_folder, tmp_path / "coarse")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(model_folder / MODEL).items()}
    save_file(weights, coarse / MODEL, metadata={"format": "pt"})
    assert audited(coarse, runs[method], out=tmp_path / "out") == 0
    assert "has other weights" not in (tmp_path / "out" / "report.md").read_text()


def test_of_a_foreign_adapter_it_is_said_that_nothing_proves_its_base(
    runs: dict[str, Path], another: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = shutil.copytree(runs["lora"], tmp_path / "foreign")
    save_file(load_file(foreign / WEIGHTS), foreign / WEIGHTS)
    settings = json.loads((foreign / SETTINGS).read_text())
    del settings[OPEN]
    (foreign / SETTINGS).write_text(json.dumps(settings))
    assert lineage_of(foreign) is None
    assert audited("card", foreign, "--base", another, "--extract", "rank=1", out=tmp_path / "out") == 0
    assert f"nothing in its file proves that it was trained on {another}" in " ".join(
        (tmp_path / "out" / "card.md").read_text().replace("\\", "").split()
    )
    assert lineage_of(tmp_path / "out" / "adapter-rank=1").base_weights == base_weights(str(another))


@pytest.mark.parametrize("names_files", [False, True])
def test_serving_compares_the_weights_that_an_adapter_names(
    names_files: bool, runs: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    folder, base = shutil.copytree(runs["lora"], tmp_path / "run"), load_base(str(model_folder), {"num_labels": 2}, 0)
    (folder / RECORD).unlink()
    exchange, tensors = Exchange(base), load_file(folder / WEIGHTS)
    for weights in (base_weights(str(model_folder)), "f" * 64):
        lineage = Lineage(base.name, weights, base.sha256 if names_files else None)
        save_file(tensors, folder / WEIGHTS, metadata=lineage.header())
        with pytest.raises(ConfigError, match=r"another base.*ffff") if weights == "f" * 64 else nullcontext():
            exchange.add(weights, folder)


@pytest.mark.parametrize("place", ["header", "settings"])
def test_a_lineage_that_cannot_be_read_is_refused(place: str, runs: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(runs["lora"], tmp_path / "run")
    header = {KEY: json.dumps({"base_weights": 1})} if place == "header" else {}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"format": "pt", **header})
    if place == "settings":
        settings = json.loads((folder / SETTINGS).read_text())
        (folder / SETTINGS).write_text(json.dumps(settings | {OPEN: {KEY: "?"}}))
    with pytest.raises(ConfigError, match="says of its base cannot be read"):
        lineage_of(folder)


def test_the_hash_is_of_the_body_whatever_form_it_is_in(model_folder: Path) -> None:
    tensors = load_file(model_folder / MODEL)
    same = {f"module.{name}": tensor for name, tensor in reversed(tensors.items())}
    head = {"classifier.weight": torch.ones(3, 3), "h.0.attn.bias": torch.ones(1, 1, 3, 3)}
    steps = {"bert.encoder.layer.0.steps": torch.ones(2, 2, dtype=torch.int64)}
    expected = weights_sha256(tensors)
    assert expected == base_weights(str(model_folder)) == weights_sha256(same | head | steps)
    for part in ("embeddings.word_embeddings.weight", "layer.1.attention.self.query.weight"):
        name = next(name for name in tensors if name.endswith(part))
        assert weights_sha256(tensors | {name: tensors[name] * 1.0001}) != expected
        assert weights_sha256({key: tensor for key, tensor in tensors.items() if key != name}) != expected
    layers = [next(n for n in tensors if n.endswith(f"layer.{i}.output.dense.weight")) for i in (0, 1)]
    assert weights_sha256(tensors | dict(zip(layers, map(tensors.get, reversed(layers)), strict=True))) != expected


def test_matrices_outside_of_layers_are_hashed_where_there_are_no_others() -> None:
    zeros, ones = torch.zeros(2, 2), torch.ones(2, 2)
    models = [{"encoder.weight": a, "decoder.weight": b} for a, b in ((zeros, ones), (ones, zeros), (ones, ones))]
    assert len({weights_sha256(model) for model in models}) == len(models)
    wrapped = {f"module.{name}": tensor for name, tensor in models[0].items()}
    assert weights_sha256(wrapped) == weights_sha256(models[0])


@pytest.mark.parametrize("part", ["lora_A", "classifier.bias", "base"])
def test_numbers_without_their_scale_are_refused_by_name(
    part: str, runs: dict[str, Path], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, base = shutil.copytree(runs["lora"], tmp_path / "run"), tmp_path / "base.safetensors"
    tensors, weights = load_file(folder / WEIGHTS), load_file(model_folder / MODEL)
    spoilt = weights if part == "base" else tensors
    name = next(name for name in spoilt if (f"{part}." in f"{name}." or "layer.0.output.dense.weight" in name))
    spoilt[name] = (spoilt[name] * 100).to(torch.int8)
    save_file(tensors, folder / WEIGHTS)
    save_file(weights, base)
    if part == "base":
        (folder / SETTINGS).write_text(json.dumps(json.loads((folder / SETTINGS).read_text()) | {OPEN: None}))
        assert audited(base, folder, out=tmp_path / "out") == 2
        assert "int8" in capsys.readouterr().err
    else:
        model = load_base(str(model_folder), {"num_labels": 2}, 0).model
        with pytest.raises(ConfigError, match=r"int8.*dequantize"):
            lora.read(folder, shapes_of(model))

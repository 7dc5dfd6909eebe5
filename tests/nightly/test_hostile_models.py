"""Models that are not what they seem are refused in one line, at once, before anything trains."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import launched
from families import BY_NAME, CLASSIFIER, FAMILIES, SIZES, Family
from hostile_models import CASES, SAFE, spoiled, tensors
from safetensors.torch import load_file, save_file

from lorax_lab.errors import ConfigError
from lorax_lab.models import base, load_base, matrix_shapes, most_tokens
from lorax_lab.models.tensor_files import read_tensors

HEAD = {"num_labels": 2}
THROUGH = ("half of the tensors", "an index to the outside", "1e5 layers", "nan")


@pytest.mark.parametrize("name", THROUGH)
def test_the_command_line_refuses_it_and_records_nothing(
    small_run: list[str], model_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = spoiled(name, model_folder, tmp_path / "tiny-bert")
    done = launched(*[word for word in small_run if not word.startswith("model=")], f"model={folder}", "rank=1")
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(CASES[name][1], lines[0])
    assert not list((tmp_path / "runs").glob("*/record.json"))


def test_a_tensor_that_is_not_read_may_have_any_value(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-bert"
    shutil.copytree(model_folder, folder)
    tensors(lambda c: c | {"cls.predictions.bias": torch.full((3,), torch.nan)})(folder)
    assert not base.check_base(str(folder), HEAD, values=True)


@pytest.fixture
def without_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases are loaded alone."""
    monkeypatch.setattr(base, "load_processor", lambda name, processor_class: None)


@pytest.mark.usefixtures("without_processor")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("form", ["whole", "body", "shards", "bin", "old bin"])
def test_every_family_loads_as_transformers_loads_it(family: Family, form: str, tmp_path: Path) -> None:
    """Every bit of it, and each tensor at its place in a cache line, by which kernels may round."""
    import transformers

    from lorax_lab.models.files import quiet
    from lorax_lab.streams import global_stream

    model, head = family.model(), {"num_labels": 3} if "Classification" in family.model_class else {}
    body = getattr(model, model.base_model_prefix, None)
    if form == "body" and (body is None or getattr(model, "lm_head", None) is not None):
        pytest.skip("it has no body of its own, or an output layer that the body lacks")
    if "bin" in form:
        model.config.save_pretrained(tmp_path)
        content = model.state_dict()
        of_body = {key: content[key] for key in content if "classifi" not in key and "score" not in key}
        torch.save(of_body, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=form == "bin")
    else:
        saved = body if form == "body" else family.model(num_labels=3) if head else model
        saved.save_pretrained(tmp_path, max_shard_size="20KB" if form == "shards" else "1GB")
    base.check_base(str(tmp_path), head, family.model_class, values=True)
    ours = load_base(str(tmp_path), head, 0, family.model_class).model
    with global_stream(0, "init"), quiet():
        theirs = getattr(transformers, family.model_class).from_pretrained(tmp_path, dtype=torch.float32, **head)
    own, other = ours.state_dict(), theirs.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own)
    places = [[p.data_ptr() % base.ALIGNED for p in m.parameters()] for m in (ours, theirs)]
    assert places[0] == places[1]


@pytest.mark.usefixtures("without_processor")
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_the_head_of_another_task_is_not_the_bodys(kind: str, tmp_path: Path) -> None:
    """Its tensors have no place, and a pooler that it lacks is new: both are heads."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model(kind, vocab_size=64, embedding_size=32, pad_token_id=0, **SIZES)
    saved = AutoModelForMaskedLM.from_config(config)
    saved.save_pretrained(tmp_path)
    loaded = load_base(str(tmp_path), HEAD, 0, CLASSIFIER).model
    key = "encoder.layer.0.output.dense.weight"
    assert torch.equal(loaded.base_model.get_parameter(key), saved.base_model.get_parameter(key))


@pytest.mark.usefixtures("without_processor")
def test_what_only_pretraining_reads_of_a_body_may_be_there(tmp_path: Path) -> None:
    saved = BY_NAME["ViT"].model("AutoModelForMaskedImageModeling", encoder_stride=4)
    saved.save_pretrained(tmp_path)
    assert "vit.embeddings.mask_token" in load_file(tmp_path / SAFE)
    loaded = load_base(str(tmp_path), HEAD, 0, BY_NAME["ViT"].model_class).model
    assert torch.equal(loaded.vit.embeddings.cls_token, saved.vit.embeddings.cls_token)


@pytest.mark.usefixtures("without_processor")
def test_an_output_layer_that_is_missing_is_not_new(tmp_path: Path) -> None:
    """It is pretrained with its body: a causal model without it would predict at random."""
    llama = BY_NAME["Llama"]
    llama.model().base_model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"1 \(lm_head.weight\) of its 21 tensors are missing"):
        load_base(str(tmp_path), {}, 0, llama.model_class)


@pytest.mark.usefixtures("without_processor")
def test_old_gpt2_without_a_prefix_and_with_its_masks_loads(tmp_path: Path) -> None:
    saved = BY_NAME["GPT-2"].model()
    saved.base_model.save_pretrained(tmp_path)
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64).tril() for i in (0, 1)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in (0, 1)}
    save_file(load_file(tmp_path / SAFE) | masks, tmp_path / SAFE, {"format": "pt"})
    loaded = load_base(str(tmp_path), HEAD, 0).model
    assert torch.equal(loaded.transformer.h[1].mlp.c_fc.weight, saved.transformer.h[1].mlp.c_fc.weight)


def test_roberta_reads_two_tokens_less_than_it_has_positions(tmp_path: Path, model_folder: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model("roberta", vocab_size=64, max_position_embeddings=18, pad_token_id=1, **SIZES).save_pretrained(
        tmp_path
    )
    assert most_tokens(str(tmp_path), None) == 16
    assert most_tokens(str(model_folder), None) == 64


@pytest.mark.parametrize("model_type", ["gpt_neox", "llama"])
def test_a_causal_model_is_one_whatever_its_configuration_says(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, vocab_size=64, **SIZES)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert matrix_shapes(str(tmp_path), "AutoModelForCausalLM")


@pytest.mark.parametrize("form", ["safetensors", "bin", "old bin"])
def test_a_wrong_byte_is_read_or_refused_never_a_crash(form: str, tmp_path: Path) -> None:
    file, weights = tmp_path / f"it.{form.split()[-1]}", {"a.weight": torch.randn(5, 4), "b.weight": torch.ones(3, 3)}
    if form == "safetensors":
        save_file(weights, file)
    else:
        torch.save(weights, file, _use_new_zipfile_serialization=form == "bin")
    content = file.read_bytes()
    for is_plain in (False, True):
        refused = 0
        for place in range(0, len(content), 3 if form == "bin" else 1):
            file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
            try:
                for tensor in read_tensors(file, is_plain).values():
                    tensor.double().sum()
            except ConfigError:
                refused += 1
        assert refused > 50

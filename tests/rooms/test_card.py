"""Rank cards: what they say of adapters whose truth is known, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Lab
from golden_page import check
from safetensors.torch import load_file, save_file
from torch import Tensor

from analysis.__main__ import main as analysis
from lorax_lab.audit import card as steps
from lorax_lab.audit.__main__ import main as entry
from lorax_lab.audit.findings import render
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS

LAYERS, RANK = 4, 6


def main(words: list[str]) -> int:
    return entry(["card", *words])


SHAPES = {"attn.q": (64, 48), "mlp.up": (96, 48)}
PAGES = ("card.html", "card.md", "card.png", "card.json", "card.csv", "audit.csv")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))


def factors(seed: int, strengths: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """Gaussian factors, each direction of a layer times its strength."""
    draw, tensors = torch.Generator().manual_seed(seed), {}
    for layer in range(LAYERS):
        for module, (rows, columns) in SHAPES.items():
            name = f"h.{layer}.{module}"
            tensors[f"{name}.lora_A"] = torch.randn(RANK, columns, generator=draw)
            tensors[f"{name}.lora_B"] = torch.randn(rows, RANK, generator=draw) * strengths(layer)
    return tensors


def adapter(tensors: dict[str, Tensor], folder: str = "it", **changes: Any) -> str:
    """A PEFT folder with these factors."""
    Path(folder).mkdir(exist_ok=True)
    save_file({f"{PREFIX}{name}.weight": t.contiguous() for name, t in tensors.items()}, Path(folder, WEIGHTS))
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "base_model_name_or_path": None} | changes
    Path(folder, SETTINGS).write_text(json.dumps(settings))
    return folder


def kohya(tensors: dict[str, Tensor], prefix: str = "lora_unet_", alpha: float | None = 3.0) -> dict[str, Tensor]:
    """The same factors under kohya's names."""
    renamed = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".lora_")
        flat = prefix + module.replace(".", "_")
        renamed[f"{flat}.lora_{'down' if part == 'A' else 'up'}.weight"] = tensor.contiguous()
        if alpha is not None:
            renamed[f"{flat}.alpha"] = torch.tensor(alpha)
    return renamed


def card(*words: object) -> dict[str, Any]:
    """What a card says; all of its files are there."""
    assert main([*map(str, words), "--out", "out", "--device", "cpu"]) == 0
    assert all(Path("out", page).stat().st_size for page in PAGES)
    facts: dict[str, Any] = json.loads(Path("out/card.json").read_text())
    return facts


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([*map(str, words), "--out", "out", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    return said


def even(layer: int) -> Tensor:
    return torch.ones(RANK)


def steep(layer: int) -> Tensor:
    return 0.4 ** torch.arange(RANK)


# noise


@pytest.mark.parametrize("seed", range(2))
def test_pure_noise_is_called_noise(seed: int) -> None:
    facts = card(adapter(factors(seed, even)))
    assert facts["verdict"]["finding"] == "noise"


def test_a_steep_spectrum_is_not_called_noise() -> None:
    facts = card(adapter(factors(0, steep)))
    assert {m["verdict"]["finding"] for m in facts["modules"]} == {"fewer"}
    assert facts["energy"]["90%"] < RANK


def test_each_curve_has_the_null_of_its_own_rank() -> None:
    curve = card(adapter(factors(1, even)))["modules"][0]["curve"]
    assert [point["k"] for point in curve] == list(range(1, RANK + 1))
    assert all(abs(point["median"] - point["null"]) < 0.06 for point in curve)


UNTESTABLE: dict[str, tuple[Callable[[], str], str]] = {
    "rank 1": (lambda: adapter(first_of(factors(0, even)), r=1), "rank 1"),
    "an SVD's factors": (lambda: adapter(orthogonal(factors(0, even))), "an SVD made its factors"),
    "zero": (lambda: adapter(factors(0, lambda layer: torch.zeros(RANK))), "it did not change"),
    "MiCA": (lambda: adapter(orthogonal(factors(0, even), "B"), init_lora_weights="mica"), "MiCA keeps"),
    "MiCA without its settings": (lambda: adapter(orthogonal(factors(0, even), "B")), "a factor is orthogonal"),
    "a converted PiSSA": (lambda: adapter(converted(factors(0, even)), r=2 * RANK), "a factor is orthogonal, or"),
}


def first_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t[:1] if name.endswith("A") else t[:, :1] for name, t in tensors.items()}


def orthogonal(tensors: dict[str, Tensor], factors: str = "AB") -> dict[str, Tensor]:
    turned = {name: torch.linalg.qr(t.T if name.endswith("A") else t).Q for name, t in tensors.items()}
    return {
        name: t if name[-1] not in factors else turned[name].T if name.endswith("A") else turned[name]
        for name, t in tensors.items()
    }


def converted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As PEFT converts PiSSA: the trained factors, here the start and noise, and behind them the start."""
    start = orthogonal(tensors)
    trained = {name: start[name] + 0.1 * t for name, t in tensors.items()}
    signs = {"A": 1, "B": -1}
    return {name: torch.cat([trained[name], signs[name[-1]] * start[name]], "AB".index(name[-1])) for name in tensors}


@pytest.mark.parametrize("name", UNTESTABLE)
def test_what_has_no_valid_null_is_not_tested(name: str) -> None:
    make, reason = UNTESTABLE[name]
    facts = card(make())
    assert facts["verdict"]["finding"] == "cannot be tested"
    assert reason in facts["verdict"]["reason"]
    assert all(point["null"] is None for m in facts["modules"] for point in m["curve"])


def checkpoints(update: Callable[[Tensor], Tensor]) -> tuple[str, str]:
    draw = torch.Generator().manual_seed(0)
    base = {f"h.{i}.{m}.weight": torch.randn(*s, generator=draw) for i in range(LAYERS) for m, s in SHAPES.items()}
    for folder, tensors in (("base", base), ("tuned", {name: w + update(w) for name, w in base.items()})):
        Path(folder).mkdir()
        save_file(tensors, Path(folder, "model.safetensors"))
    return "base", "tuned"


def test_a_checkpoint_that_only_noise_changed_is_called_noise() -> None:
    draw = torch.Generator().manual_seed(3)
    base, tuned = checkpoints(lambda w: 0.01 * torch.randn(w.shape, generator=draw))
    assert card(tuned, "--base", base)["verdict"]["finding"] == "noise"


# the page


def test_a_card_is_the_golden_page() -> None:
    """All of its words: of a scored adapter, and the headline of every outcome. Write it with GOLDEN=write."""
    facts = card(adapter(factors(0, lambda layer: steep(layer) * (0.01 if layer == 2 else 1.0))))
    facts["scores"] = {
        "task": "sarcasm", "metric": "accuracy", "margin": 0.02, "chosen": 2, "full": 8, "whole": {"test": 0.864},
        "cuts": [{"k": k, "score": 0.8, "difference": -0.004, "surely": -0.01} for k in (0, 2, 8)], "notes": [],
        "examples": {"test": 2000, "validation": 1000}, "higher_is_better": True,
    }  # fmt: skip
    headlines = []
    for k, low, difference, high in [
        (8, 0.0, 0.0, 0.0), (0, -0.015, -0.004, 0.007), (2, None, -0.004, None), (2, -0.03, -0.015, 0.001),
        (2, None, -0.062, None), (2, -0.015, -0.004, 0.007),
    ]:  # fmt: skip
        test = {"score": 0.864 + difference, "difference": difference, "low": low, "high": high}
        lines, parts = steps.parts_of(facts | {"scores": facts["scores"] | {"chosen": k, "test": test}})
        headlines.append(lines[0])
    page = {"title": facts["title"], "lines": [*headlines[:-1], *lines], "parts": parts, "alt": steps.ALT}
    check("card", render("card.md.j2", page))


# layers


def test_layers_that_hardly_moved_are_named() -> None:
    facts = card(adapter(factors(0, lambda layer: torch.full((RANK,), 0.01 if layer == 2 else 1.0))))
    assert facts["layers"]["hardly"] == ["h.2"]


# files of other trainers


def test_kohya_s_names_give_what_peft_s_names_give() -> None:
    tensors = factors(0, steep)
    ours = card(adapter(tensors, lora_alpha=3))
    save_file(kohya(tensors), "it.safetensors")
    assert main(["it.safetensors", "--out", "other", "--device", "cpu"]) == 0
    theirs = json.loads(Path("other/card.json").read_text())
    assert theirs["energy"] == ours["energy"]
    assert theirs["parameters"] == ours["parameters"]
    sizes = [[m["size"] for m in facts["layers"]["matrices"]] for facts in (ours, theirs)]
    assert sorted(sizes[0]) == pytest.approx(sorted(sizes[1]))


def test_a_base_places_kohya_s_names_and_names_what_it_lacks() -> None:
    base, _ = checkpoints(lambda w: w)
    more = {"x.y.lora_A": torch.ones(RANK, 8), "x.y.lora_B": torch.ones(8, RANK)}
    save_file(kohya(factors(0, even) | more) | {"odd": torch.ones(1)}, "it.safetensors")
    facts = card("it.safetensors", "--base", base)
    assert {m["matrix"] for m in facts["layers"]["matrices"]} == {f"h.{i}.{m}.weight" for i in range(4) for m in SHAPES}
    assert all(any(name in note for note in facts["notes"]) for name in ("lora_unet_x_y", "odd"))


# extracts without a task

LINEAR = ("mlp.shared_experts.gate_proj", "embeddings_project", "lm_head", "output")


def test_an_extract_holds_each_linear_layer_by_its_factors_and_no_embedding(capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {f"{name}.lora_A": torch.randn(RANK, 8) for name in LINEAR}
    tensors |= {f"{name}.lora_B": torch.randn(12, RANK) for name in LINEAR}
    folder = Path(adapter(tensors))
    embedding = {f"{PREFIX}table.lora_embedding_A": torch.randn(RANK, 20)}
    embedding |= {f"{PREFIX}table.lora_embedding_B": torch.randn(8, RANK)}
    save_file(load_file(folder / WEIGHTS) | embedding, folder / WEIGHTS)
    card(folder, "--extract", "rank=2")
    written = load_file(Path("out/adapter-rank=2", WEIGHTS))
    assert {name.removeprefix(PREFIX).partition(".lora_")[0] for name in written} == set(LINEAR)
    assert "table.weight" in capsys.readouterr().out


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_an_adapter_with_trained_biases_is_not_extracted(bias: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = adapter(factors(0, even), bias=bias)
    assert f"--extract: bias={bias} of" in refused(capsys, folder, "--extract", "rank=2")
    assert not Path("out").exists()
    card(folder)


# wrong inputs


def test_a_wrong_input_is_refused_by_name_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    tensors = factors(0, even)
    lora_folder, tuned = adapter(tensors), checkpoints(lambda w: w)[1]
    first = next(iter(tensors))
    save_file(kohya(tensors), "kohya.safetensors")
    Path("empty").mkdir()
    Path("other").mkdir()
    others = {n.replace("lora_A", "weight"): torch.ones(5, 7) for n in tensors if n.endswith("A")}
    save_file(others, "other/model.safetensors")
    for words, named in [
        ([adapter({**tensors, first: tensors[first] * torch.nan}, "nan")], "h.0.attn.q"),
        (["kohya.safetensors", "--alpha", "9"], "--alpha 9"),
        (["kohya.safetensors", "--extract", "rank=2"], "--extract"),
        ([adapter(tensors, "pissa", init_lora_weights="pissa")], "--base BASE"),
        ([lora_folder, "--base", adapter(tensors, "second")], "--base BASE"),
        (["empty"], "--base BASE"),
        ([tuned], "--base BASE"),
        ([lora_folder, "--base", "other"], "h.0.attn.q"),
        ([lora_folder, "--base", "./nowhere"], "./nowhere"),
        ([lora_folder, "--base", "minilm", "--task", "movie_review"], "movie_reviews"),
        ([lora_folder, "--base", "minilm", "--task", "movie_reviews", "rank=3"], "rank=3"),
        ([lora_folder, "--base", "minilm", "--task", "movie_reviews", "second"], "movie_reviews second"),
        ([lora_folder, "--task"], "--task"),
        ([lora_folder, "--task", "movie_reviews"], "--base BASE"),
        ([lora_folder, "--margin", "-1"], "--margin -1"),
        ([lora_folder, "--extract"], "--extract"),
        ([lora_folder, tuned], "--out out"),
    ]:
        assert named in refused(capsys, *words)
        assert not Path("out").exists()


def test_names_from_a_file_stay_text_on_the_pages() -> None:
    name = "h.0.<script>alert(1)</script>|*x*"
    card(adapter({f"{name}.lora_A": torch.randn(RANK, 8), f"{name}.lora_B": torch.randn(8, RANK)}))
    assert "<script>alert" not in Path("out/card.html").read_text()
    assert "\\<script>" in Path("out/card.md").read_text()
    assert "href" not in Path("out/card.html").read_text()
    assert 'src="data:' in Path("out/card.html").read_text()


# scores


@pytest.fixture
def tuned_here(model_folder: Path, table_file: Path) -> tuple[str, list[str]]:
    """An adapter of the tiny model whose first direction does all, and a task whose labels are its own answers."""
    import pandas as pd

    from lorax_lab.models import head_modules, load_base

    base = load_base(str(model_folder), {"num_labels": 2}, 0)
    draw, tensors = torch.Generator().manual_seed(0), {}
    for layer in range(2):
        name = f"bert.encoder.layer.{layer}.output.dense"
        tensors[f"{name}.lora_A"] = torch.randn(4, 64, generator=draw)
        tensors[f"{name}.lora_B"] = torch.randn(32, 4, generator=draw) * torch.tensor([3.0, 1e-4, 1e-4, 1e-4])
    folder = adapter(tensors, r=4, lora_alpha=4, modules_to_save=head_modules(base.model))
    head = {PREFIX + n: p.detach() for n, p in base.model.named_parameters() if "classifier" in n or "pooler" in n}
    save_file(load_file(Path(folder, WEIGHTS)) | head, Path(folder, WEIGHTS))
    lora.load(base.model, Path(folder))
    texts = list(pd.read_csv(table_file)["sentence"])
    with torch.inference_mode():
        logits = base.model.eval()(**base.processor(texts, return_tensors="pt", padding=True)).logits
    middle = (logits[:, 1] - logits[:, 0]).median()
    bias = f"{PREFIX}classifier.bias"
    save_file(load_file(Path(folder, WEIGHTS)) | {bias: head[bias] - torch.tensor([0, middle])}, Path(folder, WEIGHTS))
    labels = ["ab"[int(one)] for one in logits[:, 1] - logits[:, 0] > middle]
    pd.DataFrame({"sentence": texts, "label": labels}).to_csv("own.csv", index=False)
    task = ["local", "task.path=own.csv", "task.text=sentence", "task.label=label"]
    return folder, [*task, "task.validation_examples=100", "task.test_examples=100", "task.train_examples=50"]


def test_a_cut_is_chosen_judged_and_extracted(tuned_here: tuple[str, list[str]], model_folder: Path) -> None:
    folder, task = tuned_here
    facts = card(folder, "--base", model_folder, "--extract", "--margin", "0.05", "--task", *task)
    scores = facts["scores"]
    assert [cut["k"] for cut in scores["cuts"]] == [0, 1, 2, 3, 4]
    assert scores["cuts"][4]["score"] > 0.95 > 0.8 > scores["cuts"][0]["score"]
    assert scores["chosen"] == 1
    assert scores["test"]["difference"] >= -0.05
    written = load_file(Path("out/adapter-rank=1", WEIGHTS))
    assert {len(t) for name, t in written.items() if "lora_A" in name} == {1}
    assert all(name.startswith(f"{PREFIX}bert.") or "classifier" in name for name in written)
    assert any("classifier" in name for name in written)


def test_peft_loads_what_was_extracted_and_says_the_same(tuned_here: tuple[str, list[str]], model_folder: Path) -> None:
    from peft import PeftModel

    from lorax_lab.models import load_base

    folder, task = tuned_here
    card(folder, "--base", model_folder, "--extract", "rank=4", "--task", *task)
    inputs = {"input_ids": torch.tensor([[2, 5, 9, 12, 3]])}
    ours, theirs = (load_base(str(model_folder), {"num_labels": 2}, 0).model for _ in range(2))
    lora.load(ours, Path(folder))
    loaded = PeftModel.from_pretrained(theirs, "out/adapter-rank=4")
    with torch.no_grad():
        assert torch.allclose(ours.eval()(**inputs).logits, loaded.eval()(**inputs).logits, atol=1e-5)


def as_loralib(folder: str) -> dict[str, Tensor]:
    """The tensors of a PEFT folder under loralib's names."""
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(Path(folder, WEIGHTS)).items()}
    return {name.removesuffix(".weight" * ("lora_" in name)): tensor for name, tensor in tensors.items()}


def extracted(capsys: pytest.CaptureFixture[str], *words: object, out: str = "out") -> tuple[int, str]:
    code = main([*map(str, words[:1]), "--out", out, "--device", "cpu", *map(str, words[1:])])
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("asked", ["rank=1", "energy=0.9"])
def test_an_extract_that_scores_otherwise_than_the_cut_is_a_failure(
    asked: str, tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bias of the body that loralib trained, and of which the extract knows nothing; by energy no cut was scored."""
    folder, task = tuned_here
    words = ["--alpha", "4", "--base", model_folder, "--extract", asked, "--task", *task]
    whole = as_loralib(folder)
    save_file(whole, "lora.safetensors")
    code, said = extracted(capsys, "lora.safetensors", *words)
    assert (code, "error: " in said) == (0, False), said  # its head is written
    bias = 50.0 * (torch.arange(32) % 3)
    save_file(whole | {"bert.encoder.layer.1.output.dense.bias": bias}, "lora.safetensors")
    code, said = extracted(capsys, "lora.safetensors", *words, out="other")
    failed = "rank" in asked
    assert code == failed
    assert (f"error: other/adapter-{asked}" in said) == failed


def test_a_task_whose_head_is_not_saved_is_refused(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    whole = load_file(Path(folder, WEIGHTS))
    save_file({name: t for name, t in whole.items() if "classifier" not in name}, Path(folder, WEIGHTS))
    assert "classifier.weight" in refused_late(capsys, folder, "--base", model_folder, "--task", *task)


def more(folder: str, tensors: dict[str, Tensor]) -> None:
    save_file(
        load_file(Path(folder, WEIGHTS)) | {PREFIX + name: t for name, t in tensors.items()}, Path(folder, WEIGHTS)
    )


DENSE = "bert.encoder.layer.0.output.dense"
STRAY: dict[str, dict[str, Tensor]] = {
    "head.of_another.weight": {"head.of_another.weight": torch.ones(3, 3)},
    f"{DENSE}.lora_B.bias": {f"{DENSE}.lora_B.bias": torch.ones(32)},
}


@pytest.mark.parametrize("name", STRAY)
def test_an_adapter_is_not_scored_without_a_part_of_it(
    name: str, tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    more(folder, STRAY[name])
    assert name in refused_late(capsys, folder, "--base", model_folder, "--task", *task)


def test_what_stands_beside_loralib_s_factors_is_scored(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same scores as those of the same numbers in PEFT's folder, biases of the body among them."""
    folder, task = tuned_here
    more(folder, {f"{DENSE}.bias": torch.linspace(-1, 1, 32)})
    words = ["--base", model_folder, "--task", *task]
    expected = card(folder, *words)["scores"]
    whole = as_loralib(folder)
    save_file(whole | {"bert.embeddings.position_ids": torch.arange(4)}, "lora.safetensors")
    assert main(["lora.safetensors", "--alpha", "4", "--out", "other", "--device", "cpu", *map(str, words)]) == 0
    assert json.loads(Path("other/card.json").read_text())["scores"] == expected
    save_file(whole | {"a.stranger": torch.ones(2)}, "lora.safetensors")
    assert "a.stranger" in refused_late(capsys, "lora.safetensors", "--alpha", "4", *words, out="third")


def refused_late(capsys: pytest.CaptureFixture[str], *words: object, out: str = "out") -> str:
    """A refusal after measuring: what is measured is kept, and no page is written."""
    assert main([*map(str, words[:1]), "--out", out, "--device", "cpu", *map(str, words[1:])]) == 2
    assert not Path(out, "card.html").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_s_folder_knows_its_base_and_its_task(method: str, small_run: list[str], lab_here: Lab) -> None:
    words = [*small_run, f"method={method}", "reference=false", "train.max_steps=3", "train.learning_rate=1e-2"]
    assert lab_here(*words).returncode == 0
    (folder,) = Path("runs").glob(f"*-{method}-*")
    facts = card(folder, "--task", "--extract", "rank=2")
    recorded = json.loads((folder / "record.json").read_text())["result"]["metrics"]
    assert facts["scores"]["whole"]["test"] == pytest.approx(recorded["test/accuracy"], abs=1e-6)
    assert facts["scores"]["whole"]["validation"] == pytest.approx(recorded["validation/accuracy"], abs=1e-6)
    assert analysis(["cards", "."]) == 0
    (row,) = pd.read_csv("cards.csv").to_dict("records")
    assert (row["full"], row["chosen"]) == (facts["scores"]["full"], facts["scores"]["chosen"])
    assert row["gain"] == pytest.approx(facts["scores"]["test"]["difference"])
    assert (row["validation"], row["test"]) == (64, 64)
    names = load_file(Path("out/adapter-rank=2", WEIGHTS))
    assert any(name.endswith("classifier.weight") for name in names)
    assert f"{PREFIX}bert.encoder.layer.0.output.dense.lora_A.weight" in names


# several


def test_each_of_several_has_a_card_and_a_wrong_one_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = adapter(factors(0, steep), "one"), adapter(factors(1, steep), "other")
    Path("empty").mkdir()
    assert main([one, "empty", other, "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert "[2/3] empty" in said.out
    assert "of 3 cards: 2 made, 1 not" in said.out
    assert "empty is no adapter" in said.err
    assert sorted(path.parent.name.split("-")[0] for path in Path("cards").glob("*/card.json")) == ["one", "other"]
    assert main([one, other, "--device", "cpu"]) == 0
    assert "of 2 cards: 2 made" in capsys.readouterr().out

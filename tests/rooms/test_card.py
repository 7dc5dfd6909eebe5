"""Rank cards: what they say of adapters whose truth is known, what they refuse, and their picture."""

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Namespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ran
from golden_page import check
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorax_lab.audit import card as steps
from lorax_lab.audit import cuts
from lorax_lab.audit.__main__ import main as entry
from lorax_lab.audit.findings import sentences
from lorax_lab.audit.picture import STYLE, draw, png
from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS

LAYERS, RANK = 4, 6
SHAPES = {"attn.q": (64, 48), "mlp.up": (96, 48)}
PAGES = ("card.md", "card.png", "card.json", "audit.csv")


@pytest.fixture(autouse=True)
def no_picture(own_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "png", lambda facts, title: b"a picture")  # to draw it takes longer than all the rest


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


def main(*words: object, out: str = "out") -> int:
    return entry(["card", *map(str, words), "--out", out])


def card(*words: object, out: str = "out") -> dict[str, Any]:
    """What a card says; all of its files are there."""
    assert main(*words, out=out) == 0
    assert all(Path(out, page).stat().st_size for page in PAGES)
    facts: dict[str, Any] = json.loads(Path(out, "card.json").read_text())
    return facts


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """A refusal in one line. What was measured before may be kept; no page is written."""
    assert main(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert not Path("out/card.md").exists()
    return said


def even(layer: int) -> Tensor:
    return torch.ones(RANK)


def steep(layer: int) -> Tensor:
    return 0.4 ** torch.arange(RANK)


def test_pure_noise_is_called_noise_and_a_steep_spectrum_is_not() -> None:
    facts = card(adapter(factors(1, even)))
    assert facts["verdict"]["finding"] == "noise"
    for module in facts["modules"]:  # each has the null of its own rank
        assert [point["k"] for point in module["curve"]] == list(range(1, RANK + 1))
        assert all(abs(point["median"] - point["null"]) < 0.06 for point in module["curve"])
    facts = card(adapter(factors(0, lambda layer: steep(layer) * (0.01 if layer == 2 else 1.0)), "steep"), out="other")
    assert {m["verdict"]["finding"] for m in facts["modules"]} == {"fewer"}
    assert facts["energy"]["90%"] < RANK
    assert facts["layers"]["hardly"] == ["h.2"]


def test_the_worst_matrix_stands_beside_the_energy_of_all_and_a_path_is_called_by_its_end() -> None:
    weak = factors(1, even)["h.3.mlp.up.lora_B"] / 100
    tensors = factors(0, steep) | {"h.3.mlp.up.lora_B": weak}
    Path("runs").mkdir()
    facts = card(adapter(tensors, "runs/it"))
    energy = torch.linalg.svdvals(weak @ tensors["h.3.mlp.up.lora_A"]) ** 2
    shares = (energy.cumsum(0) / energy.sum()).tolist()
    pooled, needs = facts["energy"]["90%"], 1 + next(i for i, share in enumerate(shares) if share >= 0.9)
    share = pytest.approx(shares[pooled - 1], rel=1e-4)
    assert facts["worst"] == {"matrix": "h.3.mlp.up", "share": share, "needs": needs}
    assert pooled < needs
    assert facts["title"] == "the adapter it"


UNTESTABLE: dict[str, tuple[Callable[[], str], str]] = {
    "rank 1": (lambda: adapter(first_of(factors(0, even)), r=1), "rank 1"),
    "an SVD's factors": (lambda: adapter(orthogonal(factors(0, even))), "an SVD made its factors"),
    "zero": (lambda: adapter(factors(0, lambda layer: torch.zeros(RANK))), "it did not change"),
    "MiCA": (lambda: adapter(orthogonal(factors(0, even), "B")), "a factor is orthogonal"),
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


def test_one_strong_direction_tells_beside_many_types_and_a_matrix_of_one_row_is_not_tested() -> None:
    draw = torch.Generator().manual_seed(3)
    names = [f"{name}.weight" for name in "abcdefgh"]
    base = {name: torch.randn(64, 48, generator=draw) for name in names} | {"row.weight": torch.ones(1, 48)}
    update = {name: 0.01 * torch.randn(tensor.shape, generator=draw) for name, tensor in base.items()}
    update["c.weight"] += torch.outer(torch.ones(64), torch.ones(48)) / 10
    for folder, tensors in (("base", base), ("tuned", {name: base[name] + update[name] for name in base})):
        Path(folder).mkdir()
        save_file(tensors, Path(folder, "model.safetensors"))
    facts = card("tuned", "--base", "base")
    findings = {module["module"]: module["verdict"]["finding"] for module in facts["modules"]}
    assert findings == dict.fromkeys("abdefgh", "noise") | {"c": "spikes", "row": "cannot be tested"}
    assert "one singular value" in next(m for m in facts["modules"] if m["module"] == "row")["verdict"]["reason"]
    sizes = sorted(matrix["size"] for matrix in facts["layers"]["matrices"])
    assert facts["layers"]["median"] == pytest.approx(np.median(sizes))


def test_an_update_that_stayed_zero_may_have_the_largest_rank() -> None:
    tensors = factors(1, even)
    tensors["h.3.attn.q.lora_A"] = torch.randn(4 * RANK, 48)
    tensors["h.3.attn.q.lora_B"] = torch.zeros(64, 4 * RANK)
    hangs_re = "(" * 12 + "[a-z.0-9]+" + ")+" * 12 + "!"
    facts = card(adapter(tensors, rank_pattern={"h.3.attn.q": 4 * RANK, hangs_re: 1}))
    assert [len(module["curve"]) for module in facts["modules"]] == [RANK, RANK]


def test_a_card_is_the_golden_page() -> None:
    """All of its words: of a scored adapter, and the headline of every outcome. Write it with GOLDEN=write."""
    facts = card(adapter(factors(0, lambda layer: steep(layer) * (0.01 if layer == 2 else 1.0))))
    facts["scores"] = {
        "task": "sarcasm", "metric": "accuracy", "margin": 0.02, "chosen": 2, "full": 8, "whole": {"test": 0.864},
        "cuts": [{"k": k, "score": 0.8, "difference": -0.004, "surely": -0.01} for k in (0, 2, 8)], "notes": [],
        "examples": {"test": 2000, "validation": 1000}, "higher_is_better": True,
    }  # fmt: skip
    headlines, advised = [], []
    for k, low, difference, high in [
        (8, 0.0, 0.0, 0.0), (0, -0.015, -0.004, 0.007), (2, None, -0.004, None), (2, -0.03, -0.015, 0.001),
        (2, None, -0.062, None), (2, -0.015, -0.004, 0.007),
    ]:  # fmt: skip
        test = {"score": 0.864 + difference, "difference": difference, "low": low, "high": high}
        scored = facts | {"scores": facts["scores"] | {"chosen": k, "test": test}}
        lines = sentences("headlines.txt.j2", {"facts": scored})
        headlines.append(lines[0])
        advised.append(steps.advice(scored))
    advised.append(steps.advice(facts | {"scores": None}))
    check("card", steps.page(scored, [*headlines[:-1], *lines, *advised]))


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


def test_a_wrong_input_is_refused_by_name_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    tensors = factors(0, even)
    lora_folder, first = adapter(tensors), next(iter(tensors))
    with_bias = adapter(tensors, "with_bias", lora_bias=True)
    bias = {f"{PREFIX}h.0.attn.q.lora_B.bias": torch.ones(64)}
    save_file(load_file(Path(with_bias, WEIGHTS)) | bias, Path(with_bias, WEIGHTS))
    factor = {"down.weight": torch.ones(2, 8), "up.weight": torch.ones(8, 2)}
    save_file({f"lora_unet_h_0.lora_{part}": tensor for part, tensor in factor.items()}, "kohya.safetensors")
    Path("other").mkdir()
    others = {n.replace("lora_A", "weight"): torch.ones(5, 7) for n in tensors if n.endswith("A")}
    save_file(others, "other/model.safetensors")
    for words, named in [
        ([adapter({**tensors, first: tensors[first] * torch.nan}, "nan")], "h.0.attn.q"),
        ([adapter(tensors, "biased", bias="all"), "--extract", "rank=2"], "bias=all"),
        ([with_bias, "--extract", "rank=2"], "h.0.attn.q.lora_B.bias was trained too"),
        (["kohya.safetensors", "--extract", "rank=2"], "--extract"),
        ([adapter(tensors, "pissa", init_lora_weights="pissa")], "--base BASE"),
        ([lora_folder, "--base", adapter(tensors, "second")], "--base BASE"),
        (["other"], "--base BASE"),
        ([lora_folder, "--base", "other"], "h.0.attn.q"),
        ([lora_folder, "--base", "minilm", "--task", "movie_review"], "movie_reviews"),
        ([lora_folder, "--base", "minilm", "--task", "movie_reviews", "rank=3"], "rank=3"),
        ([lora_folder, "--base", "minilm", "--task", "movie_reviews", "B"], "the adapter stands before --task"),
        ([lora_folder, "--task"], "--task"),
        ([lora_folder, "--task", "movie_reviews"], "--base BASE"),
        ([lora_folder, "--margin", "-1"], "--margin -1"),
        ([lora_folder, "--extract"], "--extract"),
        ([lora_folder, "--extract", "energy=0.9"], "energy=0.9"),
    ]:
        assert named in refused(capsys, *words)
        assert not Path("out").exists()
    too_large = {name: t.double() * 1e200 for name, t in tensors.items() if name.endswith("A")}
    assert "its norm is" in refused(capsys, adapter(tensors | too_large, "large"))


def test_names_from_a_file_stay_text_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "png", png)
    name = "h.0.<script>alert(1)</script>|*x*"
    card(adapter({f"{name}.lora_A": torch.randn(RANK, 8), f"{name}.lora_B": torch.randn(8, RANK)}))
    assert Path("out/card.md").read_text().count("<script>") == Path("out/card.md").read_text().count("\\<script>") > 0
    assert Path("out/card.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture
def tuned_here(model_folder: Path, table_file: Path) -> tuple[str, list[str]]:
    """An adapter of the tiny model whose first direction does all, and a task whose labels are its own answers."""

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


def test_a_cut_is_chosen_judged_and_extracted_and_peft_loads_it(
    tuned_here: tuple[str, list[str]], model_folder: Path
) -> None:
    from peft import PeftModel

    from lorax_lab.models import load_base

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
    inputs = {"input_ids": torch.tensor([[2, 5, 9, 12, 3]])}
    ours, theirs = (load_base(str(model_folder), {"num_labels": 2}, 0).model for _ in range(2))
    lora.load(ours, Path("out/adapter-rank=1"))
    loaded = PeftModel.from_pretrained(theirs, "out/adapter-rank=1")
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(**inputs).logits, loaded.eval()(**inputs).logits, atol=1e-5, rtol=0)


def test_a_cut_is_judged_over_the_groups_of_examples_and_of_one_group_not_at_all() -> None:
    right = {"correct": np.ones(200, dtype=bool)}
    wrong_in_one_group = (0.9, {"correct": np.arange(200) >= 20})
    task = Namespace(metric="accuracy", higher_is_better=True)
    kinds = (None, np.arange(200) // 20, np.zeros(200, np.int32))
    splits = [Namespace(task=task, groups=groups) for groups in kinds]
    changes = [cuts._change(split, (1.0, right), wrong_in_one_group) for split in splits]
    over_examples, over_groups, of_one = changes
    assert over_groups.surely < over_examples.surely - 0.05
    assert over_groups.low < over_examples.low < over_examples.high < over_groups.high
    assert all(math.isnan(end) for end in of_one[1:])
    assert of_one.difference == over_groups.difference == pytest.approx(-0.1)


def test_exact_matches_that_do_not_differ_have_an_interval_with_a_width() -> None:
    task = Namespace(metric="exact_match", higher_is_better=True)
    same = (1.0, {"pseudo_values": np.ones(50)})
    change = cuts._change(Namespace(task=task, groups=None), same, same)
    assert change.low == -change.high < -0.02


def test_an_extract_that_scores_otherwise_than_the_cut_is_a_failure(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bias of the body that loralib trained, and of which the extract knows nothing."""
    folder, task = tuned_here
    words = ("lora.safetensors", "--alpha", "4", "--base", model_folder, "--extract", "rank=1", "--task", *task)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(Path(folder, WEIGHTS)).items()}
    whole = {name.removesuffix(".weight" * ("lora_" in name)): tensor for name, tensor in tensors.items()}
    save_file(whole, "lora.safetensors")
    assert main(*words) == 0
    assert "error: " not in capsys.readouterr().out
    bias = 50.0 * (torch.arange(32) % 3)
    save_file(whole | {"bert.encoder.layer.1.output.dense.bias": bias}, "lora.safetensors")
    assert main(*words, out="other") == 1
    assert "error: other/adapter-rank=1" in " ".join(capsys.readouterr().out.split())


DENSE = "bert.encoder.layer.0.output.dense"
STRAY = {"head.of_another.weight": torch.ones(3, 3), f"{DENSE}.lora_B.bias": torch.ones(32)}


@pytest.mark.parametrize("name", [*STRAY, "classifier.weight"])
def test_an_adapter_is_not_scored_without_a_part_of_it(
    name: str, tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    tensors = load_file(Path(folder, WEIGHTS))
    if name in STRAY:
        tensors[PREFIX + name] = STRAY[name]
    else:  # the head is not saved
        tensors = {key: tensor for key, tensor in tensors.items() if "classifier" not in key}
    save_file(tensors, Path(folder, WEIGHTS))
    assert name in refused(capsys, folder, "--base", model_folder, "--task", *task)


def test_a_checkpoint_is_not_scored_with_a_matrix_of_its_base(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(model_folder / "model.safetensors")
    shutil.copytree(model_folder, "tuned")
    lacking = {key: tensor for key, tensor in tensors.items() if "layer.0.output.dense" not in key}
    save_file(lacking, "tuned/model.safetensors")
    assert DENSE in refused(capsys, "tuned", "--base", model_folder, "--task", *tuned_here[1])


def test_a_change_of_one_name_of_a_tied_weight_is_refused() -> None:
    model = nn.ModuleDict({"embed_tokens": nn.Embedding(5, 3), "lm_head": nn.Linear(3, 5, bias=False)})
    model["lm_head"].weight = model["embed_tokens"].weight
    other = torch.ones(5, 3)
    embedding, head = {"embed_tokens.weight": other}, {"lm_head.weight": other}
    scored = Namespace(title="it", base=None)

    def adapter_of(updates: dict[str, Any], saved: dict[str, Tensor]) -> Any:
        return Namespace(**vars(scored), adapter=Namespace(name="it", updates=updates, unplaced=[], saved=saved))

    tuned = Namespace(name="it", tensors=embedding | {"lm_head.weight": other + 1})
    update = Namespace(shape=(5, 3))
    for updates, checkpoint in (
        (Namespace(**vars(scored), adapter=None), tuned),
        (adapter_of({}, embedding), None),
        (adapter_of({"lm_head": update}, {}), None),
    ):
        with pytest.raises(ConfigError, match=r"embed_tokens\.weight, lm_head"):
            cuts.put_together(model, updates, checkpoint)
    cuts.put_together(model, adapter_of({}, embedding | head), None)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_s_folder_knows_its_base_and_its_task(method: str, small_run: list[str]) -> None:
    words = [*small_run, f"method={method}", "reference=false", "train.max_steps=3", "train.learning_rate=1e-2"]
    ran(*words)
    (folder,) = Path("runs").glob(f"*-{method}-*")
    facts = card(folder, "--task", "--extract", "rank=2")
    recorded = json.loads((folder / "record.json").read_text())["result"]["metrics"]
    assert facts["scores"]["whole"]["test"] == pytest.approx(recorded["test/accuracy"], abs=1e-6)
    assert facts["scores"]["whole"]["validation"] == pytest.approx(recorded["validation/accuracy"], abs=1e-6)
    names = load_file(Path("out/adapter-rank=2", WEIGHTS))
    assert any(name.endswith("classifier.weight") for name in names)
    assert f"{PREFIX}bert.encoder.layer.0.output.dense.lora_A.weight" in names


def facts_of(count: int, fall: float, has_null: bool) -> dict[str, Any]:
    """What a card says of six types of matrix of so many directions, whose energy falls so fast."""
    k = np.arange(1, count + 1)
    shares = np.cumsum(np.exp(-fall * k)) / np.exp(-fall * k).sum()
    null = [float(i / count) if has_null else None for i in k]
    curve = [
        {"k": int(i), "median": float(s), "low": float(s) * 0.9, "high": min(float(s) * 1.1, 1.0), "null": n}
        for i, s, n in zip(k, shares, null, strict=True)
    ]
    types = [f"attention.self.matrix{number}" for number in range(6)]
    sizes = sorted({0, count} | {n for i in range(9) for n in (2**i, 3 * 2**i) if n <= count})
    cuts = [{"k": n, "difference": 0.0, "surely": -0.016} for n in sizes]
    scores = {"cuts": cuts, "margin": 0.02, "chosen": 2, "full": count, "higher_is_better": True, "task": "reviews"}
    scores |= {"metric": "accuracy", "test": {"difference": 0.0, "low": -0.019, "high": 0.019}}
    return {"modules": [{"module": name, "curve": curve, "energy": 1.0} for name in types], "scores": scores}


@pytest.mark.parametrize(("count", "fall", "has_null"), [(16, 0.4, True), (384, 0.0, False)])
def test_nothing_lies_on_another(count: int, fall: float, has_null: bool) -> None:
    with mpl.rc_context(STYLE):
        picture = draw(facts_of(count, fall, has_null), title=[])
        picture.canvas.draw()
    parts = [picture, *picture.subfigs]
    legends = [legend for part in parts for legend in part.legends]
    legends += [legend for axes in picture.axes if (legend := axes.get_legend())]
    assert len(legends) == 2
    words = [text for part in parts for text in (part._supxlabel, part._supylabel) if text]
    for axes in picture.axes:
        words += [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.title]
    boxes = [axes.get_window_extent() for axes in picture.axes]
    boxes += [text.get_window_extent() for text in words if text.get_text()]
    inside = picture.bbox
    for box in (legend.get_window_extent() for legend in legends):
        assert not any(map(box.overlaps, boxes))
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    for axes in picture.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text() and not label.get_rotation()]
        numbers = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(numbers))

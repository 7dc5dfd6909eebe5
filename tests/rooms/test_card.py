"""Rank cards: what they say of adapters whose truth is known, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Lab, tiny_config
from safetensors.torch import load_file, save_file
from torch import Tensor

from analysis.__main__ import main as analysis
from lorax_lab.audit import extract
from lorax_lab.card import make as steps
from lorax_lab.card import picture, words
from lorax_lab.card.__main__ import main
from lorax_lab.card.facts import Facts
from lorax_lab.methods.peft_files import PREFIX, SETTINGS, WEIGHTS

LAYERS, RANK = 4, 6
SHAPES = {"attn.q": (64, 48), "mlp.up": (96, 48)}
PAGES = ("card.html", "card.md", "card.png", "card.json", "card.csv", "audit.csv")


def scores(k: int, low: float | None, difference: float, high: float | None) -> Facts:
    """Of a cut to k of 8 that was chosen within .02."""
    test = {"score": 0.864 + difference, "difference": difference, "low": low, "high": high}
    return {
        "task": "sarcasm", "metric": "accuracy", "margin": 0.02, "chosen": k, "full": 8, "test": test,
        "whole": {"test": 0.864}, "examples": {"test": 2000},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("k", "low", "difference", "high", "says"),
    [
        (
            2,
            -0.015,
            -0.004,
            0.007,
            "Cut to rank 2 of 8 it keeps its accuracy on sarcasm within 0.02 (0.864 whole, 0.860",
        ),
        (0, -0.015, -0.004, 0.007, "Without its update, by what is saved beside, it keeps its accuracy"),
        (2, None, -0.004, None, "2,000 test examples: -0.004)."),
        (2, -0.03, -0.015, 0.001, "it is not surely within 0.02 of its accuracy on sarcasm"),
        (2, -0.075, -0.062, -0.049, "it loses more than 0.02 of accuracy on sarcasm"),
        (0, -0.075, -0.062, -0.049, "-0.062, 95 % interval -0.075 to -0.049): validation chose wrongly."),
        (2, None, -0.062, None, "it loses more than 0.02"),
        (8, 0.0, 0.0, 0.0, "No smaller cut is surely within 0.02"),
    ],
)
def test_the_headline_says_of_a_cut_what_test_says(
    k: int, low: float | None, difference: float, high: float | None, says: str
) -> None:
    sentence = words._cut(scores(k, low, difference, high))
    assert says in sentence
    assert ("keeps" in sentence) == (k < 8 and (difference if low is None else low) >= -0.02)


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


@pytest.mark.parametrize("seed", range(4))
def test_pure_noise_is_called_noise(seed: int) -> None:
    facts = card(adapter(factors(seed, even)))
    assert facts["verdict"]["finding"] == "noise"
    assert "not told from noise" in Path("out/card.md").read_text()


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
    "EVA": (lambda: adapter(begun(factors(0, even)), init_lora_weights="eva"), "EVA starts"),
    "MiCA without its settings": (lambda: adapter(orthogonal(factors(0, even), "B")), "a factor is orthogonal"),
    "a converted PiSSA": (
        lambda: adapter(converted(factors(0, even)), r=2 * RANK),
        "a factor is orthogonal, or begins",
    ),
}


def first_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t[:1] if name.endswith("A") else t[:, :1] for name, t in tensors.items()}


def orthogonal(tensors: dict[str, Tensor], factors: str = "AB") -> dict[str, Tensor]:
    turned = {name: torch.linalg.qr(t.T if name.endswith("A") else t).Q for name, t in tensors.items()}
    return {
        name: t if name[-1] not in factors else turned[name].T if name.endswith("A") else turned[name]
        for name, t in tensors.items()
    }


def begun(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A began orthogonal, and some noise was added to it."""
    return {name: t + 0.01 * tensors[name] for name, t in orthogonal(tensors, "A").items()}


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
    assert "cannot be tested" in Path("out/card.html").read_text()


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


def test_rows_of_unequal_size_are_not_called_signal() -> None:
    draw = torch.Generator().manual_seed(3)
    rows = lambda w: torch.randn(len(w), 1, generator=draw).exp()  # noqa: E731
    base, tuned = checkpoints(lambda w: 0.01 * rows(w) * torch.randn(w.shape, generator=draw))
    verdict = card(tuned, "--base", base)["verdict"]
    assert (verdict["finding"], verdict["untested"], verdict["matrices"]) == ("cannot be tested", 8, 8)
    page = Path("out/card.md").read_text()
    assert "cannot be tested: its bulk is not that of iid noise." in page


def test_a_reason_of_some_matrices_counts_all_of_the_card() -> None:
    draw = torch.Generator().manual_seed(3)
    rows = lambda w: torch.randn(len(w), 1, generator=draw).exp() * (len(w) == 96)  # noqa: E731
    base, tuned = checkpoints(lambda w: 0.01 * rows(w) * torch.randn(w.shape, generator=draw))
    card(tuned, "--base", base)
    assert "its bulk is not that of iid noise (4 of 8 matrices)." in Path("out/card.md").read_text()


# layers


def test_layers_that_hardly_moved_are_named() -> None:
    facts = card(adapter(factors(0, lambda layer: torch.full((RANK,), 0.01 if layer == 2 else 1.0))))
    assert facts["layers"]["hardly"] == ["h.2"]
    assert "Hardly moved" in Path("out/card.md").read_text()


def test_a_type_that_did_not_move_at_all_is_named() -> None:
    """Half of all matrices are as they were, so their own median is 0."""
    facts = card(adapter({name: t * (not name.endswith("attn.q.lora_B")) for name, t in factors(0, even).items()}))
    assert facts["layers"]["hardly_matrices"] == [f"h.{layer}.attn.q.weight" for layer in range(LAYERS)]
    (still,) = {m["module"] for m in facts["modules"] if m["verdict"]["finding"] == "cannot be tested"}
    page = Path("out/card.md").read_text()
    assert "Single matrices that hardly moved: h.0.attn.q.weight, " in page
    assert f"{still} cannot be tested: it did not change." in page


def test_an_update_that_is_nothing_says_so() -> None:
    facts = card(adapter({name: t * (".lora_B" not in name) for name, t in factors(0, even).items()}))
    assert not facts["layers"]["moved"]
    assert "Nothing moved." in Path("out/card.md").read_text()


def test_parameters_are_counted() -> None:
    facts = card(adapter(factors(0, even)))
    assert facts["parameters"]["factors"] == LAYERS * sum(RANK * (rows + columns) for rows, columns in SHAPES.values())
    assert facts["parameters"]["ranks"] == facts["parameters"]["update_ranks"] == [RANK]


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
    assert any("in no module of the base, not measured (1): lora_unet_x_y" in note for note in facts["notes"])
    assert any("keys that could not be placed (1): odd" in note for note in facts["notes"])


def test_a_convolution_is_its_matrix() -> None:
    down, up = torch.randn(4, 8, 3, 3), torch.randn(16, 4, 1, 1)
    save_file({"lora_unet_conv.lora_down.weight": down, "lora_unet_conv.lora_up.weight": up}, "it.safetensors")
    facts = card("it.safetensors")
    dense = up.flatten(1).double() @ down.flatten(1).double()
    assert facts["layers"]["matrices"][0]["size"] == pytest.approx(float(dense.square().mean().sqrt()))
    assert any("no alpha in the file" in note for note in facts["notes"])


def llama() -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config("llama"))


@pytest.mark.parametrize("prefix", ["lora_", "lora_te_", "lora_unet_", "model.", "base_model.model.", ""])
@pytest.mark.filterwarnings("ignore")
def test_an_extract_of_kohya_s_has_the_base_s_names(prefix: str) -> None:
    """Names with the base's own `model.` or without it, with dots or underscores."""
    from peft import PeftModel

    model = llama()
    model.save_pretrained("base")
    before = {name: w.clone() for name, w in model.state_dict().items()}
    names = [f"model.layers.{i}.{m}" for i in range(2) for m in ("self_attn.q_proj", "mlp.up_proj")]
    tensors, updates = {}, {}
    for name in names:
        down, up = torch.randn(3, 32), torch.randn(len(before[f"{name}.weight"]), 3)
        path = name if prefix in ("lora_", "lora_te_", "base_model.model.") else name.removeprefix("model.")
        key = prefix + (path.replace(".", "_") if prefix.startswith("lora_") else path)
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(6)}
        updates[f"{name}.weight"] = 2 * up @ down
    save_file(tensors, "it.safetensors")
    card("it.safetensors", "--base", "base", "--extract", "rank=3")
    loaded = PeftModel.from_pretrained(llama(), "out/adapter-rank=3").merge_and_unload().state_dict()
    for name, weight in before.items():
        torch.testing.assert_close(loaded[name] - weight, updates.get(name, 0 * weight), rtol=1e-4, atol=1e-4)


def test_a_path_that_begins_as_a_model_s_name_is_found() -> None:
    names = {"transformer_blocks.0.q": (8, 8), "transformer.h.0.q": (8, 8)}
    Path("base").mkdir()
    save_file({f"{name}.weight": torch.ones(shape) for name, shape in names.items()}, "base/model.safetensors")
    factors = {
        f"{name}.lora_{part}": torch.randn(*size) for name in names for part, size in (("A", (2, 8)), ("B", (8, 2)))
    }
    save_file(kohya(factors, "lora_"), "it.safetensors")
    facts = card("it.safetensors", "--base", "base")
    assert {m["matrix"] for m in facts["layers"]["matrices"]} == {f"{name}.weight" for name in names}


# extracts without a task

LINEAR = (
    "mlp.shared_experts.gate_proj",
    "mlp.shared_expert.up_proj",
    "embeddings_project",
    "lm_head",
    "output",
    "head",
)


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
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if "left out" in line] == [
        "  left out, an embedding or an output layer: table.weight"
    ]


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_an_adapter_with_trained_biases_is_not_extracted(bias: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = adapter(factors(0, even), bias=bias)
    assert f"--extract: bias={bias} of" in refused(capsys, folder, "--extract", "rank=2")
    assert not Path("out").exists()
    card(folder)


# wrong inputs


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("code-was-run"),)


def _bad(name: str) -> list[str]:
    """Make one wrong input, and say what is typed."""
    tensors = factors(0, even)
    first = next(iter(tensors))
    words = ["it.safetensors"]
    match name:
        case "nan":
            return [adapter({**tensors, first: tensors[first] * torch.nan})]
        case "kohya's nan":
            save_file(kohya({**tensors, first: tensors[first] * torch.nan}), words[0])
        case "an alpha of another shape":
            save_file(kohya(tensors) | {"lora_unet_h_0_attn_q.alpha": torch.ones(2)}, words[0])
        case "kohya's alpha of nan":
            save_file(kohya(tensors, alpha=float("nan")), words[0])
        case "kohya's alpha of zero":
            save_file(kohya(tensors, alpha=0), words[0])
        case "two modules of one place":
            base, _ = checkpoints(lambda w: w)
            save_file(kohya(tensors, "lora_te1_") | kohya(factors(1, even), "lora_te2_"), words[0])
            words += ["--base", base]
        case "PiSSA without its base":
            return [adapter(tensors, init_lora_weights="pissa")]
        case "an adapter as the base":
            return [adapter(tensors), "--base", adapter(tensors, "other")]
        case "half a pair":
            save_file({k: v for k, v in kohya(tensors).items() if k != "lora_unet_h_0_attn_q.lora_up.weight"}, words[0])
        case "factors of two ranks":
            save_file(kohya({**tensors, first: tensors[first][:2]}), words[0])
        case "another alpha":
            save_file(kohya(tensors), words[0])
            words += ["--alpha", "9"]
        case "no module of the base":
            base, _ = checkpoints(lambda w: w)
            save_file(kohya({"x.lora_A": torch.ones(2, 8), "x.lora_B": torch.ones(8, 2)}), words[0])
            words += ["--base", base]
        case "LoHa":
            save_file({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, words[0])
        case "cut short":
            folder = Path(adapter(tensors))
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])
            return [str(folder)]
        case "code":
            torch.save({"q.lora_A": Code()}, "it.bin")
            return ["it.bin", "--alpha", "1"]
        case "an empty folder":
            Path("empty").mkdir()
            return ["empty"]
        case "a checkpoint alone":
            return [checkpoints(lambda w: w)[1]]
        case "a base of another shape":
            Path("other").mkdir()
            others = {n.replace("lora_A", "weight"): torch.ones(5, 7) for n in tensors if n.endswith("A")}
            save_file(others, "other/model.safetensors")
            return [adapter(tensors), "--base", "other"]
        case "a base that is not there":
            return [adapter(tensors), "--base", "./nowhere"]
        case "a kohya adapter to extract":
            save_file(kohya(tensors), words[0])
            words += ["--extract", "rank=2"]
        case "an unknown task":
            return [adapter(tensors), "--base", "minilm", "--task", "movie_review"]
        case "no setting of a task":
            return [adapter(tensors), "--base", "minilm", "--task", "movie_reviews", "rank=3"]
        case "no task's name":
            return [adapter(tensors), "--task"]
        case "a task and no base":
            return [adapter(tensors), "--task", "movie_reviews"]
    return words


WRONG = {
    "nan": "nan or inf inside",
    "kohya's nan": "nan or inf inside",
    "an alpha of another shape": "expected one number",
    "kohya's alpha of nan": "lora_unet_h_0_attn_q.alpha is nan; expected a number > 0",
    "kohya's alpha of zero": "lora_unet_h_0_attn_q.alpha is 0; expected a number > 0",
    "two modules of one place": "lora_te1_h_0_attn_q and lora_te2_h_0_attn_q both are h.0.attn.q",
    "PiSSA without its base": "needs its base; type: python -m lorax_lab.card ADAPTER --base BASE",
    "an adapter as the base": "type: python -m lorax_lab.card ADAPTER --base BASE",
    "half a pair": "has no lora_up.weight",
    "factors of two ranks": "allowed are (r, in) and (out, r)",
    "another alpha": "leave --alpha out",
    "no module of the base": "BASE has none of its modules: lora_unet_x",
    "LoHa": "no product of two factors",
    "cut short": "cannot be read",
    "code": "code is never run",
    "an empty folder": "type --base BASE",
    "a checkpoint alone": "type --base BASE",
    "a base of another shape": "give the adapter's own base",
    "a base that is not there": "there is no such folder or file",
    "a kohya adapter to extract": "leave --extract out",
    "an unknown task": "did you mean 'movie_reviews'",
    "no setting of a task": "--task rank=3 is no setting of a task",
    "no task's name": "--task needs a task's name",
    "a task and no base": "type --base BASE",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_input_is_refused_and_nothing_is_written(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert WRONG[name] in refused(capsys, *_bad(name))
    assert not Path("out").exists()
    assert not Path("code-was-run").exists()


@pytest.mark.parametrize("name", ["$x^{$", "v$1 and v$2"])
def test_a_dollar_in_a_name_is_no_formula(name: str) -> None:
    module = f"h.0.{name}"
    card(adapter({f"{module}.lora_A": torch.randn(RANK, 8), f"{module}.lora_B": torch.randn(8, RANK)}, name))
    assert Path("out/card.png").is_file()
    assert picture.STYLE["text.parse_math"] is False  # else what stands between two $ is set in italics


def test_notes_that_are_not_printed_are_in_a_file_of_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    tensors: dict[str, Tensor] = {}
    for i in range(12):
        tensors |= {f"lora_unet_conv_{i}.lora_down.weight": torch.randn(2, 4, 3, 3)}
        tensors |= {f"lora_unet_conv_{i}.lora_up.weight": torch.randn(8, 2, 1, 1)}
    save_file(tensors, "it.safetensors")
    facts = card("it.safetensors")
    assert "caution: and 2 more, all in card.json" in capsys.readouterr().out
    assert sum("caution" in note for note in facts["notes"]) == 12


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

    from lorax_lab.methods import peft_format
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
    peft_format.load(base.model, Path(folder))
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

    from lorax_lab.methods import peft_format
    from lorax_lab.models import load_base

    folder, task = tuned_here
    card(folder, "--base", model_folder, "--extract", "rank=4", "--task", *task)
    inputs = {"input_ids": torch.tensor([[2, 5, 9, 12, 3]])}
    ours, theirs = (load_base(str(model_folder), {"num_labels": 2}, 0).model for _ in range(2))
    peft_format.load(ours, Path(folder))
    loaded = PeftModel.from_pretrained(theirs, "out/adapter-rank=4")
    with torch.no_grad():
        assert torch.allclose(ours.eval()(**inputs).logits, loaded.eval()(**inputs).logits, atol=1e-5)


def extracted(capsys: pytest.CaptureFixture[str], *words: object, out: str = "out") -> tuple[int, str]:
    code = main([*map(str, words[:1]), "--out", out, "--device", "cpu", *map(str, words[1:])])
    return code, " ".join(capsys.readouterr().out.split())


def test_an_extract_that_does_not_load_is_a_failure(
    tuned_here: tuple[str, list[str]],
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, task = tuned_here
    whole = extract._settings
    monkeypatch.setattr(extract, "_settings", lambda *of: whole(*of) | {"bias": "lora_only"})
    code, said = extracted(capsys, folder, "--base", model_folder, "--extract", "rank=1", "--task", *task)
    assert code == 1
    assert "error: out/adapter-rank=1 was written and does not load: out/adapter-rank=1: bias=lora_only" in said


@pytest.mark.parametrize("asked", ["rank=1", "rank=2", "energy=0.9"])
def test_an_extract_that_scores_otherwise_than_the_cut_is_a_failure(
    asked: str, tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bias of the body that loralib trained, and of which the extract knows nothing; by energy no cut was scored."""
    folder, task = tuned_here
    words = ["--alpha", "4", "--base", model_folder, "--extract", asked, "--task", *task]
    whole = {name.removeprefix(PREFIX).replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B"): tensor
             for name, tensor in load_file(Path(folder, WEIGHTS)).items()}  # fmt: skip
    save_file(whole, "lora.safetensors")
    code, said = extracted(capsys, "lora.safetensors", *words)
    assert (code, "error: " in said) == (0, False), said  # its head is written
    bias = 50.0 * (torch.arange(32) % 3)
    save_file(whole | {"bert.encoder.layer.1.output.dense.bias": bias}, "lora.safetensors")
    code, said = extracted(capsys, "lora.safetensors", *words, out="other")
    failed = "rank" in asked
    assert code == failed
    assert (f"error: other/adapter-{asked} does not score as the cut that was measured: its accuracy" in said) == failed


def test_a_task_whose_head_is_not_saved_is_refused(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    whole = load_file(Path(folder, WEIGHTS))
    save_file({name: t for name, t in whole.items() if "classifier" not in name}, Path(folder, WEIGHTS))
    said = refused_late(capsys, folder, "--base", model_folder, "--task", *task)
    assert "has no head for this task: classifier.weight" in said


def test_a_head_of_another_task_is_refused(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    whole = load_file(Path(folder, WEIGHTS))
    name = next(name for name in whole if name.endswith("classifier.weight"))
    save_file(whole | {name: torch.ones(5, 32)}, Path(folder, WEIGHTS))
    assert "classifier.weight is (5, 32)" in refused_late(capsys, folder, "--base", model_folder, "--task", *task)


def more(folder: str, tensors: dict[str, Tensor]) -> None:
    save_file(
        load_file(Path(folder, WEIGHTS)) | {PREFIX + name: t for name, t in tensors.items()}, Path(folder, WEIGHTS)
    )


DENSE = "bert.encoder.layer.0.output.dense"
STRAY: dict[str, dict[str, Tensor]] = {
    "head.of_another.weight": {"head.of_another.weight": torch.ones(3, 3)},
    f"{DENSE}.lora_B.bias": {f"{DENSE}.lora_B.bias": torch.ones(32)},
    "bert.embeddings.word_embeddings.trainable_tokens_delta": {
        "bert.embeddings.word_embeddings.trainable_tokens_delta": torch.ones(2, 32)
    },
    "bert.picture.lora_A": {
        "bert.picture.lora_A.weight": torch.ones(4, 3, 2, 2), "bert.picture.lora_B.weight": torch.ones(8, 4, 1, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STRAY)
def test_an_adapter_is_not_scored_without_a_part_of_it(
    name: str, tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = tuned_here
    more(folder, STRAY[name])
    said = refused_late(capsys, folder, "--base", model_folder, "--task", *task)
    assert "have no place in the model, so the score would be another model's" in said
    assert name in said


def test_a_module_that_the_base_lacks_is_not_left_out_of_a_score(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = DENSE.removeprefix("bert.")
    own = {f"{name}.lora_A": torch.ones(4, 64), f"{name}.lora_B": torch.ones(32, 4)}
    other = {"no.such.lora_A": torch.ones(4, 8), "no.such.lora_B": torch.ones(8, 4)}
    save_file(kohya(own | other, prefix="lora_") | {"odd": torch.ones(1)}, "it.safetensors")
    said = refused_late(capsys, "it.safetensors", "--base", model_folder, "--task", *tuned_here[1])
    assert "4 tensors of the adapter it.safetensors have no place in the model" in said
    assert all(name in said for name in ("lora_no_such.lora_down.weight", "lora_no_such.alpha", "odd"))


def test_what_stands_beside_loralib_s_factors_is_scored(
    tuned_here: tuple[str, list[str]], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same scores as those of the same numbers in PEFT's folder, biases of the body among them."""
    folder, task = tuned_here
    more(folder, {f"{DENSE}.bias": torch.linspace(-1, 1, 32)})
    words = ["--base", model_folder, "--task", *task]
    expected = card(folder, *words)["scores"]
    whole = {name.removeprefix(PREFIX).replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B"): tensor
             for name, tensor in load_file(Path(folder, WEIGHTS)).items()}  # fmt: skip
    save_file(whole | {"bert.embeddings.position_ids": torch.arange(4)}, "lora.safetensors")
    assert main(["lora.safetensors", "--alpha", "4", "--out", "other", "--device", "cpu", *map(str, words)]) == 0
    assert json.loads(Path("other/card.json").read_text())["scores"] == expected
    save_file(whole | {"a.stranger": torch.ones(2)}, "lora.safetensors")
    assert "have no place in the model" in refused_late(capsys, "lora.safetensors", "--alpha", "4", *words, out="third")


def test_saved_buffers_are_part_of_what_is_scored() -> None:
    from lorax_lab.card.tuned import _load

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    tensors = {"1.running_mean": torch.ones(3), "1.weight": torch.full((3,), 2.0)}
    _load(model, tensors, "it")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in tensors.items())


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


@pytest.mark.parametrize(
    ("factors", "updates", "said"),
    [
        ([4], [4], "4"),
        ([4], [8], "4 of the factors; ΔW has 8"),
        ([2, 4], [383, 384], "2 to 4 of the factors; ΔW has 383 to 384"),
    ],
    ids=["lora", "pissa", "dora"],
)
def test_the_rank_of_the_update_is_said_where_its_factors_have_another(
    factors: list[int], updates: list[int], said: str
) -> None:
    from lorax_lab.card.words import _ranks

    assert _ranks({"ranks": factors, "update_ranks": updates}) == said


# several


def test_each_of_several_has_a_card_and_a_wrong_one_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = adapter(factors(0, steep), "one"), adapter(factors(1, steep), "other")
    Path("empty").mkdir()
    assert main([one, "empty", other, "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert "[2/3] empty" in said.out
    assert "of 3 cards: 2 made, 1 refused\n" in said.out
    assert "empty is no adapter" in said.err
    assert sorted(path.parent.name.split("-")[0] for path in Path("cards").glob("*/card.json")) == ["one", "other"]
    assert main([one, other, "--device", "cpu"]) == 0
    assert "of 2 cards: 2 made\n" in capsys.readouterr().out


def test_several_cards_have_no_common_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave --out out" in refused(capsys, adapter(factors(0, steep), "one"), adapter(factors(1, steep), "other"))


def test_the_ends_of_several_cards_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One is made, one lacks its extract, one hits a fault of ours, one is stopped, and one is not reached."""
    ends = iter([0, 1, RuntimeError("ours"), KeyboardInterrupt()])

    def make(request: Any) -> int:
        end = next(ends)
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(steps, "make", make)
    assert main(["a", "b", "c", "d", "e"]) == 130
    said = capsys.readouterr()
    assert (
        "of 5 cards: 1 made, 1 made, but not all that was asked, 1 failed, by a fault of the lab that stands above, "
        "1 stopped, 1 not reached" in said.out
    )
    assert "RuntimeError: ours" in said.err
    assert "[5/5]" not in said.out


def test_an_adapter_behind_the_task_is_no_second_task(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = adapter(factors(0, steep), "one"), adapter(factors(1, steep), "other")
    said = refused(capsys, one, "--base", "minilm", "--task", "movie_reviews", other)
    assert "--task names 2 tasks: movie_reviews other; name one" in said

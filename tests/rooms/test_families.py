"""Eleven families of models: what trains, what is adapted, what is measured, and what is not, which is always named."""

from pathlib import Path

import pytest
import torch
from families import BY_NAME, CAUSAL, FAMILIES, Family
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS, REFERENCE, count_parameters
from lorax_lab.methods.lora_layer import lora_layers
from lorax_lab.models import adaptable, base_weights, census, coverage, not_measured, select, short_name
from lorax_lab.record.result import Coverage
from lorax_lab.spectra import LowRank, singular_values
from lorax_lab.streams import generator

RANK, LORA = 2, "lora"
DOCS = Path(__file__).parents[2] / "docs"
families = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
methods = pytest.mark.parametrize("name", [REFERENCE, LORA])
Counts = dict[str, int]


def attached(model: nn.Module, name: str) -> Coverage:
    """The method attached to the model, and what the record then says of it."""
    method, names = METHODS[name], select(model, ["all-linear"])
    before = census(model, names)
    method.attach(model, names, method.settings(), RANK if method.has_rank else None, generator(0, "adapter"))
    return coverage(before, model)


def by_reason(covered: Coverage, key: str) -> Counts:
    sums: Counts = {}
    for part in covered.parts:
        sums[part.reason] = sums.get(part.reason, 0) + getattr(part, key)
    return sums


@families
@methods
def test_every_parameter_is_measured_or_named_and_the_numbers_add_up(family: Family, name: str) -> None:
    model = family.model()
    base = sum(p.numel() for p in model.parameters())
    weights = sum(module.weight.numel() for module in adaptable(model).values())
    covered = attached(model, name)
    reasons, trained = by_reason(covered, "parameters"), by_reason(covered, "trained")
    assert (covered.base, covered.adapted) == (base, weights)
    assert base == weights + sum(reasons.values())
    assert covered.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert covered.trained == covered.measured + sum(trained.values())
    counts = count_parameters(model)
    assert trained.get("head", 0) == counts["head"]
    if METHODS[name].is_reference:
        fixed = reasons.get("fixed", 0)
        assert (covered.trained, covered.measured) == (base - fixed, weights)
        plain = family.model()
        shares, body = not_measured(census(plain, select(plain, ["all-linear"]))), base - counts["head"]
        assert shares == {reason: pytest.approx(reasons[reason] / body) for reason in shares}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    else:  # the head, and what the method adds
        assert covered.measured == counts["adapter"]
        assert {reason for reason, number in trained.items() if number} <= {"head"}


def test_a_parameter_beside_matrices_is_refused_where_all_else_trains_too_and_a_bias_by_another_name_is_one() -> None:
    settings = METHODS[LORA].settings(others=True)
    for name in ("BERT", "Llama"):
        METHODS[LORA].check_base(settings, BY_NAME[name].model(), [])
    for name in ("DeBERTa", "Mamba"):
        METHODS[LORA].check_base(METHODS[LORA].settings(), BY_NAME[name].model(), [])
        with pytest.raises(ConfigError, match=r"method\.others=true .* are in one module"):
            METHODS[LORA].check_base(settings, BY_NAME[name].model(), [])
    model = BY_NAME["DeBERTa"].model()
    attached(model, "norms_and_biases")
    assert all(p.requires_grad for key, p in model.named_parameters() if key.endswith(("q_bias", "v_bias", ".bias")))


@families
@methods
def test_each_family_trains_and_its_updates_are_measured(family: Family, name: str) -> None:
    model = family.model()
    names = select(model, ["all-linear"])
    base, before = base_weights(model, names), family.model()
    attached(model, name)
    with torch.no_grad():
        assert torch.equal(model(**family.batch).loss, before(**family.batch).loss)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(**family.batch).loss
        loss.backward()
        optimizer.step()
    idle = {key for key, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not idle
    updates = METHODS[name].updates(model, base)
    assert set(updates) == set(base)
    for key, update in updates.items():
        assert tuple(update.shape) == tuple(base[key].shape)
        sigma = singular_values(update)
        assert sigma[0] > 0, key
        assert not isinstance(update, LowRank) or len(sigma) <= RANK


@families
def test_each_adapter_alone_moves_the_output_and_together_they_answer_as_the_merged_model(family: Family) -> None:
    """Also where a model reads a layer's weight in place of calling it, as Mamba does `dt_proj`'s."""
    model = family.model()
    attached(model, LORA)
    with torch.no_grad():
        before = model(**family.batch).logits
        for name, layer in lora_layers(model).items():
            nn.init.normal_(layer.lora_B, std=0.05, generator=generator(1, "adapter"))
            assert not torch.equal(model(**family.batch).logits, before), name
            nn.init.zeros_(layer.lora_B)
        for layer in lora_layers(model).values():
            nn.init.normal_(layer.lora_B, std=0.05, generator=generator(1, "adapter"))
        beside = model(**family.batch).logits
        METHODS[LORA].merge(model)
        torch.testing.assert_close(beside, model(**family.batch).logits, atol=1e-5, rtol=1e-4)


def test_what_is_tied_is_counted_once() -> None:
    llama = BY_NAME["Llama"]
    tied, apart = (llama.model(CAUSAL, tie_word_embeddings=tie) for tie in (True, False))
    reasons = [by_reason(attached(model, REFERENCE), "parameters") for model in (tied, apart)]
    assert reasons[0]["tied embeddings"] == reasons[1]["embeddings"] == reasons[1]["output layer"] == 64 * 32
    assert "output layer" not in reasons[0]


def test_what_a_class_fixes_is_fixed_in_a_model_that_is_read_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorax_lab.models import base

    whisper = BY_NAME["Whisper"]
    whisper.model().save_pretrained(tmp_path)
    monkeypatch.setattr(base, "load_processor", lambda *_: None)
    model = base.load_base(str(tmp_path), {}, 0, whisper.model_class).model
    attached(model, REFERENCE)
    still = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert still == ["model.encoder.embed_positions.weight"]


@families
def test_the_page_has_what_is_adapted_and_what_is_not(family: Family) -> None:
    model = family.model()
    before = census(model, select(model, ["all-linear"]))
    unmeasured, reasons = not_measured(before), by_reason(coverage(before, model), "parameters")
    adapted = dict.fromkeys(f"`{short_name(name)}`" for name in adaptable(model))
    cells = map(", ".join, (adapted, unmeasured, [reason for reason in reasons if reason not in unmeasured]))
    assert f"| {family.name} | {' | '.join(cells)} |" in (DOCS / "families.md").read_text(encoding="utf-8")

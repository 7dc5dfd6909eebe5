"""The cause: bases whose matrices are not pretrained, what a study of bases says, and an update while it trains."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from synthetic import PROTOCOL, study
from torch import Tensor

from analysis import trajectory as drawn
from analysis.pages import rendered
from analysis.study import page, share
from analysis.study.figures import FIGURES, bases
from analysis.study.records import Records
from analysis.study.share import HEAD, Scores
from analysis.study.validator import breaches
from experiments import pretraining, trajectory
from experiments.study import composed
from lorax_lab.execute import execute
from lorax_lab.launch.plan import run_of
from lorax_lab.models import load_base, select
from lorax_lab.record.folder import SPECTRA, load_arrays
from lorax_lab.spectra import stable_rank

KEEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "shuffled": lambda weight: weight.flatten().sort().values,
    "random": torch.std,
    "spectrum kept": torch.linalg.svdvals,
}
"""What each change leaves of a matrix."""


@pytest.mark.parametrize("base", pretraining.CHANGES)
def test_a_base_differs_in_its_matrices_alone_and_keeps_what_its_name_says(
    base: str, model_folder: Path, tmp_path: Path
) -> None:
    for folder in ("one", "again"):
        pretraining.write_base(tmp_path / folder, base, str(model_folder))
    before, made, again = (
        load_base(str(folder), {"num_labels": 2}, 0).model
        for folder in (model_folder, tmp_path / "one", tmp_path / "again")
    )
    names = {f"{name}.weight" for name in select(before, ["all-linear"])}
    for name, weight in before.state_dict().items():
        assert torch.equal(made.state_dict()[name], again.state_dict()[name])
        assert torch.equal(made.state_dict()[name], weight) == (name not in names)
        if name in names:
            left = (KEEPS[base](model.state_dict()[name]) for model in (made, before))
            torch.testing.assert_close(*left, rtol=0.1 if base == "random" else 1e-4, atol=1e-5)
    assert '"sha256"' in (tmp_path / "one" / "made_from.json").read_text()


def learned(kept: float, sign: int, draw: np.random.Generator) -> Scores:
    """Scores of a base of which rank 4 keeps this share; the examples are as hard on every base."""
    hard = np.random.default_rng(0).normal(0, 0.2, 500)
    zero, full, arm = (sign * (mean + hard + draw.normal(0, 0.02, (4, 500))) for mean in (0.5, 0.9, 0.5 + 0.4 * kept))
    return Scores(full, zero, HEAD, {("rank", 4): arm}, sign > 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_difference_of_two_shares_has_the_truth_inside_and_tells_them_apart(sign: int) -> None:
    draw = np.random.default_rng(1)
    first, less, same = (learned(kept, sign, draw) for kept in (0.9, 0.7, 0.9))
    less, same = (bases.difference(one, first, ("rank", 4)) for one in (less, same))
    assert less.low < -0.2 < less.high < 0
    assert same.low < 0 < same.high


def of_bases(zero: float) -> Records:
    """A study of two bases on one task, whose head alone scores `zero`."""
    names = [", ".join(place) for place in product(("pretrained", "random"), ("reviews",))]
    made = study(protocol=replace(PROTOCOL, extensions=0), tasks=tuple(names))
    factors = {"base": {"pretrained": ("model=m",), "random": ("model=r",)}, "task": {"reviews": ("task=reviews",)}}
    head = {"metric": "accuracy", "metrics": {"test/accuracy": zero}}
    return replace(made, declared=replace(made.declared, factors=factors), heads=dict.fromkeys(names, head))


def test_a_study_of_bases_has_their_differences_and_refuses_a_share_where_nothing_is_learned() -> None:
    records = of_bases(0.6)
    rows = bases.by_base(records).set_index(["base", "quantity", "size"])
    assert rows.loc[("random", "rank", 8), "value"] == pytest.approx(1, abs=0.02)
    assert np.isnan(rows.loc[("pretrained", "rank", 8), "difference"])
    assert "| random | reviews |" in page.write(records)
    figure = FIGURES["bases"]
    drawn = figure.table(records)
    assert figure.draw(drawn).get_suptitle().startswith("Rank from which on LoRA keeps 90 %")
    assert figure.claim(drawn).endswith(": pretrained 8 on reviews; random 8 on reviews")
    assert not {"base", "learned"} & set(share.table(records))  # which is shared by all pages and figures
    none = of_bases(0.95)
    assert set(bases.by_base(none)["quantity"]) == set(bases.SPECTRAL)
    assert "does not learn" in page.write(none)


def test_what_pretraining_changes_is_said_of_the_tasks_that_have_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    records = replace(of_bases(0.6), name="pretraining")
    factors = records.declared.factors | {"task": {"reviews": ("task=reviews",), "tweets": ("task=tweets",)}}
    grows = replace(records, declared=replace(records.declared, factors=factors))
    assert "Still to come: pretrained, tweets; random, tweets." in page.write(grows)
    assert "| tweets |" not in page.write(grows)
    text = page.write_why([grows], {"pretraining": "page"})
    assert "share kept, 1 cases beside the pretrained base | surely less | surely more |" in text
    assert "| rank 4 | 0 | 0 |\n| 16 directions | 0 | 0 |\n| d = 100,000 | 0 | 0 |" in text
    assert "| reviews | random | " in text
    assert "So the cause is open." in text
    rows = bases.rows_of_page(records)
    rows[1]["rank"] = {"difference_low": -0.2, "difference_high": -0.1}
    rows[1]["k"] = {"difference_low": 0.1, "difference_high": 0.2}
    monkeypatch.setattr(bases, "rows_of_page", lambda _: rows)
    text = page.write_why([replace(records, heads=dict(records.heads))], {"pretraining": "page"})
    assert "| rank 4 | 1 | 0 |\n| 16 directions | 0 | 1 |\n| d = 100,000 | 0 | 0 |" in text
    assert "A second task is to come." not in text
    assert "names training if two predictions hold" in text
    assert "So few directions" not in text  # no update was cut


def test_what_differs_on_every_task_answers_a_study_of_bases() -> None:
    def row(base: str, task: str, low: float, high: float) -> dict[str, Any]:
        cell = {"difference_low": low, "difference_high": high}
        return {"base": base, "task": task, "effective_rank": cell, "k": cell if base == "deep" else None}

    nothing = dict.fromkeys(("stable_rank", "rank", "dimension"))
    ends = [("first", 0, 0), ("deep", 1, 2), ("wide", -3, -1), ("first", 0, 0), ("deep", 2, 3), ("wide", -2, 1)]
    rows = [row(base, "ab"[i // 3], low, high) | nothing for i, (base, low, high) in enumerate(ends)]
    assert bases.differing(rows) == {"lower": {}, "higher": {"effective_rank": ["deep"], "k": ["deep"]}}
    assert bases.differing(rows[:3])["lower"] == {"effective_rank": ["wide"]}
    facts = {"differing": bases.differing(rows[:3]), "by_base": rows, "decided": bases.DECIDED}
    said = rendered("{% from 'parts.j2' import by_rule %}{{ by_rule(study) }}", study=facts)
    lower = "On every task surely lower than with first: the effective rank of wide."
    assert said.startswith(f"{lower} On every task surely higher than with first: the effective rank of deep and the")


def test_final_runs_of_a_task_on_all_bases_are_of_one_machine() -> None:
    records = of_bases(0.6)
    for line in records.lines_in("random, reviews", "final"):
        line["hardware"]["threads"] = 8
    faults = [breach.partition(" differ")[0] for breach in breaches(records)]
    assert faults == [f"{base}, reviews: numeric settings" for base in ("pretrained", "random")]
    factors = {"size" if name == "base" else name: levels for name, levels in records.declared.factors.items()}
    assert breaches(replace(records, declared=replace(records.declared, factors=factors))) == []


def test_a_run_that_is_looked_at_trains_as_if_nothing_had_been_and_is_trained_once(
    small_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory, "LOOKS", (1, 2, 4))
    monkeypatch.setattr(drawn, "EARLY", (1, 4))
    overrides = (*small_words, "method=full", "seed=3", *trajectory.COMMON)
    rows = trajectory.trajectory(overrides, "")
    values = {(row["step"], row["quantity"], row["k"]): row["value"] for row in rows}
    run = run_of(composed(overrides))
    execute(run.config, run.run_id, tmp_path / run.run_id, None)
    sigmas = [torch.from_numpy(parts["sigma"]) for parts in load_arrays(tmp_path / run.run_id, SPECTRA).values()]
    assert values[6, "stable rank", None] == np.mean([stable_rank(sigma) for sigma in sigmas])
    assert values[6, "columns", 4] == pytest.approx(1) == values[6, "rows", 8]
    assert 0 < values[1, "columns", 4] < 1
    trained: list[str] = []
    monkeypatch.setattr(trajectory, "write_cloze", lambda: None)
    monkeypatch.setattr(trajectory, "trajectory", lambda _, title: trained.append(title) or rows)
    assert [trajectory.main(["--records", str(tmp_path)]) for _ in range(2)] == [0, 0]
    assert len(trained) == len(set(trained)) == len(trajectory.RUNS) * len(trajectory.SEEDS)
    assert drawn.main(["--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "| cloze | full | 6 |" in (tmp_path / "out" / "VERDICT.md").read_text()


def test_k90_of_a_trajectory_stands_seed_by_seed_and_its_line_where_all_have_one() -> None:
    places = {"task": "cloze", "method": "full", "step": [16, 16, 32, 32], "seed": [0, 1, 0, 1]}
    rows = pd.DataFrame(places | {"k90": [128.0, np.nan, 4.0, 64.0], "columns 4": [0.2, 0.3, 0.5, 0.6]})
    rows = rows.assign(**dict.fromkeys(["score", "rows 4", "effective rank", "stable rank"], 1.0))
    text = drawn.page(rows)
    assert "| cloze | full | 16 | 1.000 | 128, — |" in text
    assert "| cloze | full | 32 | 1.000 | 4, 64 |" in text
    (line,) = (line for line in drawn.draw(rows).axes[0].lines if line.get_label() == "cloze, full")
    assert list(line.get_xdata()) == [32]
    assert drawn.claim(rows).endswith("those of step 16 share 25%, those of step 32 55%")

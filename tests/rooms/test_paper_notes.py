"""What stands on `docs/paper.md` beside the claims: notes of declarations and records, and controls."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study
from test_paper_page import D, amplified, similar
from test_paper_plans import made

from analysis.paper import controls, norms, notes, page
from analysis.paper.arms import across, between
from analysis.paper.command import to_come
from analysis.paper.reading import written
from analysis.paper.sections import SECTIONS
from analysis.study.comparison import seeds_of
from analysis.study.figures.sets import sets_of
from analysis.study.records import RECORDS, Records, load, score_of
from lorax_lab.study.declaration import Declaration, read_declaration


def declared(name: str) -> Declaration:
    return read_declaration(RECORDS / f"{name}.json")


def test_rates_of_a_control_that_were_chosen_among_ties_are_told_with_the_norm() -> None:
    records = study(tasks=("sarcasm", "random labels"))
    (note,) = notes.ties(records.declared, collapsed(records, "random labels"))
    assert note.startswith("On random labels all ")
    assert "trials collapsed, so that learning rates were chosen among ties: full 0.0002 (sarcasm 0.0002)" in note
    assert note.endswith("The full update's norm is 0.010 of that of W, and 0.010 on sarcasm.")
    assert list(notes.ties(records.declared, records)) == []  # no trial collapsed
    assert list(notes.ties(records.declared, None)) == []


def collapsed(records: Records, task: str) -> Records:
    """The records whose trials of a condition are flagged."""
    flagged = {id(line) for line in records.of(task, "trial")}
    lines = [line | {"collapsed": True} if id(line) in flagged else line for line in records.lines]
    return dataclasses.replace(records, lines=lines)


def test_the_sizes_are_told_from_the_declaration() -> None:
    same, chosen, steps = notes.sizes(declared("paper_data_sizes"), None)
    assert same.startswith("The task is sarcasm at every size, scored on the same 2,000 test examples.")
    assert "part of each larger one, and the same for every seed of a run (`task.split_seed` 0)" in same
    assert "on 1,000 validation examples, also where 100 are trained on" in chosen
    assert "has 210, 190, 189, 188 and 625 steps, in 30, 10, 3, 1 and 1 passes over" in steps
    assert "the largest by 3.3 times the steps" in steps


def test_scores_of_the_sizes_stand_beside_the_majority_class() -> None:
    records = made("paper_data_sizes")
    *_, scores = notes.sizes(declared("paper_data_sizes"), records)
    per_size = [
        np.mean([line["metrics"]["test/accuracy"] for line in seeds_of(records, task, "full").values()])
        for task in records.conditions
    ]
    assert scores.startswith(f"Full fine-tuning scores {', '.join(f'{score:.3f}' for score in per_size[:-1])} and ")
    assert scores.endswith("; a guess among the classes has 0.500.")  # the made data have no known labels


def test_unequal_ranks_have_unequal_scalings() -> None:
    (note,) = notes.unequal(declared("paper_which_rank"), None)
    assert "query r=12 and value r=4 has 1.33 (query) and 4 (value)" in note
    assert "where query and value r=8 has 2" in note


def test_arms_of_unequal_ranks_and_cut_sets_are_read() -> None:
    records = made("paper_which_rank")
    _, gains = notes.unequal(declared("paper_which_rank"), records)
    assert "over query and value r=8: query r=12 and value r=4 gains " in gains
    assert "query r=4 and value r=12 gains " in gains
    (cuts,) = notes.cut_sets(records.declared, records)
    for name, star in sets_of(records, "sarcasm").items():
        assert f"{name} {star}" in cuts


def test_what_lora_adapts_and_its_scaling_are_told() -> None:
    records = study(tasks=("sarcasm",))
    (text,) = notes.adapted([declared("paper_which_rank"), declared("paper_subspaces")], [records])
    assert "all 3 types of matrices" in text
    assert "16 / r, 2 at rank 8 and 0.25 at rank 64" in text
    bare = dataclasses.replace(records.declared, settings={})
    assert notes.adapted([bare], [records]) == []


def test_predictions_of_studies_without_runs_are_shown(tmp_path: Path) -> None:
    only_declared = shutil.ignore_patterns("*.parquet")
    shutil.copytree(RECORDS / "paper_data_sizes", tmp_path / "paper_data_sizes", ignore=only_declared)
    found, damaged = to_come(tmp_path)
    text = page.write([], {}, {}, found)
    assert (list(found), damaged) == (["paper_data_sizes"], {})
    assert "Predicted before the runs of `paper_data_sizes`, which has no published runs yet:" in text
    assert " ".join(found["paper_data_sizes"].texts["prediction"].split()) in text
    assert "625 steps" in text
    (tmp_path / "paper_data_sizes" / "declaration.json").write_text("{}")
    found, damaged = to_come(tmp_path)
    assert (found, list(damaged)) == ({}, ["paper_data_sizes"])


def test_every_score_stands_beside_what_no_update_of_the_matrices_reaches() -> None:
    """On the same task at the same size, with the same head; nothing is said of other sizes."""
    baselines, by_loss, by_size = (
        load(RECORDS / f"paper_{name}") for name in ("baselines", "rank_by_loss", "data_sizes")
    )
    floor, *_ = notes.floors(by_loss, baselines)
    assert floor.startswith(
        "Without any update of attention and feed-forward matrices sarcasm reaches (`paper_baselines`): head alone 0."
    )
    for arm in ("head alone", "embeddings alone", "norms and biases alone"):
        (score,) = re.findall(rf"{arm} (0\.\d+) \[", floor)
        assert float(score) == pytest.approx(
            np.mean([score_of(line, "test") for line in seeds_of(baselines, "sarcasm", arm).values()]), abs=5e-4
        )
    (of_sizes,) = notes.floors(by_size, baselines)
    assert "matrices 3000 examples reaches" in of_sizes
    assert list(notes.floors(study(tasks=("sarcasm",)), baselines)) == []


def test_no_note_needs_records_or_settings() -> None:
    records = study(tasks=("sarcasm",))
    for section in SECTIONS:
        for note in section.notes:
            assert list(note(records.declared, None)) == []


@pytest.mark.parametrize(("control", "said"), [(0.2, controls.REFUTED), (0.02, controls.STANDS), (0.1, controls.OPEN)])
def test_a_control_refutes_what_it_has_more_than_half_of(control: float, said: str) -> None:
    """The task shares .2 beyond chance."""
    rows: list[dict[str, Any]] = []
    for task, beyond in (("sarcasm", 0.2), ("random labels", control)):
        at = {f"{k},{k}": k / D + beyond for k in (1, 64)}
        rows += [row | {"condition": task} for row in similar({}, at).rows["similarities"]]
    records = dataclasses.replace(study(tasks=("sarcasm", "random labels")), rows={"similarities": rows})
    text = controls.section({"paper_subspaces": records})[1]
    seeds = [line for line in text.splitlines() if line.startswith("| Figure 4")]
    assert [line.split(" | ")[1].partition("(")[2] for line in seeds] == [
        f"{side})"
        for side in ("A", "rows of B A", "columns of B A", "rows of full fine-tuning", "columns of full fine-tuning")
    ]
    assert [line.count("φ(1, 1)") for line in seeds] == [2, 0, 0, 0, 0]  # of A the first direction, else all 64
    assert all(line.endswith(f"| {said} |") for line in seeds), seeds


@pytest.mark.parametrize(("over_noise", "said"), [(0.5, controls.REFUTED), (2.0, controls.STANDS)])
def test_a_gaussian_update_refutes_what_it_has_more_of(over_noise: float, said: str) -> None:
    text = controls.section({"paper_amplification": amplified(over_noise)})[1]
    rows = [line for line in text.splitlines() if line.startswith("| Table 7")]
    assert [line.split(" | ")[1].partition(" tells")[0] for line in rows] == [
        f"A large factor at r = {r}" for r in (4, 64)
    ]
    assert all(line.endswith(f"| {said} |") for line in rows)


@pytest.mark.parametrize(("drawn", "said"), [(2.4, controls.REFUTED), (1.2, controls.STANDS), (1.75, controls.OPEN)])
def test_random_labels_refute_what_they_have_more_than_half_of(drawn: float, said: str) -> None:
    """W is 2.5 times as large as in noise in the update of the task: half of what it has beyond 1 is 1.75."""
    rows = [
        {"condition": task, "arm": arm, "seed": seed, "matrix": matrix, "module": "value", "r": r}
        | {"factor": 8.0 / (times + 0.01 * seed), "gaussian_factor": 8.0, "random_factor": 8.0, "base_factor": 0.1}
        for task, times in (("sarcasm", 2.48), ("random labels", drawn - 0.02))
        for arm, r in (("full", 4), ("full", 64), ("LoRA r=4", 4))
        for seed in range(5)
        for matrix in ("one", "two")
    ]
    records = dataclasses.replace(study(tasks=("sarcasm", "random labels")), rows={"factors": rows})
    lines = [line for line in controls.section({"paper_amplification": records})[1].splitlines() if "Table 7" in line]
    (drawn_labels,) = (line for line in lines if "random labels" in line)
    assert "the top 4 directions of full" in drawn_labels
    assert drawn_labels.endswith(f"| {said} |")
    assert len(lines) == 2, "of LoRA on the task, beside a Gaussian"


def test_of_query_and_value_alone_the_same_is_asked() -> None:
    rows = [row | {"arm": row["arm"].replace("LoRA", "query and value")} for row in amplified(0.5).rows["factors"]]
    both = {"factors": rows} | dict(similar({}).rows)
    text = controls.section({"paper_which_rank": dataclasses.replace(amplified(0.5), rows=both)})[1]
    assert text.count("| Table 7, query and value alone | A large factor") == 2
    assert text.count("| Figure 3, query and value alone | ") == 1


def test_lora_in_other_matrices_has_a_name_of_its_own() -> None:
    """Factors of LoRA in all matrices and in two types, in one study, are not taken for one another's."""
    rows = amplified(0.5).rows["factors"]
    two = [row | {"arm": row["arm"].replace("LoRA", "query and value")} for row in amplified(0.25).rows["factors"]]
    records = dataclasses.replace(amplified(0.5), rows={"factors": [*rows, *two]})
    subjects = [reading.subject for reading in norms.uses_directions_of_the_base(records)]
    assert len(set(subjects)) == len(subjects) == 4
    assert [r.subject for r in norms.less_at_a_higher_rank(records)] == ["LoRA", "LoRA in query and value"]


def test_the_baselines_notes_say_what_the_prediction_is_told_by() -> None:
    records = made("paper_baselines")
    assert np.isnan(across(records, "head alone", "sarcasm with the usual head", "sarcasm").mean), "of other examples"
    of_one = [line | {"inputs": line["inputs"] | {"data_sha256": "0" * 64}} for line in records.lines]
    records = dataclasses.replace(records, lines=of_one)
    told = " ".join(notes.baselines(records.declared, records))
    gain = between(records, "sarcasm", "norms and biases alone", "LoRA r=1")
    assert f"On sarcasm norms and biases alone gain {written(gain)} over LoRA r=1." in told
    scores = {
        task: np.mean([line["metrics"]["test/accuracy"] for line in seeds_of(records, task, "head alone").values()])
        for task in records.conditions
    }
    usual = across(records, "head alone", "sarcasm with the usual head", "sarcasm")
    assert usual.mean == pytest.approx(scores["sarcasm with the usual head"] - scores["sarcasm"], abs=1e-6)
    assert f"head alone {written(usual)}" in told
    assert "Parameters trained, head apart: embeddings alone 99,900" in told
    texts = records.declared.texts | {"prediction": "norms and biases, with 13,056 parameters"}
    assert "13,056 parameters of norms and biases are wrong" in " ".join(
        notes.baselines(dataclasses.replace(records.declared, texts=texts), records)
    )


def test_a_control_is_held_against_the_task_of_its_own_texts_alone() -> None:
    names = ("sarcasm", "random labels", "tweets")
    rows = [row | {"condition": name} for name in names for row in similar({}).rows["similarities"]]
    records = dataclasses.replace(study(tasks=names), rows={"similarities": rows})
    _, table, _ = controls.section({"paper_subspaces": records})
    held = [line.split(" | ")[2:4] for line in table.splitlines()[2:]]
    assert held.count(["before training", "tweets"]) == held.count(["before training", "sarcasm"]) == 1
    assert ["random labels", "sarcasm"] in held
    assert ["random labels", "tweets"] not in held
    flagged = collapsed(records, "random labels")
    (note,) = notes.ties(records.declared, flagged)
    assert "tweets" not in note


def test_no_controls_are_named_where_none_was_measured() -> None:
    assert controls.section({}) == []
    assert controls.section({"paper_subspaces": study(tasks=("sarcasm",))}) == []

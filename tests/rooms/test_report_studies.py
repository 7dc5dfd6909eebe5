"""The interactive figures of a study say what the pictures of matplotlib say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import study

from analysis.report import layers, of_study, study_page
from analysis.scores import directed
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, load
from analysis.variants import COLLAPSED

NO_MEAN = "a trial diverged, so no mean"


def test_a_rate_of_which_a_trial_diverged_has_no_mean_and_a_mark_and_a_collapsed_one_a_cross() -> None:
    """Its other trial, of .9, would look better than the rate that was chosen."""
    table = FIGURES["trials"].table(study())
    arm = table[table["arm"] == "LoRA r=8"]
    rates = sorted(set(arm["learning_rate"]))
    lost, flat = ((table["arm"] == "LoRA r=8") & (table["learning_rate"] == rate) for rate in (rates[0], rates[-1]))
    table.loc[lost, "validation"] = [0.9, float("nan")]
    table.loc[lost, "status"] = ["completed", "diverged"]
    table[COLLAPSED] = flat
    [view] = of_study.VIEWS["trials"](table)
    traces = {trace["name"]: trace for trace in view.traces}
    line = dict(zip(traces["LoRA r=8"]["x"], traces["LoRA r=8"]["y"], strict=True))
    assert line.pop(rates[0]) is None
    assert max(line.values()) == pytest.approx(0.8015)
    mark = traces[f"{NO_MEAN} (at the foot)"]
    assert (list(mark["x"]), list(mark["customdata"])) == ([rates[0]], ["LoRA r=8"])
    drawn = [y for trace in traces.values() if trace is not mark for y in trace["y"] if y is not None]
    assert mark["y"][0] < min(drawn)
    [mirrored] = of_study.VIEWS["trials"](directed(table, False))
    [mark] = [trace for trace in mirrored.traces if trace["name"] == f"{NO_MEAN} (at the top)"]
    assert mark["y"][0] > max(drawn)  # lower is better
    cross = traces["a trial collapsed"]
    assert (list(cross["x"]), list(cross["y"])) == ([rates[-1]], [line[rates[-1]]])


def test_trials_that_all_ended_well_have_no_marks_of_others() -> None:
    [view] = of_study.VIEWS["trials"](FIGURES["trials"].table(study()))
    assert [trace["name"] for trace in view.traces][:3] == ["full", "LoRA r=1", "LoRA r=8"]
    assert not any(trace["name"].startswith((NO_MEAN, "a trial collapsed")) for trace in view.traces)


def test_runs_that_diverged_or_collapsed_are_said_beside_the_interactive_figures(tmp_path: Path) -> None:
    """As the headings of the picture say it."""
    records = study()
    lines = [dict(line) for line in records.lines]
    for line in lines:
        cell = records.cell(line)
        if cell is not None and cell.stage == "final" and cell.seed == 0 and cell.arm == "full":
            line[COLLAPSED] = ["one class"]
        if cell is not None and cell.stage == "final" and cell.seed == 1 and cell.arm == "LoRA r=8":
            line |= {"status": "diverged", "reason": "loss nan"}
    ended = replace(records, lines=lines)
    notes = {plot.name: plot.notes for plot in study_page._plots(ended, ["c"], [], tmp_path / "page.html")}
    assert "reviews: rank 8: a run diverged; full: 1 of 5 collapsed." in notes["cost"]
    assert "reviews: a run diverged, so no mean: rank 8." in notes["answer"]
    [*_, scores] = FIGURES["cost"].draw(FIGURES["cost"].table(ended)).axes
    heading = " ".join(scores.get_title("left").split())
    assert heading.startswith("reviews; rank 8: a run diverged; full: 1 of 5 collapsed")
    well = {plot.name: plot.notes for plot in study_page._plots(records, ["c"], [], tmp_path / "page.html")}
    assert not [note for name in ("answer", "cost") for note in well[name] if note.startswith("reviews")]


def test_a_matrix_outside_the_layers_is_in_no_layer_and_it_is_said(tmp_path: Path) -> None:
    """The heat maps of a folder of runs leave it out too."""
    records = study()
    lines = [dict(line) for line in records.lines]
    for line in lines:
        for key in {"matrices", "gaussian"} & set(line):
            row = next(iter(line[key].values()))
            line[key] = line[key] | {"pooler.dense": row | {"module": "pooler.dense", "layer": None}}
    table = layers.table(replace(records, lines=lines))
    assert table is not None
    [view] = layers.of_study(table)
    assert list(view.traces[0]["y"]) == ["0", "1"]
    assert "pooler.dense" not in view.traces[0]["x"]
    about = {"best": True, "arm": "full", "method": "full"}
    [of_runs] = layers.of_layers(table.assign(**about))
    assert (of_runs.traces[0]["x"], of_runs.traces[0]["y"]) == (view.traces[0]["x"], view.traces[0]["y"])
    notes = {}
    for name, of in (("with", replace(records, lines=lines)), ("without", records)):
        plots = study_page._plots(of, ["c"], [], tmp_path / "page.html")
        notes[name] = next(plot.notes for plot in plots if plot.name == layers.NAME)
    assert notes == {"with": ("Outside the layers, and in the CSV alone: pooler.dense.",), "without": ()}
    [alone] = layers.of_study(table[table["layer"].isna()])
    assert list(alone.traces[0]["x"]) == ["pooler.dense"]


@pytest.mark.parametrize("name", ["paper_rank_by_loss", "memorised"])
def test_every_figure_of_a_study_has_its_own_title(name: str, tmp_path: Path) -> None:
    """Not the name of its file, such as `arms`; the answer's begins with the verdict."""
    records = load(RECORDS / f"{name}.jsonl")
    plots = {plot.name: plot.title for plot in study_page._plots(records, ["c"], [], tmp_path / "page.html")}
    titles = {key: FIGURES[key].TITLE for key in plots if key in FIGURES}
    assert len(titles) >= 4
    assert {key: plots[key].endswith(f"{text[0].upper()}{text[1:]}") for key, text in titles.items()} == dict.fromkeys(
        titles, True
    )

"""The figures of studies: the title is the verdict, seeds beside means, legible with many tasks; names; LaTeX."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_studies import in_nats, of_one_seed
from matplotlib.legend import Legend
from scipy.stats import binomtest, t
from synthetic import peaked, study

from analysis import scores
from analysis.scores import intervals_over
from analysis.study import comparison, verdict
from analysis.study.command import figures_of, latex
from analysis.study.figures import FIGURES, STANDARD
from analysis.study.latex import escaped
from analysis.study.records import RECORDS, Records, every, load
from lorax_lab.tasks import KINDS


def flat(cell: Any) -> float:
    """The same score for every arm: no rank is told from another."""
    return 0.8 if cell.stage == "final" else peaked(cell)


@pytest.mark.parametrize("named", [None, ("trials", "answer")])
def test_a_study_has_one_list_of_figures(named: tuple[str, ...] | None) -> None:
    records = study()
    declared = dataclasses.replace(records.declared, figures=named)
    assert figures_of(dataclasses.replace(records, declared=declared)) == (named or STANDARD)


def title(records: Records) -> str:
    return " ".join(FIGURES["answer"].draw(FIGURES["answer"].table(records)).get_suptitle().split())


@pytest.mark.parametrize("records", [study, lambda: study(flat), lambda: load(RECORDS / "random_labels")])
def test_the_answers_title_is_the_verdict(records: Any) -> None:
    of_study = records()
    rulings = {r.task: r.verdict for r in verdict.rulings(of_study) if r.module == "all"}
    figure = FIGURES["answer"].draw(FIGURES["answer"].table(of_study))
    assert " ".join(figure.get_suptitle().split()).startswith(verdict.headline(rulings))
    lefts = [axes.get_title("left").split("\n")[0] for axes in figure.axes[::2]]
    assert lefts == [f"{task}: {ruling}" for task, ruling in rulings.items()]


def test_the_random_labels_are_headed_undecided() -> None:
    assert title(load(RECORDS / "random_labels")).startswith("Low rank is undecided on random labels")


def test_an_unfair_comparison_has_no_verdict_in_its_title() -> None:
    records = study()
    unfair = dataclasses.replace(records, lines=records.lines[:-1])
    assert title(unfair).startswith("Low rank: no verdict")


def test_seeds_stand_beside_the_means_on_one_scale_per_row() -> None:
    figure = FIGURES["answer"].draw(FIGURES["answer"].table(study()))
    figure.canvas.draw()
    left, right = figure.axes[:2]
    assert left.get_ylim() == right.get_ylim()
    means = left.containers[0].lines[0]
    seeds = next(line for line in left.lines if line.get_color() == "0.6" and len(line.get_xdata()))
    at_means, at_seeds = (
        {round(x, 1) for x, _ in line.get_transform().transform(line.get_xydata())} for line in (means, seeds)
    )
    assert len(at_means) == len(at_seeds) == 2
    assert all(seed - mean > 4 for mean, seed in zip(sorted(at_means), sorted(at_seeds), strict=True))
    sizes = {
        text.get_fontsize()
        for text in (*left.get_xticklabels(), *right.get_xticklabels(), left.title, left.xaxis.label)
    }
    assert len(sizes) == 1


def test_one_seed_has_the_interval_of_its_test_examples_and_no_verdict_is_made_of_it() -> None:
    records = study()
    of_one = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] == 0]
    table = FIGURES["answer"].table(dataclasses.replace(records, lines=of_one))
    ranks = table[table["side"] == "rank"]
    assert (ranks["examples"] == 1000).all()
    assert (ranks["low"] < ranks["mean"]).all()
    assert not ranks["within"].any()
    assert "95 % intervals over test examples" in " ".join(FIGURES["answer"].draw(table).get_suptitle().split())


def test_one_seed_has_the_interval_of_its_test_examples_in_every_figure_and_it_is_said() -> None:
    records = study()
    of_one = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] == 0]
    one = dataclasses.replace(records, lines=of_one)
    table = FIGURES["cost"].table(one)
    for row in table.to_dict("records"):
        ends = binomtest(round(1000 * row["test"]), 1000).proportion_ci(method="wilson")
        assert (row["test_low"], row["test_high"]) == pytest.approx((ends.low, ends.high))
    figure = FIGURES["cost"].draw(table)
    labels = [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]
    assert "LoRA, one seed, 95 % interval over its test examples" in labels
    assert "one seed with the 95" in FIGURES["cost"].latex(table)
    for name, said in (
        ("functional", "changed; one seed, 95 % interval over its validation examples"),
        ("modules", "one seed, no interval: the answers of these cuts are not kept"),
        ("spectral", "one seed, no interval"),
        ("arms", "95 % intervals over the test examples of one seed; filled"),
    ):
        title = " ".join(FIGURES[name].draw(FIGURES[name].table(one).assign(model="m")).get_suptitle().split())
        assert said in title
    without = pd.DataFrame({"seeds": [1], "difference_low": [np.nan]})
    assert intervals_over(without, "difference") == "one seed, no intervals"


def test_the_bands_of_one_seeds_cuts_are_wilsons_over_the_validation_examples() -> None:
    records = study()
    of_one = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] == 0]
    table = FIGURES["functional"].table(dataclasses.replace(records, lines=of_one))
    for row in table.to_dict("records"):
        ends = binomtest(round(1000 * row["score"]), 1000).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    cut = table[table["part"] == "cut"]
    [band, *_] = FIGURES["functional"].draw(table).axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((cut["low"].min(), cut["high"].max()))
    whole = FIGURES["functional"].table(records)
    assert not {"low", "high"} & set(whole)


def test_a_difference_of_one_seed_has_students_interval_over_its_test_examples() -> None:
    records = study()
    of_one = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] == 0]
    one = dataclasses.replace(records, lines=of_one)
    row = FIGURES["arms"].table(one).set_index("arm").loc["LoRA r=1"]
    [full, rank1] = (comparison.added(comparison.seeds_of(one, "reviews", arm)[0]) for arm in ("full", "LoRA r=1"))
    d = rank1 - full
    half = t.isf(0.025, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    ends = (row["difference_low"], row["difference_high"])
    assert ends == pytest.approx((d.mean() - half, d.mean() + half))
    assert comparison.table(one, "reviews")["difference_low"].isna().all()  # what verdicts are made of
    several = every(records, comparison.table)
    pd.testing.assert_frame_equal(comparison.with_ends_of_one_seed(records, several), several)


def copies(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The table's first task, or kind of pair, as many."""
    column = "pair" if "pair" in table else "task"
    one = table[table[column] == table[column].iloc[0]]
    return pd.concat([one.assign(**{column: f"a task of name {i}"}) for i in range(count)], ignore_index=True)


@pytest.mark.parametrize("name", [name for name in STANDARD if name != "shared"])
def test_a_dozen_tasks_have_headings_that_do_not_meet(name: str) -> None:
    figure = FIGURES[name].draw(copies(FIGURES[name].table(study()), 12))
    figure.draw_without_rendering()
    assert figure.get_figwidth() == 7
    headings = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    boxes = [text.get_window_extent() for text in headings if text.get_text()]
    assert len(boxes) >= 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for axes in figure.axes:
        labels = [
            label.get_window_extent()
            for label in axes.get_xticklabels()
            if label.get_text() and label.get_rotation() == 0
        ]
        assert all(a.x1 <= b.x0 for a, b in pairwise(sorted(labels, key=lambda box: box.x0)))


def test_no_mark_of_a_cost_is_cut_off() -> None:
    """LoRA of rank 8 takes 1.06 times full fine-tuning's seconds: its mark is whole within the panel."""
    table = FIGURES["cost"].table(study())
    full = float(table.loc[table["arm"] == "full", "train_seconds"].iloc[0])
    figure = FIGURES["cost"].draw(table.assign(train_seconds=table["rank"].map({1: full, 8: 1.06 * full}).fillna(full)))
    figure.draw_without_rendering()
    panel = next(axes for axes in figure.axes if axes.get_title("left").startswith("seconds"))
    line = panel.lines[0]
    top = line.get_transform().transform(line.get_xydata())[:, 1].max()
    assert top + line.get_markersize() * figure.dpi / 72 <= panel.get_window_extent().y1


@pytest.mark.parametrize("lost", [0.0, 0.004, 0.05, 0.1, 0.333, 0.58, 1.7, 20.0])
def test_the_numbers_of_a_bar_of_colours_do_not_touch(lost: float) -> None:
    table = FIGURES["trials"].table(study())
    worst = (table["arm"] == "LoRA r=8") & (table["learning_rate"] == table["learning_rate"].max())
    best = float(table[table["arm"] == "LoRA r=8"]["validation"].max())
    figure = FIGURES["trials"].draw(table.assign(validation=table["validation"].mask(worst, best - lost)))
    figure.draw_without_rendering()
    bar = figure.axes[-1]
    boxes = [label.get_window_extent() for label in bar.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 3
    assert all(a.x1 + 0.5 * figure.dpi * 7.5 / 72 <= b.x0 for a, b in pairwise(boxes))


# ---- LaTeX


@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].latex])
@pytest.mark.parametrize("tasks", [1, 12])
def test_a_table_is_whole(name: str, tasks: int) -> None:
    """Each row has as many cells as the table has columns, and no number is missing unsaid."""
    text = latex(name, copies(FIGURES[name].table(study()), tasks))
    assert text is not None
    frame = re.match(r"\{.*\n\\begin\{(tabular|longtable)\}\{@\{\}(\S.*)@\{\}\}\n", text)
    assert frame
    letters = frame[2].replace(r"@{\,}", "")
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    for row in rows:
        spans = [re.match(r" ?\\multicolumn\{(\d+)\}", cell) for cell in re.split(r"(?<!\\)&", row)]
        assert sum(int(span[1]) if span else 1 for span in spans) == len(letters)
    assert text.count("{") == text.count("}")
    assert (r"\endhead" in text) == (frame[1] == "longtable") == (len(rows) > 42)
    assert not re.search(r"\bnan\b|(?<![a-z])inf\b|None|<NA>|(?<!\\)[%#_]", text)


def test_what_is_bold_is_what_matches() -> None:
    table = FIGURES["cost"].table(study())
    rows = [line for line in str(latex("cost", table)).splitlines() if line.startswith(r"\textbf{")]
    bold = {row.partition("}")[0].removeprefix(r"\textbf{") for row in rows}
    assert bold == {escaped(arm) for arm in table.loc[table["matches"].fillna(value=False), "arm"]}


# ---- scores in nats per token


def legends(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


@pytest.mark.parametrize("are_kept", [True, False])
def test_one_seed_in_nats_has_students_interval_over_its_pseudo_values_or_none(are_kept: bool) -> None:
    records = of_one_seed(in_nats(study(), are_kept))
    table = FIGURES["cost"].table(records)
    has_interval = "LoRA, one seed, 95 % interval over its test examples" in legends(FIGURES["cost"].draw(table))
    assert has_interval == table["test_low"].notna().all() == are_kept
    for row in table.to_dict("records") if are_kept else ():
        values = comparison.added(comparison.seeds_of(records, "reviews", row["arm"])[0])
        assert values is not None
        half = t.isf(0.025, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        assert (row["test_low"], row["test_high"]) == pytest.approx((row["test"] - half, row["test"] + half))


OF_SCORES = ("answer", "cost", "functional", "modules", "trials", "arms")


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_figure_names_the_unit_of_its_scores_where_it_meets_no_other_text(name: str) -> None:
    figure, unit = FIGURES[name], "nats per token (lower is better)"
    shares, nats = (figure.table(records).assign(model="m") for records in (study(), in_nats(study())))
    assert scores.UNIT not in shares
    pictures = [figure.draw(rows) for rows in (shares, nats)]
    assert [unit in " ".join(" ".join(words(picture)).split()) for picture in pictures] == [False, True]
    many = figure.draw(pd.concat([nats.assign(task=f"arithmetic {i}") for i in range(6)], ignore_index=True))
    many.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in many.axes]
    texts += [axes.yaxis.label for axes in many.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    if figure.latex:
        head = figure.latex(nats).partition(r"\midrule")[0]
        assert r"\multicolumn{2}{l}{nats per token}" in head
        assert r"\times 100" not in head


def words(figure: Any) -> list[str]:
    """What a figure's titles and axes say."""
    parts = [(a.get_title("left"), a.get_title(), a.get_xlabel(), a.get_ylabel()) for a in figure.axes]
    return [figure.get_suptitle(), *(text for of_axes in parts for text in of_axes)]


def test_the_metrics_that_have_units_are_metrics_of_tasks() -> None:
    assert set(scores.UNITS) <= {name for kind in KINDS.values() for name in kind.metrics}
    rows = scores.with_units(pd.DataFrame({"direction": ["lower is better"] * 2}), pd.Series(["nats", "accuracy"]))
    assert scores.unit(rows) == ""  # rows of two units have no one unit
    assert scores.unit(rows[:1]) == "nats per token"

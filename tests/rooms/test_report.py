"""The page of runs or of a study, as text: what it says, what it escapes, how large it is, and wrong inputs."""

from __future__ import annotations

import base64
import contextlib
import gzip
import html
import io
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint
from test_analysis import Store, group_of

from analysis.__main__ import main
from analysis.figures import FIGURES
from analysis.groups import RUNS
from analysis.report import curves, dark, layers, of_runs, of_study, page, plot, runs_page, study_page
from analysis.study.command import load_every
from analysis.study.figures import FIGURES as STUDY_FIGURES
from analysis.study.records import RECORDS, Records, load
from lorax_lab.record import record
from lorax_lab.windows import progress

HOSTILE = "</script><script>alert(1)</script>\"'&<b>${x}"
"""A text that would leave whatever it stands in, were it not escaped."""
Specification = dict[str, Any]


def report(store: Store, *words: str) -> int:
    return main(["report", "--runs", str(store.folder), "--out", str(store.folder.parent / "page.html"), *words])


def written(store: Store) -> str:
    return (store.folder.parent / "page.html").read_text(encoding="utf-8")


def packed(text: str) -> dict[str, str]:
    """What is packed in a page, by its name, without plotly."""
    scripts = re.findall(r'<script type="text/plain" id="([^"]+)">([^<]*)</script>', text)
    return {key: gzip.decompress(base64.b64decode(data)).decode() for key, data in scripts if key != "plotly"}


def specifications(text: str) -> dict[str, Specification]:
    return {key.removesuffix("-spec"): json.loads(data) for key, data in packed(text).items() if key.endswith("-spec")}


def with_curve(folder: Path, steps: int = 3, **more: float) -> Path:
    rows = [{"step": step, "train/loss": 1 / step} | more for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs", layers=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """LoRA at two ranks, two seeds, one of them collapsed, and full fine-tuning; all with learning curves."""
    store = Store(tmp_path_factory.mktemp("study") / "runs", layers=2)
    for seed in (0, 1):
        with_curve(store.run(seed=seed, test=0.8 + 0.02 * seed))
        for rank in (1, 4):
            flagged = ["one class"] if rank == 1 and seed else []
            with_curve(store.run(rank=rank, seed=seed, test=0.7 + rank / 50, collapsed=flagged))
    return store


@pytest.fixture(scope="module")
def seen(study: Store) -> str:
    """The page of `study`."""
    assert report(study) == 0
    return written(study)


@pytest.fixture(scope="module")
def published() -> dict[str, Records]:
    return {records.name: records for records in load_every(RECORDS)[0] if records.name in ("planted", "rank_sweep")}


# ---- laws over every figure


def check(views: list[plot.View]) -> None:
    """Plotly accepts each trace and layout, JSON takes every number, and something is drawn."""
    from plotly.graph_objects import Figure

    assert views
    for view in views:
        assert view.traces
        Figure(data=view.traces, layout=view.layout)
        json.dumps([view.traces, view.layout], allow_nan=False)
        drawn = [trace.get("z") or (trace["x"] and trace["y"]) for trace in view.traces]
        assert any(drawn)
    assert len({view.name for view in views}) == len(views)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_runs_has_views_that_plotly_accepts(study: Store, name: str) -> None:
    check(of_runs.VIEWS[name](FIGURES[name].table(group_of(study))))


@pytest.mark.parametrize("name", STUDY_FIGURES)
@pytest.mark.parametrize("study_name", ["planted", "rank_sweep"])
def test_every_figure_of_a_study_has_views_that_plotly_accepts(
    published: dict[str, Records], study_name: str, name: str
) -> None:
    table = STUDY_FIGURES[name].table(published[study_name])
    if table is not None:
        check(of_study.VIEWS[name](table))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_csv_and_its_command(study: Store, seen: str, name: str) -> None:
    group = group_of(study)
    csv = packed(seen)[f"group-{group.name}-{name}-csv"]
    table = FIGURES[name].table(group)
    assert csv.splitlines()[0] == ",".join(map(str, table))
    assert len(csv.splitlines()) == len(table) + 1
    assert f"python -m analysis {name} --runs {study.folder}" in seen


def test_beside_each_csv_stands_how_many_digits_it_has(seen: str) -> None:
    files = {key: data for key, data in packed(seen).items() if key.endswith("-csv")}
    assert files
    assert seen.count(f"<span>decimal numbers to {plot.DIGITS} significant digits</span>") == len(files)
    mantissas = [
        re.sub(r"e.*$", "", cell).lstrip("-0.").replace(".", "")
        for data in files.values()
        for cell in re.findall(r"-?\d+\.\d+(?:e[+-]\d+)?", data)
    ]
    assert max(map(len, mantissas)) == plot.DIGITS


def test_a_figure_without_an_interactive_form_is_shown_as_a_picture(
    study: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(of_runs.VIEWS, "memory")
    assert report(study) == 0
    assert f"group-{group_of(study).name}-memory" not in specifications(written(study))
    assert written(study).count('src="data:image/png;base64,iVBOR') == 1


# ---- what the page says


def test_the_page_has_the_question_what_varied_every_run_and_the_finding(study: Store, seen: str) -> None:
    text = seen
    assert runs_page.QUESTION in text
    assert "rank = 1, 4" in text
    assert "seed = 0, 1" in text
    assert text.count("<tr><td>") == 6
    assert all(folder.name in text for folder in study.folder.iterdir() if folder.is_dir())
    assert "5 completed" in text
    assert "1 collapsed" in text
    assert "of each matrix's 16 directions" in text or "of each matrix&#x27;s 16 directions" in text


def test_numbers_of_the_drawing_are_those_of_the_table(study: Store) -> None:
    (view,) = of_runs.of_ranks(FIGURES["accuracy_vs_rank"].table(group_of(study)))
    lora = next(trace for trace in view.traces if trace["name"] == "LoRA (range of 2 seeds)")
    assert list(lora["customdata"]) == [1, 4]
    assert list(lora["x"]) == [0.0, 2.0]
    assert list(lora["y"]) == pytest.approx([0.72, 0.78])
    assert [trace["name"] for trace in view.traces].count("collapsed run") == 1


@pytest.mark.parametrize("figure", ["accuracy_vs_rank", "accuracy_vs_parameters", "functional_rank"])
def test_one_seed_has_the_interval_of_its_examples(figure: str, store: Store) -> None:
    """Wilson's, as in the picture."""
    store.run(rank=4)
    store.run(method="full", cuts={0: 0.5, 16: 0.8})
    table = FIGURES[figure].table(group_of(store))
    examples = int(table["examples"].iloc[0])
    (view,) = of_runs.VIEWS[figure](table)
    traces = [trace for trace in view.traces if trace.get("error_y")]
    assert len(traces) >= 1
    for trace in traces:
        assert f"95 % interval over {examples:,} examples" in trace["name"]
        ends = [proportion_confint(round(score * examples), examples, method="wilson") for score in trace["y"]]
        above, below = (
            [abs(end[side] - score) for score, end in zip(trace["y"], ends, strict=True)] for side in (1, 0)
        )
        assert trace["error_y"]["array"] == pytest.approx(above)
        assert trace["error_y"]["arrayminus"] == pytest.approx(below)


def test_one_run_is_a_page(store: Store) -> None:
    store.run(rank=4)
    assert report(store) == 0
    text = written(store)
    assert "1 run of" in text
    assert "not drawn: there is no completed full fine-tune" in text
    assert [key.rpartition("-")[2] for key in specifications(text)] == [
        "accuracy_vs_rank", "accuracy_vs_parameters", "memory", "effective_rank",
    ]  # fmt: skip


def test_a_store_of_failed_runs_is_a_page_with_their_reasons(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, status in enumerate(("diverged", "failed", "oom", "killed")):
        folder = store.run(rank=4, seed=seed, status=status)
        record.write_record(folder, _with_reason(record.read_record(folder), f"{status} of {seed} & <{HOSTILE}>"))
    assert report(store) == 1
    text = written(store)
    assert all(f"1 {status}" in text for status in ("diverged", "failed", "oom", "killed"))
    assert "diverged of 0 &amp; &lt;&lt;/script&gt;" in text
    assert text.count("to run it again, type python -m lorax_lab.run") == 4
    assert not specifications(text)
    assert 'id="plotly"' not in text
    assert "page.html: 0.0 MB" in capsys.readouterr().out


def test_a_folder_without_a_completed_run_shows_the_curves_of_what_diverged(store: Store) -> None:
    with progress.written(store.run(rank=4, status="diverged"), "a-sweep") as row:
        row(1, {"train/loss": 1.0, "validation/accuracy": 0.5})
        row(2, {"train/loss": 7.0})
    assert report(store) == 1
    [made] = specifications(written(store)).values()
    [line] = made["views"][0]["traces"]
    assert (line["name"], list(line["y"])) == ("lora r = 4 (diverged)", [1.0, 7.0])


def test_without_a_full_run_no_title_speaks_of_one(store: Store) -> None:
    for rank in (1, 2):
        store.run(rank=rank)
    report(store)
    assert "with full fine-tuning" not in written(store)


def _with_reason(old: record.Record, reason: str) -> record.Record:
    import dataclasses

    return dataclasses.replace(old, reason=reason)


def test_a_damaged_record_among_good_ones_is_named(study: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs", layers=1)
    store.run()
    broken = store.run(rank=2)
    (broken / "record.json").write_text('{"schema": 2')
    assert report(store) == 0
    assert f"{broken.name} is damaged" in written(store)
    assert "1 completed, 1 damaged" in written(store)


def test_what_unlike_versions_or_lacking_seeds_do_to_a_figure_is_said(store: Store) -> None:
    store.run()
    store.run(seed=1)
    store.run(rank=4)
    assert report(store) == 0
    assert "3 of 4 runs" in written(store)
    assert "LoRA r = 4 of seed 1; type python -m lorax_lab.run" in written(store)


def test_the_same_records_give_the_same_bytes(study: Store, seen: str) -> None:
    report(study)
    assert written(study) == seen


def test_make_run_writes_the_page_last_and_names_it(
    study: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    steps = re.findall(r"^\t(.*)$", makefile.partition("\nrun:")[2].partition("\n\n")[0], flags=re.M)
    assert [step for step in steps if "$(PYTHON)" in step][-1] == steps[-1] == "$(PYTHON) -m analysis report"
    assert "report.html" in makefile.splitlines()[0]
    shutil.copytree(study.folder, tmp_path / RUNS)
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(shlex.split(steps[-1])[3:]) == 0
    assert (tmp_path / "report.html").is_file()
    assert output.getvalue().splitlines()[-1].startswith("report.html: ")
    assert output.getvalue().splitlines()[-1].endswith("open it in a browser")


# ---- what comes from outside


def test_a_hostile_text_stays_a_text(store: Store) -> None:
    store.run(model=f"m {HOSTILE}", train={"note": HOSTILE})
    store.run(model=f"m {HOSTILE}", train={"note": HOSTILE}, rank=4)
    store.run(model=f"m {HOSTILE}", train={"note": HOSTILE}, rank=4, alpha=8)
    assert report(store) == 0
    text = written(store)
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert text.count("</script>") == text.count("<script")


def test_an_axis_of_ranks_leaves_out_a_number_that_the_next_would_cover() -> None:
    assert plot.rank_axis([1, 3, 4, 512, 576, 512], "k")["ticktext"] == ["1", "3", "4", "576"]


def test_the_answers_axis_begins_with_what_decides_it() -> None:
    """Cut to nothing the model is a hundred margins worse, so that nothing else could be told apart beside it."""
    table = STUDY_FIGURES["answer"].table(load(RECORDS / "arithmetic.jsonl"))
    [view] = of_study.VIEWS["answer"](table)
    low, high = view.layout["yaxis"]["range"]
    of_lora = table[table["side"] == "rank"]
    assert low < of_lora["low"].min() < 0.025 < of_lora["high"].max() < high < table["high"].max()
    assert "a double click shows what lies beyond" in view.layout["yaxis"]["title"]["text"].replace("<br>", " ")
    [near] = of_study.VIEWS["answer"](table[table["mean"] < 0.1])
    assert "range" not in near.layout["yaxis"]


def test_a_name_is_no_markup_for_plotly() -> None:
    assert plot.scatter("a<b>c", [1], [2])["name"] == "a&lt;b&gt;c"
    assert "<br>" not in plot.folded("a<br>b")


def test_secrets_are_hidden_in_the_page_and_in_what_is_packed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "q7RmZ2xYtPw4KdVbLs9N"
    store.run(rank=1, targets=("all-linear",), train={"note": secret})
    store.run(rank=1, targets=("all-linear",), train={"note": "b"})
    assert report(store) == 0
    assert secret in written(store) + "".join(packed(written(store)).values())
    monkeypatch.setenv("MY_TOKEN", secret)
    assert report(store) == 0
    assert secret not in written(store)
    assert not [key for key, content in packed(written(store)).items() if secret in content]
    assert specifications(written(store))


def test_nothing_on_the_page_leads_out_of_it(seen: str) -> None:
    bare = re.sub(r'<script type="text/plain".*?</script>', "", seen, flags=re.S)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", bare)
    assert "http" not in bare.replace("http-equiv", "")
    assert page.POLICY in bare


# ---- size


def test_what_has_no_room_is_left_out_and_said(study: Store, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = len(page._script("plotly", page._plotly()))
    parts = {key: len(page._script(key, page.pack(content))) for key, content in packed(seen).items()}
    specs = {key: size for key, size in parts.items() if key.endswith("-spec")}
    reserve, frame = page.SPARE * (len(specs) + 1), len(seen.encode()) - bundle - sum(parts.values())
    monkeypatch.setattr(page, "LARGEST", bundle + reserve + frame + min(specs.values()))
    assert report(study) == 0
    text = written(study)
    assert len(text.encode()) <= page.LARGEST
    assert [*packed(text)] == [min(specs, key=lambda key: specs[key])]
    assert text.count("There is no room for this figure") == len(specs) - 1
    assert "has no room here: the command writes it" in text
    monkeypatch.setattr(page, "LARGEST", 1000)
    assert report(study) == 2


def test_many_curves_and_long_ones_are_thinned_and_it_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "RUNS", 6)
    for seed in range(8):
        with_curve(store.run(rank=1, seed=seed), steps=500)
    with progress.written(store.run(rank=1, seed=8, status="diverged"), "a-sweep") as row:  # it has no metrics.jsonl
        row(1, {"train/loss": 1.0, "validation/accuracy": 0.5})
        row(2, {"train/loss": math.nan})
    store.run(rank=1, seed=9)
    made = curves.plot(group_of(store), "c")
    assert made is not None
    assert "6 of 10 runs are shown" in made.notes[0]
    assert "thinned" in made.notes[1]
    assert "no steps that can be read" in made.notes[2]
    of_diverged = made.table[made.table["seed"] == 8]
    assert list(of_diverged["train/loss"].fillna(-1)) == [1.0, -1.0]
    [scored] = [view for view in made.views if view.name == "validation/accuracy"]
    assert scored.traces[-1]["name"].startswith("a guess among the classes")
    lengths = made.table.groupby("run_id").size()
    assert lengths.max() == curves.POINTS
    assert "lora r = 1 (diverged)" in set(made.table["arm"])
    first = made.table[made.table["seed"] == 0]["step"]
    assert (first.min(), first.max()) == (1, 500)


def test_an_arm_that_noise_tells_nothing_of_has_no_view_beside_others(store: Store) -> None:
    for rank in (None, 1, 2):
        store.run(rank=rank)
    table = FIGURES["effective_rank"].table(group_of(store)).assign(best=True)
    assert [view.name for view in layers.of_layers(table)] == ["full fine-tuning", "LoRA r = 2"]
    [only] = layers.of_layers(table[table["rank"] == 1])
    assert only.name == "LoRA r = 1"


def test_scores_on_validation_are_kept_where_a_curve_is_thinned() -> None:
    history = [{"step": i} | ({"validation/accuracy": 0.5} if i % 100 == 7 else {}) for i in range(1000)]
    kept = curves._thinned(history)
    assert len(kept) == curves.POINTS
    assert sum("validation/accuracy" in row for row in kept) == 10


def test_of_many_groups_the_largest_have_figures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_page, "DRAWN", 1)
    for rank in (1, 2):
        store.run(rank=rank)
    store.run(rank=1, train={"epochs": 2})
    assert report(store) == 0
    assert len({key.rpartition("-")[0] for key in specifications(written(store))}) == 1
    assert "1 more groups have no figures on this page" in written(store)


def test_a_thinned_spectrum_keeps_its_ends() -> None:
    from analysis.report.spectra import POINTS, thinned

    rows = pd.DataFrame({"i": range(1, 5001)})
    kept = thinned(rows)["i"].tolist()
    assert (kept[0], kept[-1]) == (1, 5000)
    assert len(kept) <= 1.5 * POINTS
    assert kept[:9] == list(range(1, 10))
    assert len(thinned(rows[:50])) == 50


def test_colours_are_legible_on_the_dark_page() -> None:
    from analysis import style

    for look in plot.looks(len(style.MARKERS)):
        assert dark.contrast(dark.lightened(look["line"]["color"]), dark.BACKGROUND) >= dark.CONTRAST
    found = dark.colours_of([{"line": {"color": plot.INK}, "colorscale": [[0, "#000000"]], "y": ["#000000"]}])
    assert found == {plot.INK: dark.lightened(plot.INK)}


# ---- studies


@pytest.fixture
def of_study_page(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def write(name: str, *words: str) -> tuple[int, str]:
        code = main(["report", "--study", name, "--out", str(tmp_path / "s.html"), *words])
        return code, (tmp_path / "s.html").read_text(encoding="utf-8")

    return write


def test_a_study_has_its_verdict_with_intervals_its_figures_and_its_runs(
    of_study_page: Callable[..., tuple[int, str]], published: dict[str, Records]
) -> None:
    from analysis.study.verdict import answer

    code, text = of_study_page("planted")
    assert code == 0
    assert answer(published["planted"]) in text.replace("\xa0", " ")
    assert "Low rank: supported on planted rank 4" in text
    assert re.search(r"\d\.\d{4} \[-?\d\.\d{4},\xa0-?\d\.\d{4}\]", text)
    assert text.count("<tr><td>") >= len(published["planted"].lines)
    shown = {key.removeprefix("figures-") for key in specifications(text)}
    assert {"answer", "cost", "spectral", "functional", "trials", "layers", "spectra"} <= shown
    assert "<th>r*</th>" in text


def test_every_interactive_figure_of_a_study_says_what_its_bars_are() -> None:
    assert set(of_study.VIEWS) - set(study_page.BARS) == {"answer", "cost", "trials"}
    assert set(study_page.BARS) <= set(of_study.VIEWS)


def test_what_the_bars_of_a_figure_are_is_said_and_records_elsewhere_are_named(
    of_study_page: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for path in RECORDS.glob("planted.*"):
        shutil.copy(path, folder)
    code, text = of_study_page("planted", "--records", str(folder))
    assert code == 0
    typed = [html.unescape(line) for line in re.findall(r"python -m analysis [^<]*", text)]
    own = [line for line in typed if "planted" in line]
    assert own
    assert all(f"--records {folder}" in line for line in own), own
    for said in (
        "LoRA: test, 95 % intervals over seeds and test examples",
        "grey band of full fine-tuning: mean and 95 % interval over seeds",
        "from the lowest to the highest seed",
    ):
        assert said in text.replace("\xa0", " ")


def test_a_study_that_is_not_fair_has_its_faults_and_no_figures(
    of_study_page: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for path in RECORDS.glob("planted.*"):
        content = path.read_bytes()
        if path.name == "planted.jsonl":
            content = content.replace(b'"status":"completed"', b'"status":"COMPLETED"', 1)
        (folder / path.name).write_bytes(content)
    code, text = of_study_page("planted", "--records", str(folder))
    assert code == 1
    assert "None: the comparison breaks its own protocol, or is not complete." in text
    assert "planted.jsonl, line 1" in text
    assert not specifications(text)
    assert f"python -m analysis study planted --records {folder} --allow-unfair" in text


# ---- wrong inputs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runs", "{tmp}/none"], "there is no folder {tmp}/none; type python -m lorax_lab.run"),
        (["--runs", "{tmp}/empty"], "there is no run in {tmp}/empty; type python -m lorax_lab.run"),
        (["--study", "rank_swep"], "--study rank_swep: there are no records of it"),
        (["--study", "rank_swep"], "did you mean 'rank_sweep'"),
        (["--study", "x", "--runs", "{tmp}"], "--runs and --study exclude each other"),
        (["--study", "x", "--records", "{tmp}/empty"], "there are no records of a study in {tmp}/empty"),
        (["--records", "{tmp}"], "--records {tmp} goes with --study"),
        (["--out", "{tmp}/folder.html"], "--out {tmp}/folder.html is a folder; name a file in it"),
        (["--out", "{tmp}/page.txt"], "--out {tmp}/page.txt is no name of a page; name a file that ends in .html"),
        (["--out", "{tmp}/file/page.html"], "{tmp}/file is a file; name another place"),
        (["--out", "/proc/page.html"], "/proc"),
    ],
)
def test_wrong_inputs_are_refused_in_a_line_and_nothing_is_written(
    words: list[str], says: str, study: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("x")
    typed = [word.replace("{tmp}", str(tmp_path)) for word in words]
    typed += [] if "--out" in typed else ["--out", str(tmp_path / "page.html")]
    typed += [] if {"--runs", "--study", "--records"} & set(typed) else ["--runs", str(study.folder)]
    assert main(["report", *typed]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says.replace("{tmp}", str(tmp_path)) in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("**/*.html/*")) + [path for path in tmp_path.glob("*.html") if path.is_file()]


def test_a_folder_that_is_not_there_is_made(study: Store, tmp_path: Path) -> None:
    assert report(study, "--out", str(tmp_path / "new" / "page.html")) == 0
    assert (tmp_path / "new" / "page.html").is_file()


@pytest.mark.parametrize("name", ["cost", "functional", "trials"])
def test_every_view_of_scores_has_the_line_of_one_answer_for_every_input(
    published: dict[str, Records], name: str
) -> None:
    """As the figure that matplotlib draws has it."""
    table = STUDY_FIGURES[name].table(published["rank_sweep"])
    views = [view for view in of_study.VIEWS[name](table) if view.layout["yaxis"]["title"]["text"].startswith("score")]
    found = [{t["name"]: t["y"][0] for t in view.traces}.get("the majority class", 0.0) for view in views]
    wanted = list(table.drop_duplicates("task")["constant"])
    assert len(wanted) > 1
    assert found == pytest.approx(wanted)


def test_the_scores_of_a_study_are_those_of_the_table(published: dict[str, Records]) -> None:
    table = STUDY_FIGURES["cost"].table(published["rank_sweep"])
    rows = table[table["task"] == "sarcasm"]
    [view] = [view for view in of_study.of_cost(table) if view.name == "score, sarcasm"]
    lora, full = view.traces[:2]
    assert list(lora["y"]) == pytest.approx([*rows[rows["rank"].notna()]["test"]], abs=1e-6)
    [reference] = rows[rows["matches"].isna()].to_dict("records")
    assert list(full["y"]) == pytest.approx([reference["test"]] * 2, abs=1e-6)
    [band] = view.layout["shapes"]
    assert [band["y0"], band["y1"]] == pytest.approx([reference["test_low"], reference["test_high"]], abs=1e-6)


def test_what_one_answer_for_every_input_scores_is_a_level_where_the_table_knows_it() -> None:
    import pandas as pd

    from analysis.report.plot import constant_level

    table = pd.DataFrame({"k": [1, 2], "constant": [0.6, 0.6], "constant_is": ["the majority class"] * 2})
    (trace,) = constant_level(table, (0.0, 1.0))
    assert (trace["name"], list(trace["y"])) == ("the majority class", [0.6, 0.6])
    assert constant_level(table[["k"]], (0.0, 1.0)) == []

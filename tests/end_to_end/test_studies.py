"""Studies carried out: what is missing is run by ordinary sweeps, what is recorded is not, and the rest is said."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from synthetic import PROTOCOL, declaration, line, publish, shared, study

from analysis.__main__ import main as analyse
from analysis.study import comparison, update
from analysis.study.figures import FIGURES
from analysis.study.records import load
from analysis.study.validator import breaches
from experiments import command, rank_sweep, replay
from experiments.command import main
from experiments.study import RECORDS, Plan, Progress, studies, study_of, sweeps, texts_of, trained_lines, with_workers
from experiments.study_records import StudyRecords, check_arms, settings_of
from lorax_lab.afterwards.similarities import similarities
from lorax_lab.errors import ConfigError
from lorax_lab.study.declaration import decisive, read_declaration, write_declaration
from lorax_lab.study.protocol import Arm, Cell
from lorax_lab.study.published import SHARED, read_lines
from lorax_lab.study.tables import read_table, write_table

ROOT = Path(__file__).parents[2]
PLAN = Plan(
    protocol=PROTOCOL,
    factors={"task": {"movie_reviews": ("task=movie_reviews",)}},
    common=("task.train_examples=300",),
    final={"full": ("measure=controls",)},
)

TEXTS = {"study": "experiments.made", "question": "?", "prediction": "!", "cost": "None."}
NEW_ARM = Arm("LoRA r=8, alpha 64", ("method=lora", "rank=8", "method.alpha=64"), 1e-3)
TWO_TASKS = {"task": {"movie_reviews": ("task=movie_reviews",), "tweets": ("task=tweets",)}}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are named by their words, so that nothing has to be composed."""
    monkeypatch.setattr("experiments.study._run_id", lambda words: " ".join(words))


def line_of(cell: Cell) -> dict[str, Any]:
    """A run that is best in the middle of its grid."""
    return line(cell, 0.8 - abs(PROTOCOL.step(cell.arm, cell.rate) - 1))


def recorded(cells: list[Cell]) -> Any:
    return {cell: line_of(cell) for cell in cells}.get


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("task", ["movie_reviews", "tweets"])
def test_ranks_share_a_sweep_only_where_nothing_else_tells_them_apart(task: str) -> None:
    """A run that is recorded already parts its rank from the others."""
    plan = dataclasses.replace(PLAN, factors=TWO_TASKS)
    missing = Progress(plan, recorded([])).missing
    hole = next(cell for cell in missing if cell.arm == "LoRA r=1" and cell.condition == task)
    for cells in (missing, [cell for cell in missing if cell != hole]):
        ran = []
        for words in sweeps(plan, cells):  # a run for each choice of values
            parts = [(key, values.split(",")) for key, _, values in (word.partition("=") for word in words)]
            ran += map(frozenset, itertools.product(*([f"{key}={value}" for value in values] for key, values in parts)))
        assert len(ran) == len(cells)
        assert set(ran) == {frozenset(plan.overrides(cell)) for cell in cells}


@pytest.fixture
def older(tmp_path: Path, named: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a study whose every run was published by an older version of the code, under other names; nothing of it
    may be trained."""
    monkeypatch.setattr("experiments.command.run_together", lambda sweeps, *_, **__: pytest.fail(f"trained: {sweeps}"))
    trials = Progress(PLAN, recorded([])).missing
    cells = [*trials, *Progress(PLAN, recorded(trials)).missing]
    study = tmp_path / "records" / "made"
    publish(study, map(line_of, cells))
    declared = declaration(PROTOCOL, ("movie_reviews",), common=PLAN.common, final=dict(PLAN.final))
    write_declaration(study, dataclasses.replace(declared, texts=TEXTS))
    return ["--runs", str(tmp_path / "runs"), "--records", str(study.parent)]


def made(plan: Plan = PLAN) -> Any:
    texts = {"QUESTION": "?", "PREDICTION": "!", "COST": "None.", "__name__": "experiments.made"}
    return SimpleNamespace(**texts, plan=lambda: plan)


def test_a_published_study_stays_complete_whatever_became_of_the_code(
    older: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is composed, and none of its files is prepared."""
    monkeypatch.setattr("experiments.study._run_id", lambda words: pytest.fail(f"composed {words}"))
    written = {path: path.read_bytes() for path in (tmp_path / "records" / "made").iterdir()}
    for words in (older, [*older, "--dry-run"]):
        assert main(made(), words) == 0
        assert "33 runs recorded, 0 missing" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "records" / "made").iterdir()} == written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"common": ("task.train_examples=500",)}, "was task.train_examples=300 and is task.train_examples=500"),
        ({"protocol": dataclasses.replace(PROTOCOL, margin=0.05)}, "margin was 0.02 and is 0.05"),
        ({"protocol": dataclasses.replace(PROTOCOL, arms=PROTOCOL.arms[:2])}, "the arm LoRA r=8"),
        ({"factors": {"task": {"movie_reviews": ("task=tweets",)}}}, "was task=movie_reviews and is task=tweets"),
    ],
)
def test_what_was_declared_before_the_runs_may_not_change(
    change: dict[str, Any], said: str, older: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(made(dataclasses.replace(PLAN, **change)), older) == 2
    assert said in capsys.readouterr().err


def test_a_study_grows_and_only_its_new_cells_run(
    older: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("experiments.command.run_together", lambda sweeps, *_, **__: started.extend(sweeps) or -9)
    monkeypatch.setattr("experiments.command.to_check", lambda progress, of_cell: [])
    monkeypatch.setattr("experiments.study_records.moved_settings", lambda before, now: [])
    protocol = dataclasses.replace(PROTOCOL, arms=(*PROTOCOL.arms, NEW_ARM))
    assert main(made(dataclasses.replace(PLAN, protocol=protocol, factors=TWO_TASKS)), older) == 1
    said = capsys.readouterr().out
    assert "33 runs recorded, 30 missing and more once rates are chosen" in said
    assert said.count("ended by signal 9; the same command goes on") == 1
    assert all("method.alpha=64" in command or "task=tweets" in command for command in started)
    folder = tmp_path / "records" / "made"
    (entry,) = read_declaration(folder).history
    assert entry["added"] == {"arms": ["LoRA r=8, alpha 64"], "task": ["tweets"]}
    assert len(read_lines(folder)) == 33


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"common": ("seed=1",)}, "every run fixes seed=1"),
        ({"common": ("train.precision=auto",)}, "train.precision=auto"),
        ({"final": {"full": ("train.epochs=2",)}}, "final of full has train.epochs=2"),
        ({"final": {"fall": ("measure=controls",)}}, "name arms"),
    ],
)
def test_a_plan_that_sets_what_the_protocol_chooses_is_refused(change: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_arms(dataclasses.replace(PLAN, **change))


def test_arms_that_no_record_can_tell_apart_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = Arm("LoRA r=8 again", ("method=lora", "rank=8", "method.alpha=16"), 1e-3)
    plan = dataclasses.replace(PLAN, protocol=dataclasses.replace(PROTOCOL, arms=(*PROTOCOL.arms, same)))
    where = ["--runs", str(tmp_path), "--records", str(tmp_path), "--dry-run"]
    assert main(made(plan), where) == 2
    said = capsys.readouterr().err
    assert "movie_reviews / LoRA r=8 and movie_reviews / LoRA r=8 again have the same settings" in said
    tables = {"a": ("task=local", "task.path=a.csv"), "b": ("task=local", "task.path=b.csv")}
    columns = ("task.text=text", "task.label=label")
    plan = dataclasses.replace(PLAN, factors={"task": {k: (*v, *columns) for k, v in tables.items()}})
    with pytest.raises(ConfigError, match=r"task\.name=NAME"):
        settings_of(plan)
    named = {key: (*overrides, *columns, f"task.name={key}") for key, overrides in tables.items()}
    assert len(settings_of(dataclasses.replace(PLAN, factors={"task": named}))) == 6


def test_factors_make_a_grid_and_only_picks_its_levels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = {"300": ("task.train_examples=300",), "100": ("task.train_examples=100",)}
    plan = dataclasses.replace(PLAN, factors=TWO_TASKS | {"size": sizes}, common=())
    assert list(plan.conditions) == [
        "movie_reviews, 300", "movie_reviews, 100", "tweets, 300", "tweets, 100",
    ]  # fmt: skip
    where = ["--runs", str(tmp_path), "--records", str(tmp_path), "--dry-run"]
    assert main(made(plan), [*where, "--only", "task=tweets", "size=100", "tracking=disabled"]) == 0
    out = capsys.readouterr().out
    assert "0 runs recorded, 18 missing and more once" in out
    commands = [text for text in out.splitlines() if text.startswith("python -m")]
    assert len(commands) == 2
    assert all(word in text for text in commands for word in ("task=tweets", "train_examples=100", "tracking=disabled"))


def test_an_extended_grid_may_not_choose_a_published_rate_anew(older: list[str], capsys: Any, tmp_path: Path) -> None:
    """The new arm is best at its highest rate, so every arm's grid is extended, and all are better there."""
    protocol = dataclasses.replace(PROTOCOL, arms=(*PROTOCOL.arms, NEW_ARM))
    plan, task = dataclasses.replace(PLAN, protocol=protocol), "movie_reviews"
    folder = tmp_path / "records" / "made"
    lines = read_lines(folder)
    trials = [t for t in protocol.trials(task, range(4)) if t.arm == NEW_ARM.name or protocol.step(t.arm, t.rate) == 3]
    publish(folder, [*lines, *(line(t, 0.9 + t.rate, protocol) for t in trials)])
    cells = {arm.name: Cell("final", task, arm.name, 1e-3, 0) for arm in protocol.arms}
    settings = {(task, arm): decisive(line(cell, 0.5, protocol)["config"]) for arm, cell in cells.items()}
    grown = declaration(protocol, (task,), common=PLAN.common, final=dict(PLAN.final), settings=settings)
    write_declaration(folder, dataclasses.replace(grown, texts=TEXTS))
    assert main(made(plan), [*older, "--dry-run"]) == 2
    assert "the extended grid now chooses" in capsys.readouterr().err


@pytest.mark.usefixtures("named")
def test_a_study_may_be_declared_ahead_so_that_it_shares_the_runs_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path)]
    monkeypatch.setattr("experiments.command.run_together", lambda sweeps, *_, **__: pytest.fail(f"trained: {sweeps}"))
    monkeypatch.setattr("time.strftime", lambda *_: "2026-11-24T00:00:00Z")
    assert main(made(), [*where, "--declare"]) == 0
    assert read_declaration(tmp_path / "made").written == "2026-11-24T00:00:00Z"
    trials = Progress(PLAN, recorded([])).missing
    later = StudyRecords(tmp_path / "made", tmp_path / "runs", PLAN, TEXTS)
    monkeypatch.setattr(later, "line", recorded(trials[:2]))  # the other study's
    assert len(later.progress(lambda cell: True).missing) == len(trials) - 2


@pytest.mark.usefixtures("named")
def test_records_whose_writing_was_cut_short_are_written_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell, *_), folder = Progress(PLAN, recorded([])).missing, tmp_path / "made"
    records = StudyRecords(folder, tmp_path / "runs", PLAN, TEXTS)
    monkeypatch.setattr(records, "line", recorded([cell]))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lorax_lab.study.published.write_lines", stopped)
        with pytest.raises(KeyboardInterrupt):
            records.publish([cell])
    records.publish([cell])
    assert len(read_lines(folder)) == 1


STUDIES = studies()


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_declares_cells_that_lines_tell_apart_and_figures_that_there_are(name: str) -> None:
    study = study_of(name)
    plan = study.plan()
    assert all(texts_of(study, name).values())
    assert len(settings_of(plan)) == len(plan.conditions) * len(plan.protocol.arms)
    assert set(plan.figures or ()) <= set(FIGURES)
    assert plan.control_of in {None, *STUDIES}


@pytest.mark.parametrize("name", [name for name in STUDIES if (RECORDS / name).is_dir()])
def test_every_published_study_is_whole_and_of_the_plan_that_stands(name: str, tmp_path: Path) -> None:
    """Its lines belong to cells, no two of which are alike, nothing is missing, and a module plans what is declared."""
    study = study_of(name)
    plan = study.plan()
    texts = texts_of(study, name)
    records = StudyRecords(RECORDS / name, tmp_path, plan, texts)
    progress = records.progress(lambda cell: True)
    assert not progress.missing
    assert len(progress.cells) == len(records.published)
    assert records.before.control_of == plan.control_of
    assert texts["prediction"] == records.before.texts["prediction"].strip()
    cells = records.before.settings
    assert all([pair for pair in cells if not records.before.unlike(pair, cells[own])] == [own] for own in cells)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "tsk=sarcasm"], "did you mean 'task'"),
        (["--only", "task=sarcsm"], "did you mean 'sarcasm'"),
        (["rank=3"], "a study's runs are fixed"),
    ],
)
def test_wrong_words_are_answered(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(rank_sweep, [*words, "--dry-run"]) == 2
    assert said in capsys.readouterr().err


def tiny_study(words: list[str]) -> Any:
    """Of two arms on the tiny table; `words` are those of its runs."""
    data = tuple(word for word in words if word.startswith("task"))
    arms = (Arm("full", ("method=full",), 1e-3), Arm("LoRA r=2", ("method=lora", "rank=2"), 1e-2))
    plan = dataclasses.replace(
        PLAN,
        protocol=dataclasses.replace(PROTOCOL, arms=arms, rates=2, selection_seeds=(100,), margin=0.05),
        factors={"task": {"local": data}},
        common=tuple(word for word in words if word.startswith(("model=", "train.device="))),
        afterwards={"similarities": lambda runs: similarities(runs, {"two seeds": ("full", "full")})},
    )
    texts = {"QUESTION": "Does it run?", "PREDICTION": "It does.", "COST": "A minute.", "__name__": "experiments.tiny"}
    return SimpleNamespace(**texts, plan=lambda: plan)


@pytest.mark.slow
def test_a_tiny_study_from_its_first_trial_to_its_verdict(
    small_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    study = tiny_study(small_words)
    words = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records"), "tracking=disabled"]
    table = tmp_path / "records" / "tiny" / "similarities.parquet"
    assert main(study, [*words, "--only", "stage=trial"]) == 0
    assert main(study, [*words, "--only", "seed=0"]) == 0
    assert not table.exists()  # a condition is measured whole
    assert main(study, [*words, "--only", "task=local"]) == 0
    assert table.exists()
    assert main(study, words) == 0
    assert "0 missing" in capsys.readouterr().out
    records = load(tmp_path / "records" / "tiny")
    found = [breach for breach in breaches(records) if "the edge" not in breach]  # of so few rates
    assert found == []
    measured = records.rows["similarities"]
    assert {(row["condition"], row["pair"], row["side"]) for row in measured} == {
        ("local", "two seeds", side) for side in ("row", "column")
    }
    assert len({row["matrix"] for row in measured}) == 12
    assert {len(row["each"]["8,8"]) for row in measured} == {10}
    assert update.is_on_test(records, "local")
    assert list(update.gains(records, "local", "shrunk")) == [50, 70, 80, 90]
    drawn = FIGURES["functional"].table(records)
    assert {"cut", "remainder", "random_at_norm", "bottom_at_norm", "scaled", "gaussian"} == set(drawn["part"])
    # the store is lost: what is published still counts, and nothing is trained again
    (tmp_path / "runs").rename(tmp_path / "lost")
    assert main(study, words) == 0
    said = capsys.readouterr().out
    assert "[1/" not in said
    assert f"if the plan now asks for other rows, first remove {tmp_path / 'records' / 'tiny'}" in said
    # a run is taken out: it alone is trained again, after one of each arm if the code is another version
    folder, lines = tmp_path / "records" / "tiny", records.lines
    publish(folder, lines[1:])
    assert main(study, words) == 0
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 1
    assert {found["run_id"] for found in load(folder).lines} == {found["run_id"] for found in lines}
    # a published run trained again has the same bits here
    cell, published = next((records.cell(found), found) for found in lines if found["config"]["measure"] != "trial")
    again = replay.train_again(study.plan(), cell, published, tmp_path / "again", [])
    assert replay.moved(published, again) == []
    assert replay.compared(published, again)["equal_answers"] == 1


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The records of two synthetic studies."""
    tasks = ("reviews", "headlines")
    made = study(tasks=tasks)
    for name in ("rank_sweep", "other"):
        publish(tmp_path / name, made.lines, made.declared)
        write_table(tmp_path / name / SHARED, shared(tasks).to_dict("records"))
    return tmp_path


def judged(folder: Path, command: str = "verdict") -> int:
    where = ["--records", str(folder), "--out", str(folder / "out"), "--verdict", str(folder / "V.md")]
    return analyse([command, *where])


def test_an_unfair_comparison_gets_no_verdict_and_no_figures(published: Path, capsys: Any) -> None:
    shutil.rmtree(published / "other")
    lines = read_lines(published / "rank_sweep")
    publish(published / "rank_sweep", [*lines[:-1], lines[-1] | {"versions": {"torch": "3"}}])
    assert [judged(published, command) for command in ("verdict", "study")] == [1, 1]
    assert "numeric settings differ" in (published / "out" / "rank_sweep" / "VERDICT.md").read_text()
    assert "supported" not in (published / "V.md").read_text()
    assert "numeric settings differ" in capsys.readouterr().out
    assert not (published / "out" / "rank_sweep" / "answer.png").exists()


def test_the_gains_over_any_arm_are_printed_and_nothing_is_written(published: Path, capsys: Any) -> None:
    words = ["study", "rank_sweep", "--records", str(published), "--against"]
    assert analyse([*words, "LoRA r=8"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " full " in line]
    gains = comparison.gains(load(published / "rank_sweep"), "reviews")
    assert [float(row[2]) for row in rows] == pytest.approx([-gains["LoRA r=8"].mean] * 2, abs=1e-4)
    assert not (published / "out").exists()
    assert analyse([*words, "LoRA r=9"]) == 2
    assert "did you mean 'LoRA r=8'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("threads", "workers"), [(None, "workers=8"), (1, "workers=8"), (8, "workers=1"), (16, "workers=1")]
)
def test_a_studys_runs_keep_their_threads(threads: int | None, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorax_lab.record import provenance

    monkeypatch.setattr(provenance, "hardware", lambda: {"threads": 8})
    lines = [{"hardware": {"threads": threads}}] if threads else []
    assert with_workers(["tracking=disabled"], lines) == ["tracking=disabled", workers]
    assert with_workers(["workers=3"], lines) == ["workers=3"]
    assert with_workers(["hydra/launcher=joblib"], lines) == ["hydra/launcher=joblib"]


def test_every_flipped_bit_of_a_tables_values_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "values.parquet"
    write_table(path, [{"losses": np.random.default_rng(0).normal(size=2000).astype("f4")}])
    whole = path.read_bytes()
    for place in range(500, 7500, 500):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((OSError, ValueError)):
            read_table(path)


@pytest.mark.parametrize("name", ["declaration.json", "runs.parquet", SHARED])
def test_a_damaged_study_is_named_with_what_restores_it(
    name: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published / "rank_sweep" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    assert judged(published) == 2
    said = capsys.readouterr().err
    assert "rank_sweep cannot be read: " in said
    assert f"restore it: git checkout -- {published / 'rank_sweep'}" in said
    assert not (published / "out").exists()


# ---- published runs trained again


@pytest.mark.parametrize(("score", "has_moved"), [(0.8, False), (0.800001, False), (0.801, True), (None, True)])
def test_scores_move_beyond_rounding(score: float | None, has_moved: bool) -> None:
    run = line(Cell("final", "reviews", "LoRA r=8", 2e-3, 0), 0.8)
    assert bool(replay.moved(run, run | {"metrics": run["metrics"] | {"test/accuracy": score}})) is has_moved


@pytest.mark.parametrize(
    ("code", "missing", "checked"),
    [
        ("c" * 64, "final reviews", ""),
        ("another", "final reviews", "final"),
        ("another", "trial reviews", "trial"),
        ("another", "final tweets", ""),
        ("another", "", ""),
    ],
)
def test_a_run_of_what_new_ones_are_compared_with_is_checked_where_the_code_is_another(
    code: str, missing: str, checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.replay.code_sha256", lambda: code)
    monkeypatch.setattr("experiments.replay.versions", lambda of_method: {"torch": "2"})
    monkeypatch.setattr("experiments.replay.hardware", lambda: {"device": "cpu", "threads": 8})
    records = study()
    of_cell = {cell: found for found in records.lines if (cell := records.cell(found))}
    plan = dataclasses.replace(PLAN, factors={"task": {"reviews": (), "tweets": ()}})
    cells = [Cell(*missing.split(), "full", 1e-4, 9)] if missing else []
    found = [cell for cell, _ in replay.to_check(cast(Any, SimpleNamespace(plan=plan, missing=cells)), of_cell)]
    arms = {"": [], "trial": ["full"], "final": [arm.name for arm in PROTOCOL.arms]}[checked]
    assert sorted(cell.arm for cell in found) == sorted(arms)
    assert {cell.stage for cell in found} <= {checked}


def test_recorded_runs_of_a_stage_are_trained_again_when_its_runs_are_first_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial, final = Cell("trial", "reviews", "full", 1e-4, 100), Cell("final", "reviews", "full", 1e-4, 0)
    steps = [
        SimpleNamespace(missing=cells, plan=PLAN, cells=[], wanted=None) for cells in ([trial], [trial, final], [])
    ]
    nothing, checked, begun = (lambda *_: None), list[list[str]](), iter(steps)
    places = {"of_cell": {}, "runs": Path("runs"), "folder": Path("made")}
    passed = dict.fromkeys(("check", "declare", "publish"), nothing)
    records = SimpleNamespace(progress=lambda _: next(begun), **places, **passed)
    fakes = {
        "to_check": lambda progress, of_cell: [(cell, {}) for cell in progress.missing],
        "check_versions": lambda plan, pairs, runs, launch: checked.append([cell.stage for cell, _ in pairs]),
        "sweeps": lambda plan, cells: [[cell.stage] for cell in cells],
        "run_together": lambda *_, **__: 0,
        "_show": nothing,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(command, name, fake)
    assert command._run_missing(cast(Any, records), cast(Any, steps[0]), []) == 0
    assert checked == [["trial"], ["final"]]


def test_a_sweep_is_started_unless_all_its_runs_are_recorded_and_each_must_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, ends, started = [tmp_path / "one", tmp_path / "two"], {"one": "completed"}, list[list[str]]()

    def run_sweep(command: list[str]) -> int:
        started.append(command)
        for name in ends:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "record.json").touch()
        return 0

    def line_of(folder: Path) -> dict[str, Any]:
        if not folder.is_dir():
            raise FileNotFoundError
        return {"run_id": folder.name, "status": ends[folder.name], "reason": "nan"}

    def lines() -> list[dict[str, Any]]:
        return trained_lines(["seed=0,1"], folders, ["workers=2"], "made")

    monkeypatch.setattr("experiments.study.run_sweep", run_sweep)
    monkeypatch.setattr("lorax_lab.study.published.line_of", line_of)
    monkeypatch.setattr(
        "experiments.study.status_of", lambda folder: ends.get(folder.name) if folder.is_dir() else None
    )
    with pytest.raises(ConfigError, match=r"^two did not end well"):
        lines()
    ends["two"] = "completed"
    assert [line["run_id"] for line in lines()] == ["one", "two"]
    assert lines() == lines()
    assert [command[3:4] + command[-2:] for command in started[1:]] == [["seed=0,1", "workers=2", "-m"]]
    ends["two"] = "killed"
    with pytest.raises(ConfigError, match=r"^two killed: nan$"):
        lines()
    assert len(started) == 3  # tried again


def test_a_published_score_that_is_not_the_runs_own_is_seen(
    older: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "records" / "made", tmp_path / "replay.csv"
    own = {found["run_id"]: found for found in read_lines(folder)}
    planted = next(found["run_id"] for found in own.values() if found["config"]["measure"] != "trial")
    other = own[planted] | {"metrics": own[planted]["metrics"] | {"test/accuracy": 0.25}}
    publish(folder, list((own | {planted: other}).values()))
    monkeypatch.setattr(replay, "RECORDS", folder.parent)
    monkeypatch.setattr(replay, "plan_of", lambda name: PLAN)
    monkeypatch.setattr(replay, "train_again", lambda plan, cell, found, *_: own[found["run_id"]])
    assert replay.main(["15", "--study", "made", "--out", str(out)]) == 0
    differences = pd.read_csv(out).set_index("run")["difference"]
    assert len(differences) == 15
    assert differences[differences != 0].to_dict() == {
        planted: pytest.approx(own[planted]["metrics"]["test/accuracy"] - 0.25)
    }


def test_the_page_of_studies_counts_the_last_outcome() -> None:
    outcome = pd.read_csv(replay.OUTCOME)
    counted = f"**{(outcome['equal_answers'] == 1).sum()} of {len(outcome)} "
    assert counted in (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")

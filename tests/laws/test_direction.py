"""A score of which lower is better: its record, its line, its variants and the closing table know the direction."""

from pathlib import Path

from recorded import run_record

from analysis.figures import accuracy_vs_rank
from analysis.groups import load
from lorax_lab.launch.table import score_name
from lorax_lab.record.direction import labelled, of_line
from lorax_lab.record.record import read_record, write_record
from lorax_lab.study.published import line_of


def test_a_record_and_its_published_line_carry_the_direction(higher: bool, tmp_path: Path) -> None:
    config = {"model": "tiny", "task": {"name": "local"}, "train": {}, "measure": "trial"}
    record = run_record(higher_is_better=higher, config=config)
    write_record(tmp_path, record)
    assert read_record(tmp_path).completed.higher_is_better is higher
    line = line_of(tmp_path)
    assert line.get("higher_is_better") is (None if higher else False)  # an older line stays as it is
    assert of_line(line) is higher


def test_the_best_variant_of_a_rank_and_the_closing_table_know_the_direction(higher: bool, tmp_path: Path) -> None:
    for alpha, score in ((8.0, 0.4), (16.0, 0.6)):
        run = f"run-{alpha:g}"
        method = {"name": "lora", "alpha": alpha}
        scores = {"validation/nats": score, "test/nats": score}
        config = run_record().config | {"method": method}
        write_record(
            tmp_path / run, run_record(run, config=config, metric="nats", metrics=scores, higher_is_better=higher)
        )
    (group,) = load(tmp_path).groups
    assert group.best["run_id"].tolist() == ["run-16" if higher else "run-8"]
    table = accuracy_vs_rank.table(group)
    assert ("direction" in table) is not higher
    assert score_name(read_record(tmp_path / "run-8")) == labelled("test nats", higher)

"""A published line or declaration whose parts are of other types is damaged and named; none ends in a traceback."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from lorax_lab.study.declared_shapes import Declared
from pydantic import ValidationError
from synthetic import study

from analysis.study import page as study_page
from analysis.study.records import Records
from analysis.study.validator import breaches
from lorax_lab.record.record import DamagedRecord
from lorax_lab.record.shapes import Line, Part, check_line
from lorax_lab.record.sums import write_summed
from lorax_lab.study.answers import check_answers
from lorax_lab.study.declaration import DamagedDeclaration, read_declaration, to_content
from lorax_lab.study.published import read_lines, write_lines

WRONG: tuple[Any, ...] = (None, "x", -1, [], {})
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def records() -> Records:
    return study()


def changed(line: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The line with another value at a place."""
    made = copy.deepcopy(line)
    part: Any = made
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return made


def places(part: Any, at: Place = ()) -> Iterator[Place]:
    """Where something stands in a line; of a list the first and the last, of the matrices one."""
    keys: list[Any] = [*part] if isinstance(part, dict) else [0, -1] if isinstance(part, list) and part else []
    for key in keys[:1] if at in (("matrices",), ("gaussian",)) else keys:
        yield (*at, key)
        yield from places(part[key], (*at, key))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("rank",), "8", "rank: Input should be a valid integer, and not '8'"),
        (("rank",), -1, "rank: Input should be greater than or equal to 1, and not -1"),
        (("seed",), True, "seed: Input should be a valid integer, and not True"),
        (("git",), None, "git: Input should be an object, and not None"),
        (("written",), "yesterday", "written: String should match pattern"),
        (("status",), "done", "status: Input should be 'completed', 'diverged'"),
        (("config", "task"), None, "config.task: Input should be an object, and not None"),
        (("config", "train", "learning_rate"), "1e-3", "config.train.learning_rate: Input should be a valid number"),
        (
            ("config", "method", "target_modules"),
            "query",
            "config.method.target_modules: Input should be a valid array",
        ),
        (("metrics", "test/accuracy"), "high", "metrics.test/accuracy: Input should be a valid number, and not 'high'"),
        (("inputs", "examples", "test"), 1.5, "inputs.examples.test: Input should be a valid integer"),
        (("memory",), [], "memory: Input should be an object, and not []"),
        (("functional", 0, 3), "all", "functional.0.3: Input should be a valid number, and not 'all'"),
        (("hardware",), {}, "hardware.threads: Field required"),
        (("time", "total_seconds"), -5, "time.total_seconds: Input should be greater than or equal to 0, and not -5"),
        (("sigma",), 3, "sigma: Input should be an object, and not 3"),
    ],
)
def test_a_part_of_another_type_is_named(
    records: Records, tmp_path: Path, place: Place, value: Any, message: str
) -> None:
    whole = next(line for line in records.lines if "functional" in line)
    path = tmp_path / "made.jsonl"
    write_lines(path, [changed(whole | {"sigma": {}}, place, value)])
    lines, damages = read_lines(path)
    assert lines == []
    assert len(damages) == 1
    assert damages[0].startswith(f"made.jsonl, line 1: {message}")


def models(part: type[Part]) -> Iterator[type[Part]]:
    """A part, and those that it is made of."""
    yield part
    for field in part.model_fields.values():
        for inner in of_parts(field.annotation):
            if inner is not part:
                yield from models(inner)


def of_parts(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in get_args(annotation):
        yield from of_parts(inner)


@pytest.mark.parametrize("part", dict.fromkeys((*models(Line), *models(Declared))), ids=lambda part: part.__name__)
def test_no_key_takes_every_type(part: type[Part]) -> None:
    """Of the five wrong values at least three are refused in the place of each key, whatever else is there."""
    for key in part.model_fields:
        if part.model_fields[key].annotation in (Any, dict[str, Any]):
            continue
        refused = 0
        for value in WRONG:
            try:
                part.model_validate_json(json.dumps({key: value}))
            except ValidationError as error:
                refused += any(found["loc"][:1] == (key,) for found in error.errors())
        assert refused >= 3, key


@pytest.mark.parametrize("key", ["config", "git", "time", "metrics", "parameters"])
def test_a_completed_line_that_lacks_a_part_is_damaged(records: Records, tmp_path: Path, key: str) -> None:
    path = tmp_path / "made.jsonl"
    write_lines(path, [{name: part for name, part in records.lines[0].items() if name != key}])
    lines, damages = read_lines(path)
    assert lines == []
    assert key in damages[0]


@pytest.mark.parametrize("is_trial", [True, False])
def test_no_part_of_another_type_passes_or_ends_in_a_traceback(records: Records, is_trial: bool) -> None:
    """Whatever stands in the place of a part: the line is damaged, or the validator reads it to its end."""
    here = next(
        number
        for number, line in enumerate(records.lines)
        if (line["config"]["measure"] == "trial") == is_trial and (is_trial or "functional" in line)
    )
    read = refused = 0
    for place in places(records.lines[here]):
        for value in WRONG:
            line = changed(records.lines[here], place, value)
            try:
                check_line(json.dumps(line), line)
                check_answers(line)
            except (DamagedRecord, ValueError, AttributeError, KeyError, TypeError):
                refused += 1
                continue
            read += 1
            made = dataclasses.replace(records, lines=[*records.lines[:here], line, *records.lines[here + 1 :]])
            assert breaches(made) or study_page.write(made, [])
    assert refused > read > 50


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), 3, "format: Input should be 1 or 2, and not 3"),
        (("protocol",), None, "protocol: Input should be an object, and not None"),
        (("protocol", "arms"), [], "protocol.arms: List should have at least 1 item"),
        (
            ("protocol", "arms", 1, "name"),
            "full",
            "protocol: of the arms ['full', 'full', 'LoRA r=8'] two",
        ),
        (("protocol", "arms", 1, "overrides"), "rank=1", "protocol.arms.1.overrides: Input should be a valid array"),
        (("protocol", "arms", 0, "lowest"), -1, "protocol.arms.0.lowest: Input should be greater than 0, and not -1"),
        (("protocol", "reference"), "x", "protocol: the reference 'x' is none of the arms ['full', 'LoRA"),
        (("protocol", "rates"), 0, "protocol.rates: Input should be greater than or equal to 1, and not 0"),
        (("protocol", "rates"), 10**6, "protocol.rates: Input should be less than or equal to 100, and not 1000000"),
        (("earlier",), [{"protocol": 3}], "earlier.0.protocol: Input should be an object, and not 3"),
        (("history",), [{}], "history.0.date: Field required"),
        (("protocol", "factor"), "2", "protocol.factor: Input should be a valid number, and not '2'"),
        (("protocol", "margin"), 0, "protocol.margin: Input should be greater than 0, and not 0"),
        (("protocol", "final_seeds"), [], "protocol.final_seeds: List should have at least 1 item"),
        (("factors", "task", "reviews"), "task=reviews", "factors.task.reviews: Input should be a valid array"),
        (("low_share",), 2, "low_share: Input should be less than or equal to 1, and not 2"),
    ],
)
def test_a_part_of_a_declaration_of_another_type_is_named(
    records: Records, tmp_path: Path, place: Place, value: Any, message: str
) -> None:
    path = tmp_path / "made.json"
    write_summed(path, json.dumps(changed(to_content(records.declared), place, value)))
    with pytest.raises(DamagedDeclaration) as error:
        read_declaration(path)
    assert str(error.value).startswith(f"made.json: it is no declaration of a study: {message}")


def test_no_part_of_a_declaration_of_another_type_ends_in_a_traceback(records: Records, tmp_path: Path) -> None:
    path, whole = tmp_path / "made.json", to_content(records.declared)
    refused = 0
    for place in places(whole):
        for value in WRONG:
            write_summed(path, json.dumps(changed(whole, place, value)))
            try:
                declared = read_declaration(path)
            except DamagedDeclaration:
                refused += 1
            else:
                made = dataclasses.replace(records, declared=declared)
                assert breaches(made) or study_page.write(made, [])
    assert refused > 100

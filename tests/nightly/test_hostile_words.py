"""Hostile command lines: each ends in one line that names its fault, writes nothing, and calls nothing."""

from __future__ import annotations

import importlib
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import Lab
from hostile_words import ASKING, CORPUS, ELSEWHERE, FILES, Hostile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lorax_lab.launch.keys import known_keys

ROOT = Path(__file__).parents[2]

CANARY = "def call(*args, **options): open({path!r}, 'w').close()\ncall()\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with files that are no folders, and a module on the path that leaves a trace if it is read."""
    place, modules = tmp_path / "here", tmp_path / "modules"
    for folder in (place, modules):
        folder.mkdir()
    (place / "file").write_text("x")
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to(place / "loop")
    (place / "dangling").symlink_to(place / "nowhere")
    (modules / "canary.py").write_text(CANARY.format(path=str(tmp_path / "called")))
    monkeypatch.syspath_prepend(modules)
    monkeypatch.chdir(place)
    before = set(tmp_path.rglob("*"))
    yield place
    left = {path for path in set(tmp_path.rglob("*")) - before if "my conf" not in path.parts}
    assert not left, "something was written or called"
    sys.modules.pop("canary", None)


def typed(words: tuple[str, ...], small_run: list[str], here: Path) -> list[str]:
    """The words, behind those of a run that would train; a word that is typed takes the place of its own."""
    own = [word.replace("{tmp}", str(here)) for word in words]
    keys = {word.partition("=")[0].lstrip("+~") for word in own}
    configured = any(word.startswith("--config") and "dir" not in word for word in own)
    return own if configured else [*(word for word in small_run if word.partition("=")[0] not in keys), *own]


def refused(lab_here: Lab, words: list[str]) -> str:
    """The one line of the answer."""
    done = lab_here(*words)
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert output.startswith("error: "), output
    assert output.count("\n") == 1, output
    assert len(output) < 6000
    assert "Traceback" not in output
    return output


def name(hostile: Hostile) -> str:
    return ascii(" ".join(hostile.words))[1:60]


@pytest.mark.parametrize("hostile", CORPUS, ids=name)
def test_a_hostile_command_line_is_one_line(hostile: Hostile, small_run: list[str], lab_here: Lab, here: Path) -> None:
    answer = refused(lab_here, typed(hostile.words, small_run, here))
    for text in hostile.says:
        assert text.replace("{tmp}", str(here)) in answer


def test_the_corpus_covers_every_key_and_is_large() -> None:
    import dataclasses

    from lorax_lab.config import RunConfig, TaskConfig, TrackingConfig, TrainConfig

    sections = {"task.": TaskConfig, "train.": TrainConfig, "tracking.": TrackingConfig, "": RunConfig}
    keys = {f"{prefix}{field.name}" for prefix, kind in sections.items() for field in dataclasses.fields(kind)}
    covered = {word.partition("=")[0] for each in CORPUS for word in each.words}
    assert keys <= covered, keys - covered
    assert len(CORPUS) >= 212


@pytest.mark.parametrize("flags", ASKING, ids=" ".join)
def test_words_are_checked_whatever_the_flags(
    flags: tuple[str, ...], small_run: list[str], lab_here: Lab, here: Path
) -> None:
    for word in (
        "+hydra.callbacks.e._target_=canary.call",
        "hydra/launcher@hydra.callbacks.e=joblib",
        "tracking.entity='${oc.${tracking.project}:KAGGLE_KEY}'",
        "hydra.searchpath=[pkg://canary]",
    ):
        refused(lab_here, [*small_run, *flags, word])
        refused(lab_here, [word, *flags])


@pytest.mark.parametrize("flags", [["--dry-run"], ["--cfg", "all"], ["--info", "config"]], ids=" ".join)
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_the_users_own_calls_nothing(
    file: str, flags: list[str], small_run: list[str], lab_here: Lab, here: Path
) -> None:
    group, text, says = FILES[file]
    path = here / "my conf" / group / ("joblib.yaml" if "launcher" in group else "mine.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    chosen = f"{group}={path.stem}"
    answer = refused(lab_here, [f"--config-dir={here / 'my conf'}", chosen, f"runs_dir={here / 'runs'}", *flags])
    assert says in answer


def test_a_folder_whose_name_is_an_interpolation_is_refused(lab_here: Lab, here: Path) -> None:
    folder = here / "my conf" / "${oc.env:HOME}"
    folder.mkdir(parents=True)
    assert "give the folder another name" in refused(lab_here, [f"--config-dir={folder}", "--cfg", "job"])


@pytest.mark.parametrize("word", ["tracking.entity=${tracking.project}", "tracking.entity=x-${seed}-${task.name}"])
def test_a_setting_may_be_the_value_of_another(word: str, small_run: list[str], lab_here: Lab) -> None:
    done = lab_here(*small_run, word, "--cfg", "job", "--resolve", "-p", "tracking.entity")
    assert (done.returncode, done.stdout) in [(0, "lorax_lab\n"), (0, "x-0-local\n")]


def test_a_key_that_is_typed_twice_is_told(small_run: list[str], lab_here: Lab, here: Path) -> None:
    done = lab_here(*small_run, "rank=2", "rank=4", "--dry-run")
    assert done.returncode == 0
    assert "note: rank is typed twice: rank=2 rank=4; the last one counts\n" in done.stdout


def test_completion_sees_only_words_that_may_be_typed(
    monkeypatch: pytest.MonkeyPatch, lab_here: Lab, here: Path
) -> None:
    from lorax_lab.launch.entry import launch

    line = "lorax-lab hydra.searchpath=[pkg://canary] task.text=a\t+hydra.searchpath=[pkg://canary] rank=4 method."
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr(sys, "argv", ["lorax-lab", "-sc", "query=bash"])
    assert launch() == 0
    assert os.environ["COMP_LINE"] == "lorax-lab task.text=a rank=4 method."
    for words in (["query=bash", "+hydra.callbacks.e._target_=canary.call"], ["install='${oc.env:HOME}'"], []):
        monkeypatch.setattr(sys, "argv", ["lorax-lab", "-sc", *words])
        assert launch() == 2


def entry(name: str, words: list[str]) -> int:
    """The exit code of one of the other entries."""
    if name == "study":
        from experiments import command, rank_sweep

        return command.main(rank_sweep, words)
    module = "analysis" if name == "analysis" else f"lorax_lab.{name}"
    return int(importlib.import_module(f"{module}.__main__").main(words))


@pytest.mark.parametrize(("name", "words", "says"), ELSEWHERE, ids=lambda value: ascii(value)[1:40])
def test_the_other_entries_refuse_in_one_line(
    name: str, words: tuple[str, ...], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = entry(name, [word.replace("{tmp}", str(here)) for word in words])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: ")
    assert says.replace("{tmp}", str(here)) in said
    assert len(said.splitlines()) <= 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_knows_only_ascii_takes_every_text(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorax_lab.errors import any_sign_can_be_printed

    written = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(written, encoding="ascii"))
    any_sign_can_be_printed()
    print("ΔW · 日本", file=getattr(sys, stream), flush=True)
    assert written.getvalue() == b"\\u0394W \\xb7 \\u65e5\\u672c\n"


# the fuzzer

TYPED = sorted({word for each in CORPUS for word in each.words if len(word) < 400})
SEEDS = [*TYPED, *(word.replace("=", f"={sign}", 1) for word in TYPED for sign in ("'", "\\") if len(word) < 60)]
PIECES = [
    "${", "}", "${oc.env:HOME}", "${seed}", "_target_", "canary.call", "=", ",", "[", "]", "{", "'", '"', "\\", "@",
    "~", "+", "++", "hydra.", "hydra/launcher", "glob(*)", "range(0,9)", "choice(1,2)", "-m", "--cfg=job", "--info",
    "-p", "--", "/", "..", "null", "nan", "1e999", "???", "日本", "\u202e", "\ud800", "\x00", "\n", " ", ":", "$", "(",
    ")", "%", "#", "!!python",
]  # fmt: skip
BUDGET = 25.0
"""Seconds; `--full` takes ten times as many."""


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A word of the corpus, some parts of which are cut out, doubled, exchanged with another's, or spliced."""
    word = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(word)))
        end = draw(st.integers(start, len(word)))
        other = draw(st.one_of(st.sampled_from(PIECES), st.sampled_from(SEEDS), st.text(max_size=4)))
        put = draw(st.sampled_from(["", other, word[start:end] * 2, f"{word[start:end]}{other}"]))
        word = word[:start] + put + word[end:]
    return word


command_lines = st.lists(st.one_of(mutated(), st.sampled_from(SEEDS), st.text(max_size=20)), min_size=1, max_size=3)


@pytest.mark.slow
def test_no_command_line_ends_in_a_traceback(
    small_run: list[str],
    lab_here: Lab,
    here: Path,
    fuzz_chance: random.Random,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is typed: the exit status is one of ours, nothing is called, nothing is written, and what is refused is
    one line. Words that are all right are only listed, by `--dry-run`."""
    end = time.monotonic() + BUDGET * (10 if request.config.getoption("--full") else 1)
    counts = {"examples": 0, "refused": 0}
    around = set(here.parent.rglob("*"))

    @settings(
        max_examples=100, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(command_lines)
    def fuzz(words: list[str]) -> None:
        own = typed(tuple(words), small_run, here)
        done = lab_here("--dry-run", *own)
        output = done.stdout + done.stderr
        counts["examples"] += 1
        assert done.returncode in (0, 2), (words, output)
        assert "Traceback" not in output, (words, output)
        assert "canary" not in sys.modules, words
        assert set(here.parent.rglob("*")) == around, words
        if done.returncode == 2:
            counts["refused"] += 1
            assert output.startswith("error: "), (words, output)
            assert done.stdout.count("\n") == 1, (words, output)
            assert len(output) < 6000, (words, output)
            key = words[0].partition("=")[0]
            if len(words) == 1 and key in known_keys():
                assert key.partition(".")[0] in output, (words, output)

    while time.monotonic() < end:
        seed(fuzz_chance.randrange(2**32))(fuzz)()
    with capsys.disabled():
        print(f"{counts['examples']} command lines, {counts['refused']} of them refused")
    assert counts["examples"] > 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tracking.entity=${tracking.project}", "tracking.project=${tracking.entity}", "--cfg", "job", "--resolve"],
         "refers to another that has no value"),
        (["--cfg", "Qz9" * 150], "[hidden]"),
        (["--config", "tr0ub4dor  and  horse  9"], "[hidden]"),
    ],
)  # fmt: skip
def test_in_a_process_of_its_own(words: list[str], says: str) -> None:
    planted = {"MY_SECRET": "Qz9" * 150, "MY_PASSWORD": "tr0ub4dor  and  horse  9"}
    done = _process(words, os.environ | planted)
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert says in said
    assert "Traceback" not in said
    assert "Qz9Qz9" not in said
    assert "tr0ub4dor" not in said


def test_ascii_is_enough_for_the_help() -> None:
    done = _process(["--help"], os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m lorax_lab.run --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def _process(words: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lorax_lab.run", *words]
    return subprocess.run(command, capture_output=True, text=True, env=dict(environment), cwd=ROOT)


def test_a_folder_of_settings_is_not_left(lab_here: Lab, here: Path) -> None:
    outside, inside = here / "my conf" / "outside", here / "my conf" / "conf" / "experiment"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "mine.yaml").write_text("seed: 1\n")
    (inside.parent / "tracking").symlink_to(outside)
    words = [f"--config-dir={inside.parent}", "--cfg", "job"]
    assert "is a link, which is not followed" in refused(lab_here, words)
    (inside.parent / "tracking").unlink()
    (inside / "mine.yaml").write_text("defaults: [../../outside/mine]\n")
    assert "leaves the folder" in refused(lab_here, words)

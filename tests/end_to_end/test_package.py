"""What is installed: the wheel runs from anywhere, and its configuration is inside."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, built here, is installed."""
    built, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(ROOT)]
    subprocess.run(build, check=True, timeout=120)
    wheel = next(built.glob("lorax_lab-*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    of_pages = {"lorax_lab/export/README.md.j2", "analysis/pages/report.html.j2"}
    assert {"lorax_lab/conf/config.yaml", *of_pages} <= set(names)
    tops = {name.split("/")[0] for name in names}
    packages = {"lorax_lab", "analysis", "experiments", "hydra_plugins"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    install = [*pip, "install", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    return site


def printed(site: Path, cwd: Path, code: str, *typed: str) -> str:
    """What code prints that runs from a folder which has nothing of ours."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}", *typed]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(site: Path, cwd: Path, module: str, *typed: str) -> str:
    return printed(site, cwd, f"import runpy; runpy.run_module({module!r}, run_name='__main__')", *typed)


def test_the_wheel_answers_help_and_shows_its_configuration(site: Path, tmp_path: Path) -> None:
    assert "rank=8" in installed(site, tmp_path, "lorax_lab.run", "--help")
    assert "rank: 4" in installed(site, tmp_path, "lorax_lab.run", "--cfg", "job", "rank=4", "task=glue/mrpc")
    shown = printed(site, tmp_path, "import lorax_lab.launch.compose as c; print(c.CONF)")
    assert shown.strip() == str(site / "lorax_lab" / "conf")


def test_the_wheel_brings_a_command_and_every_module(site: Path, tmp_path: Path) -> None:
    names = "from importlib.metadata import distribution as found"
    command = f"{names}; found('lorax_lab').entry_points['lorax-lab'].load()()"
    assert printed(site, tmp_path, command, "--version") == installed(site, tmp_path, "lorax_lab.run", "--version")
    assert "BASE" in installed(site, tmp_path, "lorax_lab.audit", "--help")
    assert "singular_values" in installed(site, tmp_path, "analysis", "--help")

"""The wheel: `magmax` works in an empty directory without access to the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("magmax_jax", "pyproject.toml", "README.md", "LICENSE")
pytestmark = pytest.mark.slow


def command(*words, **options) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs `magmax` from a virtual environment with the wheel, in an empty directory.

    The wheel's dependencies come from this interpreter's packages.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    tools = command(*pip, "install", "--target", folder / "tools", "setuptools>=77")
    if tools.returncode:
        pytest.skip(f"setuptools cannot be installed here: {tools.stderr[-200:]}")
    (folder / "sources").mkdir()  # a build leaves folders behind and includes stale ones
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "sources" / name)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "sources")
    built = command(*build, env=env | {"PYTHONPATH": str(folder / "tools")})
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (folder / "sources" / "magmax_jax").rglob("*") if path.is_file())
    names = {str(path.relative_to(folder / "sources")) for path in files}
    assert {name for name in names if "__pycache__" not in name} <= held

    assert command(sys.executable, "-m", "venv", "--without-pip", folder / "venv").returncode == 0
    python = folder / "venv" / "bin" / "python"
    packages = command(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    outer = Path(packages.stdout.strip()) / "outer.pth"
    outer.write_text(sysconfig.get_path("purelib"))
    install = command(*pip, "--python", python, "install", "--no-deps", wheel, env=env)
    assert install.returncode == 0, install.stderr
    empty = folder / "empty"
    empty.mkdir()

    def magmax(*words) -> str:
        ended = command(python.parent / "magmax", *words, cwd=empty, env=env)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    where = command(python, "-c", "import magmax_jax; print(magmax_jax.__file__)", cwd=empty)
    assert Path(where.stdout.strip()).is_relative_to(folder / "venv")
    magmax.folder = empty
    return magmax


def test_the_quickstart_and_its_report_run_in_an_empty_directory(installed):
    few = "--train.epochs 1 --scenario.limit-per-class 4 --train.batch-size 8"
    shown = installed("run", "quickstart", *few.split())
    assert "zero-shot" in shown and "max_magnitude@0.5" in shown
    assert "finished" in installed("watch", "--once", "runs/quickstart")
    assert "index.html: 1 run" in installed("report", "runs/quickstart")
    page = (installed.folder / "runs" / "quickstart" / "report" / "index.html").read_text()
    assert "magmax run --config" in page and "experiments." not in page
    assert "sequential fine-tuning" in installed("table", "runs")


def test_a_grid_is_planned_and_a_data_set_named(installed):
    assert "digits-5/sequential/seed-1" in installed("grid", "smoke", "--dry-run")
    assert "--manual-dir" in installed("prepare", "--help")

"""Builds the wheel and the sdist and tries the core installation in empty environments.

    python -m tests.fresh_install [PYTHON ...]

For this Python and each other one: `magmax merge`, `magmax inspect` and a merge in memory work
without any extra, and `magmax run` names the extra that it needs. Also runs `twine check`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from tests.helpers.raw_safetensors import of_array, raw

ROOT = Path(__file__).parent.parent
LIBRARY = """
import magmax_jax as mm, numpy as np
merged = mm.merge({"w": np.ones(3, np.float32)}, [{"w": np.arange(3, dtype=np.float32)}])
assert merged["w"].tolist() == [0.5, 1.0, 1.5], merged
assert all(mm.registry.RULES.values())
"""
REFUSED = "error: the package pillow is not installed: pip install 'magmax_jax[train]'\n"


def output(*words: object, code: int = 0, cwd: Path | None = None) -> str:
    """Runs a command, which must exit with `code`; returns what it prints."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, cwd=cwd, env=env, check=False
    )
    assert done.returncode == code, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def environment(python: str, folder: Path, *packages: object) -> Path:
    """A virtual environment with packages; returns its folder of programs."""
    output(python, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "-q", "--disable-pip-version-check")
    output(*pip, "install", *packages)
    return folder / "bin"


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of what git tracks or would; both pass `twine check`."""
    bin = environment(sys.executable, folder / "tools", "build", "twine")
    sources = folder / "sources"
    listed = output("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_bytes((ROOT / name).read_bytes())
    output(bin / "python", "-m", "build", "--outdir", folder / "dist", sources)
    [wheel], [sdist] = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    output(bin / "twine", "check", "--strict", wheel, sdist)
    return wheel, sdist


def try_core(python: str, package: Path, folder: Path) -> None:
    """Installs a wheel or an sdist without extras, and uses it in an empty directory."""
    bin = environment(python, folder / "venv", package)
    packages = output(bin / "python", "-m", "pip", "list", "--format=freeze").splitlines()
    work = folder / "work"
    for number, name in enumerate(("base", "a", "b")):
        tensor = np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3) * number
        raw(work / name / "model.safetensors", {"w": of_array(tensor, "BF16")})
    magmax = bin / "magmax"
    words = "merge --pretrained base --finetuned a b --output merged".split()
    assert output(magmax, *words, cwd=work) == "merged: max_magnitude of 2 models at scale 0.5\n"
    assert "6 bfloat16" in output(magmax, "inspect", "merged", cwd=work)
    output(bin / "python", "-c", LIBRARY, cwd=work)
    assert output(magmax, "run", "quickstart", code=2, cwd=work) == REFUSED
    assert not (work / "runs").exists()
    version = output(bin / "python", "-V").strip()
    print(f"{version}, {package.name}: works with {len(packages)} packages")


def main(others: list[str]) -> None:
    """Prints one line for each Python; an assertion fails otherwise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        for number, python in enumerate([sys.executable, *others]):
            try_core(python, sdist if number else wheel, folder / f"python-{number}")


if __name__ == "__main__":
    main(sys.argv[1:])

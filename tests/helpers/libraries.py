"""A separate Python environment with the libraries that load merged files.

MAGMAX_TESTS_LIBRARIES names an existing one. Otherwise pip makes one, once for all tests; if pip
fails, the tests are skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCH = ["torch==2.13.0"]
PINNED = [
    "transformers==5.24.0", "sentence-transformers==6.2.0", "diffusers==0.42.1", "peft==0.21.2",
]  # fmt: skip
QUIET = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}


def python_with_libraries(folder: Path) -> str:
    """The path of its interpreter; it is created in `folder`."""
    if given := os.environ.get("MAGMAX_TESTS_LIBRARIES"):
        return given
    made = folder / "bin" / "python"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for wanted in (TORCH, PINNED):  # torch first, to get the CPU build
        pip = [made, "-m", "pip", "install", "-q", *wanted]
        found = subprocess.run(pip, capture_output=True, text=True)
        if found.returncode:
            pytest.skip(f"pip cannot install {wanted}: {found.stderr.strip().splitlines()[-1]}")
    return str(made)


def run(python: str, script: str, *words: object) -> None:
    """Runs a script there, offline; on failure shows the end of its output."""
    command = [python, "-c", script, *map(str, words)]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | QUIET)
    assert found.returncode == 0, found.stderr[-2000:]

"""Which packages a process imports from start to exit."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW = {
    "jax", "flax", "optax", "orbax", "grain", "transformers", "tokenizers", "huggingface_hub",
    "tensorflow_datasets", "tensorflow", "torch", "sklearn", "scipy", "pandas", "matplotlib", "PIL",
}  # fmt: skip
"""Packages that take tenths of a second or seconds to import."""

ONE_AFTER_ANOTHER = """
import contextlib, io, json, os, runpy, sys
found, os._exit = {}, sys.exit  # a command may abandon its threads
for line in json.loads(sys.argv[1]):
    module, *sys.argv[1:] = line.split()
    sys.argv[0], code = module, 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = ended.code or 0
    found[line] = code, sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(found))
"""


def imported(*arguments: str, code: int = 0) -> set[str]:
    """Top-level packages that `python ARGUMENTS` imports; it must exit with the given status."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr[-1000:]
    # import time: self [us] | cumulative | imported package
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def answered(*lines: str) -> dict[str, tuple[int, set[str]]]:
    """Runs `python -m LINE` for each line, all in one process.

    Returns:
      each line's exit status, and the slow packages that it and the lines before it imported.
    """
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    return {line: (code, SLOW & set(names)) for line, (code, names) in found.items()}

"""Which packages a process imports, from its start to its end."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW = {
    "jax", "flax", "optax", "orbax", "grain", "transformers", "tokenizers", "huggingface_hub",
    "tensorflow_datasets", "tensorflow", "torch", "sklearn", "scipy", "pandas", "matplotlib", "PIL",
}  # fmt: skip
"""What takes tenths of a second, or seconds."""


def imported(*arguments: str, code: int = 0) -> set[str]:
    """Top-level packages that `python ARGUMENTS` imports; it has to end with the exit status."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr[-1000:]
    # import time: self [us] | cumulative | imported package
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}

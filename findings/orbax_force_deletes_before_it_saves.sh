#!/usr/bin/env bash
# Orbax: save(..., force=True) deletes the former checkpoint first; a save that fails loses both.
#
# Versions: orbax-checkpoint 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer);
#   Linux. A limit on the size of files stands for a full disk.
# Guess: Orbax writes into a temporary directory and renames it, so with force=True the former
#   checkpoint is there until the new one is whole: "best" or "latest" is always one or the other.
# Seen: the former one is removed before the first byte of the new one is written. If the save then
#   fails (or the process ends), only a temporary directory is left, which cannot be restored.
#   Without force the existing directory is a ValueError, and stays.
# So: save under another name, wait_until_finished, then replace. Ours number their checkpoints, and
#   remove one only after the next is whole.
# Output seen:
#   before: best; after a failed save with force=True: best.orbax-checkpoint-tmp
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" orbax-checkpoint==0.12.8
cat > "$work/force.py" <<'PYTHON'
import os
import resource
import signal
import sys

import numpy as np
import orbax.checkpoint as ocp

folder = f"{sys.argv[1]}/checkpoints"
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(f"{folder}/best", {"w": np.ones((4, 4), np.float32)})
checkpointer.wait_until_finished()
before = os.listdir(folder)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk, write(2) fails
none = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, none))
large = {"w": np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)}
failed = False
try:
    checkpointer.save(f"{folder}/best", large, force=True)
    checkpointer.wait_until_finished()
except ValueError:
    failed = True
resource.setrlimit(resource.RLIMIT_FSIZE, (none, none))
assert failed, "this has changed: the save did not fail"
said = f"before: {before[0]}; after a failed save with force=True: {', '.join(os.listdir(folder))}"
print(said)
expected = "before: best; after a failed save with force=True: best.orbax-checkpoint-tmp"
assert said == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/force.py" "$work" 2> /dev/null

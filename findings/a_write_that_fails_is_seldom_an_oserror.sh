#!/usr/bin/env bash
# A disk that takes no more bytes: only NumPy raises an OSError, and that one has no errno.
#
# Versions: orbax-checkpoint 0.12.8, safetensors 0.8.0, array-record 0.8.6, NumPy 2.4.6, jax 0.10.2
#   (Python 3.11) or 0.12.0.1 (3.12 and newer); Linux. A limit on the size of files stands for a full
#   disk: both make write(2) fail.
# Guess: `except OSError` around a save catches a full disk, and error.errno says so.
# Seen: Orbax's save returns True; wait_until_finished raises a ValueError once, the next call says
#   nothing, and no step exists. safetensors raises a SafetensorError, array_record's close a
#   RuntimeError, numpy.save an OSError whose errno is None.
# So: catch what each raises, wait for Orbax before relying on a step, and look whether it exists.
#   Ours turn all of them into one sentence and exit code 2.
# Output seen:
#   Orbax, save: no error; wait: ValueError; wait again: no error; steps: []
#   safetensors: SafetensorError
#   array_record: RuntimeError
#   NumPy: OSError, errno None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" \
    orbax-checkpoint==0.12.8 safetensors==0.8.0 array_record==0.8.6 numpy==2.4.6
cat > "$work/limited.py" <<'PYTHON'
import logging
import os
import resource
import signal
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from array_record.python.array_record_module import ArrayRecordWriter
from safetensors.numpy import save_file

logging.getLogger("absl").setLevel(logging.CRITICAL)
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))


def outcome(write):
    try:
        write()
    except BaseException as error:
        errno = f", errno {error.errno}" if isinstance(error, OSError) else ""
        return f"{type(error).__name__}{errno}"
    return "no error"


def records():
    writer = ArrayRecordWriter(str(folder / "records"), "group_size:1")
    for _ in range(64):
        writer.write(os.urandom(1 << 16))
    writer.close()


weights = {"w": np.arange(1 << 20, dtype=np.float32)}
manager = ocp.CheckpointManager(folder / "steps")
tree = ocp.args.StandardSave({"w": jnp.asarray(weights["w"])})
save = outcome(lambda: manager.save(1, args=tree))
wait, again = (outcome(manager.wait_until_finished) for _ in range(2))
found = [
    f"Orbax, save: {save}; wait: {wait}; wait again: {again}; steps: {manager.all_steps()}",
    f"safetensors: {outcome(lambda: save_file(weights, folder / 'w.safetensors'))}",
    f"array_record: {outcome(records)}",
    f"NumPy: {outcome(lambda: np.save(folder / 'w.npy', weights['w']))}",
]
print(*found, sep="\n", flush=True)
expected = [
    "Orbax, save: no error; wait: ValueError; wait again: no error; steps: []",
    "safetensors: SafetensorError",
    "array_record: RuntimeError",
    "NumPy: OSError, errno None",
]
os._exit(found != expected)
PYTHON
mkdir "$work/files"
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/limited.py" "$work/files" || { echo "this has changed"; exit 1; }

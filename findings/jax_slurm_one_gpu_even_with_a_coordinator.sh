#!/usr/bin/env bash
# Under srun, JAX gives each process one GPU, even if the caller names the coordinator.
#
# Versions: jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer); CPU, because only the
#   setting is read.
# Guess: jax.distributed.initialize(coordinator, processes, process) leaves a process all GPUs of its
#   node, as it does elsewhere; only without arguments does Slurm decide.
# Seen: local_device_ids is still None, so JAX takes it from Slurm: SLURM_LOCALID. The process sees
#   only that one of its node's GPUs (jax_cuda_visible_devices), and one process per node silently
#   leaves all but the first idle.
# So: start one process for each GPU (srun --ntasks-per-node), or set JAX_LOCAL_DEVICE_IDS=0,1,...
#   Not run here (https://github.com/jax-ml/jax/issues/28194): with --gpus-per-task each process
#   sees only its own GPU, as number 0, and JAX requests SLURM_LOCALID. --gpus-per-node works.
# Output seen, except for the version:
#   0.10.2 no arguments: visible 3
#   0.10.2 coordinator named: visible 3
#   0.10.2 JAX_LOCAL_DEVICE_IDS=0,1: visible 0,1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/started.py" <<'PYTHON'
import os
import sys

import jax
from jax._src import xla_bridge

given = ("localhost:" + os.environ["PORT"], 1, 0) if sys.argv[1] == "coordinator named" else ()
jax.distributed.initialize(*given)
print(f"{jax.__version__} {sys.argv[1]}: visible {xla_bridge.CUDA_VISIBLE_DEVICES.value}")
PYTHON
export JAX_PLATFORMS=cpu SLURM_STEP_NODELIST=localhost SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=3
plain=$(SLURM_JOB_ID=$((RANDOM % 4000)) "$work/venv/bin/python" "$work/started.py" "no arguments")
named=$(SLURM_JOB_ID=7 PORT=$((40000 + RANDOM % 9000)) "$work/venv/bin/python" "$work/started.py" "coordinator named")
several=$(SLURM_JOB_ID=$((RANDOM % 4000)) JAX_LOCAL_DEVICE_IDS=0,1 "$work/venv/bin/python" "$work/started.py" "JAX_LOCAL_DEVICE_IDS=0,1")
printf '%s\n' "$plain" "$named" "$several"
[[ $plain == *"no arguments: visible 3" ]]
[[ $named == *"coordinator named: visible 3" ]]
[[ $several == *"JAX_LOCAL_DEVICE_IDS=0,1: visible 0,1" ]]

#!/usr/bin/env bash
# flax.serialization writes big-endian NumPy arrays and reads them as other numbers.
#
# Versions: flax 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer),
#   orbax-checkpoint 0.12.8, safetensors 0.8.0, numpy as they require; a little-endian machine.
# Guess: msgpack_restore(msgpack_serialize({"w": w})) has the numbers of w whatever its byte order, or
#   raises, as JAX does. FITS, NetCDF, IDX (MNIST) and np.frombuffer give ">f4" and ">i4".
# Seen: the bytes are stored as they lie in memory and the dtype as "float32", so 1.0 comes back as
#   4.6e-41 and the integer 1 as 16777216, without an error. from_bytes with a target does the same.
#   Orbax and safetensors give the right numbers, in the machine's order.
# So: w.astype(w.dtype.newbyteorder("=")) before flax writes it. Our merges take either order and
#   give theta_0's back.
# Output seen:
#   flax: 4.6e-41 and 16777216 instead of 1; with a target 4.6e-41
#   Orbax: 1.0 and 1; safetensors: 1.0 and 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" flax==0.12.8 orbax-checkpoint==0.12.8 safetensors==0.8.0
cat > "$work/order.py" <<'PYTHON'
import sys

import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from safetensors.numpy import load, save

given = {"w": np.ones(3, ">f4"), "n": np.ones(3, ">i4")}
stored = serialization.msgpack_serialize(given)
flax = serialization.msgpack_restore(stored)
target = {"w": np.zeros(3, np.float32), "n": np.zeros(3, np.int32)}
aimed = serialization.from_bytes(target, stored)
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(f"{sys.argv[1]}/checkpoint", given)
    checkpointer.wait_until_finished()
    orbax = checkpointer.restore(f"{sys.argv[1]}/checkpoint")
tensors = load(save(given))
said = (
    f"flax: {flax['w'][0]:.1e} and {flax['n'][0]} instead of 1; with a target {aimed['w'][0]:.1e}\n"
    f"Orbax: {orbax['w'][0]} and {orbax['n'][0]}; safetensors: {tensors['w'][0]} and {tensors['n'][0]}"
)
print(said)
wanted = (
    "flax: 4.6e-41 and 16777216 instead of 1; with a target 4.6e-41\n"
    "Orbax: 1.0 and 1; safetensors: 1.0 and 1"
)
assert said == wanted, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/order.py" "$work"

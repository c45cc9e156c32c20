#!/usr/bin/env bash
# Orbax checks the shape of a jax.Array target, and ignores that of a NumPy target.
#
# Versions: orbax-checkpoint 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer).
# Guess: StandardCheckpointer.restore(path, target) raises for a target of another shape, whatever
#   kind of array it is: the target says what is expected.
# Seen: for jax arrays and ShapeDtypeStructs it is a ValueError ("Truncating/padding is disabled").
#   For np.zeros((2, 8)) a stored (4, 6) comes back as (4, 6), without a word; only the dtype is the
#   target's.
# So: pass jax.ShapeDtypeStructs as targets, as we do, also on the host; otherwise a merge of NumPy
#   trees broadcasts, or fails much later with a message about something else.
# Output seen:
#   jax: ValueError; NumPy: (4, 6) float16
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" orbax-checkpoint==0.12.8
cat > "$work/shapes.py" <<'PYTHON'
import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

path = f"{sys.argv[1]}/checkpoint"
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(path, {"w": jnp.arange(24.0).reshape(4, 6)})
checkpointer.wait_until_finished()
try:
    checkpointer.restore(path, {"w": jnp.zeros((2, 8), jnp.float16)})
    first = "restored"
except ValueError:
    first = "ValueError"
found = checkpointer.restore(path, {"w": np.zeros((2, 8), np.float16)})["w"]
said = f"jax: {first}; NumPy: {found.shape} {found.dtype}"
print(said)
assert said == "jax: ValueError; NumPy: (4, 6) float16", "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/shapes.py" "$work" 2> /dev/null

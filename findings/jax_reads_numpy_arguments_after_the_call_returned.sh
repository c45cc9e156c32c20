#!/usr/bin/env bash
# A jitted function may read a NumPy argument long after the call returned, so refilling it is a race.
#
# Versions: jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer), CPU.
# Guess: step(params, batch) has taken the batch when it returns: results may come later, but the
#   arguments are fixed. (That device_put shares aligned memory is known; this is a plain call.)
# Seen: on CPUs a NumPy argument that is aligned to 64 bytes is not copied, and the call returns
#   before anything was computed. A loader that refills one buffer trains on batches that come later,
#   a merge that loads models into one set of arrays merges the last one several times. NumPy's own
#   arrays are aligned to 64 by chance, torch's always. In 0.10.2 large arrays of any alignment are
#   read late too.
# So: jax.block_until_ready(result) before the buffer is filled again, or a new array every time. Our
#   merging functions return when they have read their NumPy arguments, and states keep copies.
# Output seen:
#   aligned to 64: four calls with 0, 1, 2, 3 computed [9, 9, 9, 9]
#   aligned to 4: four calls with 0, 1, 2, 3 computed [0, 1, 2, 3]
#   waited for: four calls with 0, 1, 2, 3 computed [0, 1, 2, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/late.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def step(matrix, batch):
    """Reads the batch last, as a large model's first layer waits for the step before it."""
    matrix = jax.lax.fori_loop(0, 50, lambda _, m: m @ m * 1e-3, matrix)
    matrix, batch = jax.lax.optimization_barrier((matrix, batch))
    return jnp.max(batch) + 0 * jnp.max(matrix)


def buffer(offset):
    raw = np.zeros(64 + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    return raw[start : start + 64].view(np.float32)


matrix = jnp.ones((1000, 1000))
CASES = {"aligned to 64": (0, False), "aligned to 4": (4, False), "waited for": (0, True)}
for name, (offset, waits) in CASES.items():
    batch = buffer(offset)
    step(matrix, batch).block_until_ready()  # compiled
    results = []
    for value in range(4):
        batch[:] = value
        results.append(step(matrix, batch))
        if waits:
            results[-1].block_until_ready()
    batch[:] = 9
    found = [int(result) for result in results]
    print(f"{name}: four calls with 0, 1, 2, 3 computed {found}")
    assert found == ([9] * 4 if name == "aligned to 64" else [0, 1, 2, 3]), "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/late.py"

#!/usr/bin/env bash
# jax.numpy.histogram counts in the dtype of the data: in bfloat16 no bin gets beyond 256.
#
# Versions: jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer), NumPy 2.4.6 beside it; CPU.
# Guess: counts are counts. numpy.histogram of the same bfloat16 or float16 array returns integers
#   that add up to its size.
# Seen: jax.numpy.histogram adds ones in the data's own dtype, and 256 + 1 is 256 in bfloat16, 2048 + 1
#   is 2048 in float16. 100,000 values in four equal bins give 256 (2048) each, which looks like a
#   flat histogram. segment_sum, bincount with weights and x.at[i].add stop at the same numbers,
#   while jnp.sum of the same ones is right.
# So: histograms of weights or task vectors in half precision need data.astype(float32) first.
# Output seen:
#   float32: jax [10000, 20000, 30000, 40000], NumPy [10000, 20000, 30000, 40000]
#   bfloat16: jax [256, 256, 256, 256], NumPy [10000, 20000, 30000, 40000]
#   float16: jax [2048, 2048, 2048, 2048], NumPy [10000, 20000, 30000, 40000]
#   3,000 ones in bfloat16: sum 3008, segment_sum 256, bincount 256, at.add 256
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/counts.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

RIGHT = [10_000, 20_000, 30_000, 40_000]
SEEN = {"float32": RIGHT, "bfloat16": [256] * 4, "float16": [2048] * 4}
for dtype, seen in SEEN.items():
    values = jnp.repeat(jnp.arange(4), np.array(RIGHT)).astype(dtype)
    ours = [int(n) for n in jnp.histogram(values, bins=4)[0]]
    theirs = [int(n) for n in np.histogram(np.asarray(values), bins=4)[0]]
    print(f"{dtype}: jax {ours}, NumPy {theirs}")
    assert ours == seen and theirs == RIGHT, "this has changed"

ones, zeros = jnp.ones(3_000, jnp.bfloat16), jnp.zeros(3_000, jnp.int32)
sums = {
    "sum": jnp.sum(ones),
    "segment_sum": jax.ops.segment_sum(ones, zeros, 1)[0],
    "bincount": jnp.bincount(zeros, ones, length=1)[0],
    "at.add": jnp.zeros(1, jnp.bfloat16).at[zeros].add(ones)[0],
}
said = ", ".join(f"{name} {float(value):.0f}" for name, value in sums.items())
print(f"3,000 ones in bfloat16: {said}")
assert said == "sum 3008, segment_sum 256, bincount 256, at.add 256", "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/counts.py"

#!/usr/bin/env bash
# In bfloat16, jax.random.normal has 128 values, none beyond 2.52; a mask of 1 % keeps 1.5 %.
#
# Versions: jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer), CPU.
# Guess: jax.random.normal and uniform with dtype=bfloat16 are float32's draws, rounded: a few
#   thousand distinct values, tails beyond 4 in a million draws, and P(u < 0.01) close to 0.01.
# Seen: uniform draws one of 128 multiples of 2**-7 (1,024 of 2**-10 in float16), though bfloat16 has
#   over 16,000 numbers in [0, 1). normal is a function of that draw: no more than 128 values (1,024)
#   and no tail. uniform < 0.01 has probability 2 / 128, and so has bernoulli(key, bfloat16(0.01)).
# So: draw masks (dropout, DARE, DELLA) and noise in float32 and convert. Ours are drawn so.
# Output seen:
#   bfloat16: 128 uniform values, 128 normal ones up to 2.52, P(u < 0.01) 0.0154, bernoulli 0.0154
#   float16: 1024 uniform values, 1024 normal ones up to 3.18, P(u < 0.01) 0.0108, bernoulli 0.0108
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/draws.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

key, shape = jax.random.key(0), (1_000_000,)
EXPECTED = {
    "bfloat16": "128 uniform values, 128 normal ones up to 2.52, P(u < 0.01) 0.0154, bernoulli 0.0154",
    "float16": "1024 uniform values, 1024 normal ones up to 3.18, P(u < 0.01) 0.0108, bernoulli 0.0108",
}
for dtype, expected in EXPECTED.items():
    uniform = np.asarray(jax.random.uniform(key, shape, dtype)).astype(np.float32)
    normal = np.asarray(jax.random.normal(key, shape, dtype)).astype(np.float32)
    drawn = np.asarray(jax.random.bernoulli(key, jnp.asarray(0.01, dtype), shape))
    said = (
        f"{len(np.unique(uniform))} uniform values, {len(np.unique(normal))} normal ones up to "
        f"{normal.max():.2f}, P(u < 0.01) {(uniform < 0.01).mean():.4f}, bernoulli {drawn.mean():.4f}"
    )
    print(f"{dtype}: {said}")
    assert said == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/draws.py"

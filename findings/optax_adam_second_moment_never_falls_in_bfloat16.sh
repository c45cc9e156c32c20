#!/usr/bin/env bash
# With bfloat16 parameters, optax.adam's second moment only rises: steps stay too small for ever.
#
# Versions: optax 0.2.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer), CPU.
# Guess: once the gradients are small, nu follows them down as in float32, with some rounding.
# Seen: nu has the parameters' dtype (mu_dtype concerns mu alone), and 0.999 nu rounds back to nu in
#   bfloat16, which has 8 bits. Ten gradients of 1, then 2,990 of 0.001: float32's nu falls from
#   0.0100 to 0.0005, bfloat16's is the same number to the end, and its steps are 4.5 times too small.
# So: keep parameters in float32 and compute in bfloat16, as we do. A nu that is read afterwards, as a
#   Fisher estimate or a merge's weights, is then a maximum and no average.
# Output seen:
#   float32: nu 0.00996 after 10 steps, 0.00050 after 3000; step -4.4e-05
#   bfloat16: nu 0.00995 after 10 steps, 0.00995 after 3000; step -9.8e-06
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" optax==0.2.8
cat > "$work/moments.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

EXPECTED = {
    "float32": "nu 0.00996 after 10 steps, 0.00050 after 3000; step -4.4e-05",
    "bfloat16": "nu 0.00995 after 10 steps, 0.00995 after 3000; step -9.8e-06",
}
for dtype, expected in EXPECTED.items():
    parameters = jnp.ones(4, dtype)
    adam = optax.adam(1e-3, mu_dtype=jnp.float32)
    state, update = adam.init(parameters), jax.jit(adam.update)
    for step in range(3_000):
        gradients = jnp.full(4, 1 if step < 10 else 1e-3, dtype)
        updates, state = update(gradients, state, parameters)
        if step == 9:
            early = float(state[0].nu[0])
    said = (
        f"nu {early:.5f} after 10 steps, {float(state[0].nu[0]):.5f} after 3000; "
        f"step {float(updates[0]):.1e}"
    )
    print(f"{dtype}: {said}")
    assert said == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/moments.py"

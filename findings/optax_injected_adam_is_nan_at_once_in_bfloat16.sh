#!/usr/bin/env bash
# inject_hyperparams(adamw) on bfloat16 parameters gives NaN in the first step; plain adamw does not.
#
# Versions: optax 0.2.8; jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer), CPU. Optax's
#   issue 1414 asks for another dtype of the hyperparameters; it does not mention NaN.
# Guess: optax.inject_hyperparams(optax.adamw)(1e-3), the usual way to log or change the learning
#   rate, updates as optax.adamw(1e-3) does.
# Seen: the hyperparameters take the parameters' dtype. In bfloat16 b2 = 0.999 becomes 1, its bias
#   correction 1 - b2**t becomes 0, and every update is 0 / 0, without a warning. A single float32
#   leaf anywhere in the tree makes them float32, so a model with float32 norms never shows it. In
#   float16 eps = 1e-8 becomes 0, with or without the wrapper: no gradient, no number.
# So: pass hyperparam_dtype=jnp.float32, and train float16 with another eps. We do not inject
#   hyperparameters, and the optimiser's arithmetic is float32.
# Output seen (steps against gradients of 0.1 and 0):
#   bfloat16: plain [0.001, 0.0], injected [nan, nan], as float32 [0.001, 0.0]; b2 1.0, eps 1e-08
#   float16: plain [0.001, nan], injected [0.001, nan], as float32 [0.001, 0.0]; b2 0.99902, eps 0
#   float32: plain [0.001, 0.0], injected [0.001, 0.0], as float32 [0.001, 0.0]; b2 0.999, eps 1e-08
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" optax==0.2.8
cat > "$work/steps.py" <<'PYTHON'
import jax.numpy as jnp
import optax

EXPECTED = {
    "bfloat16": "plain [0.001, 0.0], injected [nan, nan], as float32 [0.001, 0.0]; b2 1.0, eps 1e-08",
    "float16": "plain [0.001, nan], injected [0.001, nan], as float32 [0.001, 0.0]; b2 0.99902, eps 0",
    "float32": "plain [0.001, 0.0], injected [0.001, 0.0], as float32 [0.001, 0.0]; b2 0.999, eps 1e-08",
}


def step(adamw, dtype):
    parameters, gradients = jnp.ones(2, dtype), jnp.asarray([0.1, 0], dtype)
    updates, state = adamw.update(gradients, adamw.init(parameters), parameters)
    return [round(-float(u), 5) for u in updates], state


for dtype, expected in EXPECTED.items():
    flags = {"learning_rate": 1e-3, "weight_decay": 0.0}
    as_float32 = optax.inject_hyperparams(optax.adamw, hyperparam_dtype=jnp.float32)
    plain, _ = step(optax.adamw(**flags), dtype)
    injected, state = step(optax.inject_hyperparams(optax.adamw)(**flags), dtype)
    wide, _ = step(as_float32(**flags), dtype)
    b2, eps = (float(f"{state.hyperparams[name]:.5g}") for name in ("b2", "eps"))
    said = f"plain {plain}, injected {injected}, as float32 {wide}; b2 {b2}, eps {eps:.1g}"
    print(f"{dtype}: {said}")
    assert said == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/steps.py"

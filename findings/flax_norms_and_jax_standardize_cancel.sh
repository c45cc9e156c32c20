#!/usr/bin/env bash
# flax's norms and jax.nn.standardize do not normalise values whose mean is large.
#
# Versions: flax 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer), on a CPU.
# Guess: LayerNorm of float32 values is right to about 1e-4 for any mean, as torch's is and as
#   jnp.var is: normal values around 1,000 come out with mean 0 and standard deviation 1.
# Seen: by default the variance is E[x^2] - E[x]^2 in one pass, which cancels. Of 768 normal values
#   around 100 the largest error is 0.003, around 1,000 0.5, and around 3,000 the rows are multiplied
#   by hundreds, because a variance of 0 is left. GroupNorm and BatchNorm do the same.
#   use_fast_variance=False is right to 4e-4 everywhere. jax.nn.standardize has no such flag: values
#   of standard deviation 0.1 around 1,000 come out with one of 33 instead of 1.
# So: pass use_fast_variance=False, as we do, where a checkpoint brings activations of such a size,
#   and subtract the mean before jax.nn.standardize.
# Output seen:
#   LayerNorm: error around 1000 0.53, two passes 0.00; around 3000 over 100, two passes 0.00
#   GroupNorm and BatchNorm: errors around 3000 over 100, two passes 0.00
#   standardize: 33.0 where jnp.std gives 1.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" flax==0.12.8
cat > "$work/norms.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

EPSILON = 1e-5
random = np.random.default_rng(0)


def error(norm, values, axis):
    exact = values.astype(np.float64)
    exact -= exact.mean(axis, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axis, keepdims=True) + EPSILON)
    return float(np.abs(np.asarray(norm(jnp.asarray(values))) - exact).max())


def layer(fast):
    return nnx.LayerNorm(768, epsilon=EPSILON, use_fast_variance=fast, rngs=nnx.Rngs(0))


def group(fast):
    return nnx.GroupNorm(768, 1, epsilon=EPSILON, use_fast_variance=fast, rngs=nnx.Rngs(0))


def batch(fast):
    return nnx.BatchNorm(
        768, epsilon=EPSILON, use_fast_variance=fast, use_running_average=False, rngs=nnx.Rngs(0)
    )


near, far = (
    (random.standard_normal((64, 768)) + mean).astype(np.float32) for mean in (1000, 3000)
)
found = [error(layer(fast), values, 1) for values in (near, far) for fast in (True, False)]
print(
    f"LayerNorm: error around 1000 {found[0]:.2f}, two passes {found[1]:.2f}; around 3000 "
    f"{'over 100' if found[2] > 100 else found[2]}, two passes {found[3]:.2f}"
)
assert found[0] > 0.1 and found[2] > 100 and max(found[1], found[3]) < 1e-3, "this has changed"
others = [error(kind(fast), far, axis) for kind, axis in ((group, 1), (batch, 0)) for fast in (1, 0)]
print(
    f"GroupNorm and BatchNorm: errors around 3000 "
    f"{'over 100' if min(others[0], others[2]) > 100 else others}, two passes {max(others[1::2]):.2f}"
)
assert min(others[0], others[2]) > 100 and max(others[1], others[3]) < 1e-3, "this has changed"
values = jnp.asarray((0.1 * random.standard_normal(1000) + 1000).astype(np.float32))
spread = float(jax.nn.standardize(values).std())
right = float(((values - values.mean()) / jnp.std(values)).std())
print(f"standardize: {spread:.1f} where jnp.std gives {right:.1f}")
assert spread > 3 and round(right, 1) == 1, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/norms.py"

#!/usr/bin/env bash
# nnx.state(model), kept as the pretrained weights, becomes the fine-tuned ones as training goes on.
#
# Versions: flax 0.12.8 with jax 0.10.2 (Python 3.11), or 0.12.12 with 0.12.0.1 (3.12 and newer).
# Guess: nnx.state and nnx.split give the values of that moment, as Linen's parameters were: a State
#   is the functional side of a module.
# Seen: a State holds the module's own Variables, and nnx.Optimizer.update changes these in place,
#   inside nnx.jit too. A theta_0 kept so is theta_t after any task: task vectors are 0, every merge
#   returns the last model, and L2 penalties towards it vanish, without a word. nnx.merge shares them
#   too: changing its module changes the first one. nnx.to_pure_dict, nnx.clone and any jax.tree.map
#   make a snapshot.
# So: theta_0 = jax.tree.map(lambda x: x, nnx.state(model)), or clone the module first. Our image_tower
#   and text_tower give such copies; our own training takes and returns trees, and changes no module.
# Output seen:
#   norm of the task vector: nnx.state 0.0, nnx.split 0.0, to_pure_dict 2.4, clone 2.4, tree.map 2.4
#   merged module set to 9: the first one is 9.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -c 'import sys; print("0.10.2 0.12.8" if sys.version_info < (3, 12) else "0.12.0.1 0.12.12")' \
    > "$work/versions"
read -r jax flax < "$work/versions"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$jax" "jaxlib==$jax" \
    "flax==$flax" optax==0.2.8
cat > "$work/snapshots.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

KEPT = {
    "nnx.state": nnx.state,
    "nnx.split": lambda model: nnx.split(model)[1],
    "to_pure_dict": lambda model: nnx.to_pure_dict(nnx.state(model)),
    "clone": lambda model: nnx.state(nnx.clone(model)),
    "tree.map": lambda model: jax.tree.map(lambda x: x, nnx.state(model)),
}


@nnx.jit
def train(model, optimizer):
    gradients = nnx.grad(lambda model: model(jnp.ones((1, 2))).sum())(model)
    optimizer.update(model, gradients)


norms = []
for name, keep in KEPT.items():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))  # the gradient is 1 in all 6 entries
    theta_0 = keep(model)
    train(model, nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param))
    pairs = zip(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(theta_0), strict=True)
    norm = float(np.sqrt(sum(np.sum((np.asarray(a) - np.asarray(b)) ** 2) for a, b in pairs)))
    norms.append(f"{name} {norm:.1f}")
said = f"norm of the task vector: {', '.join(norms)}"
print(said)
assert said == (
    "norm of the task vector: nnx.state 0.0, nnx.split 0.0, to_pure_dict 2.4, clone 2.4, tree.map 2.4"
), "this has changed"
model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
nnx.merge(*nnx.split(model)).kernel[...] = jnp.full((2, 2), 9.0)
said = f"merged module set to 9: the first one is {float(model.kernel[0, 0])}"
print(said)
assert said == "merged module set to 9: the first one is 9.0", "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/snapshots.py"

#!/usr/bin/env bash
# Read without a target, flax's files have the layers of a list in another order.
#
# Versions: flax 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer).
# Guess: the leaves of msgpack_restore(to_bytes(params)) are those of params, in their order, so
#   they can be put back with jax.tree.unflatten, or compared and merged leaf by leaf.
# Seen: a list becomes a dict with the keys "0", "1", ..., and JAX sorts keys as text: from eleven
#   layers on (a ViT-B has twelve) the order is 0, 1, 10, 11, 2, .... All layers have one shape, so
#   unflatten gives a model whose layers are permuted, without an error. Up to ten layers it is
#   right, as small tests are. from_bytes with a target is right; so is Orbax, which keeps lists; and
#   keys that are ints, as nnx.to_pure_dict gives, stay ints and in order.
# So: match leaves by their paths, as our merges do (a dict in place of a list is refused), or give
#   from_bytes the tree as its target.
# Output seen:
#   10 layers: 0 1 2 3 4 5 6 7 8 9
#   12 layers: 0 1 10 11 2 3 4 5 6 7 8 9; with a target 0 1 2 3 4 5 6 7 8 9 10 11
#   12 layers of nnx: 0 1 2 3 4 5 6 7 8 9 10 11
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" flax==0.12.8
cat > "$work/layers.py" <<'PYTHON'
import jax
import jax.numpy as jnp
from flax import nnx, serialization


def order(tree):
    return " ".join(str(int(leaf.ravel()[0])) for leaf in jax.tree.leaves(tree))


class Layers(nnx.Module):
    def __init__(self, count):
        self.layers = nnx.List([nnx.Param(jnp.full((2, 2), float(i))) for i in range(count)])


said = []
for count in (10, 12):
    params = {"layers": [jnp.full((2, 2), float(i)) for i in range(count)]}
    stored = serialization.to_bytes(params)
    restored = serialization.msgpack_restore(stored)
    put_back = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(restored))
    said.append(f"{count} layers: {order(put_back)}")
said[-1] += f"; with a target {order(serialization.from_bytes(params, stored))}"
pure = nnx.to_pure_dict(nnx.state(Layers(12)))
again = serialization.msgpack_restore(serialization.msgpack_serialize(pure))
said.append(f"12 layers of nnx: {order(again)}")
print("\n".join(said))
right = " ".join(str(i) for i in range(12))
assert said == [
    "10 layers: 0 1 2 3 4 5 6 7 8 9",
    f"12 layers: 0 1 10 11 2 3 4 5 6 7 8 9; with a target {right}",
    f"12 layers of nnx: {right}",
], "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/layers.py"

#!/usr/bin/env bash
# Orbax stores {"v1": {"1.bias": x}, "v1.1": {"bias": y}} as one array: both come back as one of them.
#
# Versions: orbax-checkpoint 0.12.8 with jax 0.10.2 and flax 0.12.8 (Python 3.11), or jax 0.12.0.1 and
#   flax 0.12.12 (Python 3.12 and newer).
# Guess: a tree of nested dictionaries comes back as it was saved, whatever the keys are; its
#   structure does, and so do keys with slashes, spaces and accents.
# Seen: an array is stored under its path joined by dots. Two paths with one name are written over each
#   other, and both are restored as the same array, with or without a target, without a warning; which
#   of the two it is differs from run to run. Only if their shapes differ does the save fail. It takes
#   names with dots, such as state_dicts ("1.bias") by model ("v1", "v1.1").
#   flax.traverse_util.flatten_dict(sep=".") keeps the last of the two, and warns of nothing either.
# So: nest state_dicts by their dots before saving, or compare what is restored. Ours keeps a checksum
#   of every array beside it and calls such a checkpoint damaged.
# Output seen:
#   saved [1.0, 2.0]; restored equal, with a target equal
#   with slashes in place of dots: [1.0, 2.0]
#   flatten_dict(sep="."): {'v1.1.bias': 2}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -c 'import sys; print("0.10.2 0.12.8" if sys.version_info < (3, 12) else "0.12.0.1 0.12.12")' \
    > "$work/versions"
read -r jax flax < "$work/versions"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$jax" "jaxlib==$jax" \
    orbax-checkpoint==0.12.8 "flax==$flax"
cat > "$work/names.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

checkpointer = ocp.StandardCheckpointer()


def restored(name, tree, **given):
    path = f"{sys.argv[1]}/{name}"
    checkpointer.save(path, tree)
    checkpointer.wait_until_finished()
    found = checkpointer.restore(path, **given)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    return [float(np.asarray(leaf)[0]) for leaf in jax.tree.leaves(found)]


one, two = jnp.ones(3), jnp.full(3, 2.0)
dots = {"v1": {"1.bias": one}, "v1.1": {"bias": two}}
slashes = {"v1": {"1/bias": one}, "v1/1": {"bias": two}}
plain = restored("plain", dots)
aimed = restored("aimed", dots, target=jax.tree.map(jnp.zeros_like, dots))
words = ["equal" if len(set(values)) == 1 else values for values in (plain, aimed)]
flat = flatten_dict({"v1": {"1.bias": 1}, "v1.1": {"bias": 2}}, sep=".")
said = [
    f"saved [1.0, 2.0]; restored {words[0]}, with a target {words[1]}",
    f"with slashes in place of dots: {restored('slashes', slashes)}",
    f'flatten_dict(sep="."): {flat}',
]
print(*said, sep="\n")
assert said == [
    "saved [1.0, 2.0]; restored equal, with a target equal",
    "with slashes in place of dots: [1.0, 2.0]",
    "flatten_dict(sep=\".\"): {'v1.1.bias': 2}",
], "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/names.py" "$work" 2> /dev/null

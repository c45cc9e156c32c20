#!/usr/bin/env bash
# A float32 embedding used in bfloat16 gets a gradient of at most 256 ones, however often a token comes.
#
# Versions: jax 0.10.2 with flax 0.12.8 (Python 3.11), 0.12.0.1 with 0.12.12 (3.12 and newer), CPU.
# Guess: with parameters in float32 and dtype=bfloat16, nnx.Embed's gradient is that of float32 to three
#   digits, as a Linear's is: sums in bfloat16 products are kept in float32.
# Seen: the embedding is converted first and then looked up, so its gradient is added up in bfloat16,
#   one use after another, and 256 + 1 is 256. A token used 3,000 times in a batch (end of text,
#   padding, "a photo of") gets the gradient of 256 uses, rare ones all of theirs: no warning, finite
#   numbers. A weight shared by the steps of lax.scan stops there as well; under vmap, or in a
#   product with one_hot, it does not.
# So: look up in float32 and convert what is found. In ours the token embedding is not trained, and the
#   gradients of a batch's parts are added in float32.
# Output seen, of 3,000 uses with gradient 1:
#   nnx.Embed float32 3000, bfloat16 256; looked up in float32 3000
#   bfloat16 weight shared by scan 256, by vmap 3008; one_hot product 3008
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -c 'import sys; print("0.10.2 0.12.8" if sys.version_info < (3, 12) else "0.12.0.1 0.12.12")' \
    > "$work/versions"
read -r jax flax < "$work/versions"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$jax" "jaxlib==$jax" "flax==$flax"
cat > "$work/gradients.py" <<'PYTHON'
import jax
import jax.numpy as jnp
from flax import nnx

ids, ones = jnp.zeros(3_000, jnp.int32), jnp.ones(3_000, jnp.bfloat16)


def total(x):
    return x.astype(jnp.float32).sum()


def embedded(dtype):
    embed = nnx.Embed(2, 1, dtype=dtype, rngs=nnx.Rngs(0))
    assert embed.embedding[...].dtype == jnp.float32
    return nnx.grad(lambda embed: total(embed(ids)))(embed)["embedding"][...][0, 0]


def of_one(function, *shape):
    return jax.grad(function)(jnp.ones(shape, jnp.bfloat16)).reshape(-1)[0]


def scanned(w):
    return total(jax.lax.scan(lambda carry, x: (carry, w * x), None, ones)[1])


table = jnp.ones((2, 1))
wide = jax.grad(lambda table: total(table[ids].astype(jnp.bfloat16)))(table)[0, 0]
mapped = of_one(lambda w: total(jax.vmap(lambda x: w * x)(ones)))
product = of_one(lambda w: total(jax.nn.one_hot(ids, 2, dtype=jnp.bfloat16) @ w), 2, 1)
said = [
    f"nnx.Embed float32 {embedded(jnp.float32):.0f}, bfloat16 {embedded(jnp.bfloat16):.0f}; "
    f"looked up in float32 {wide:.0f}",
    f"bfloat16 weight shared by scan {of_one(scanned):.0f}, by vmap {mapped:.0f}; "
    f"one_hot product {product:.0f}",
]
print(*said, sep="\n")
assert said == [
    "nnx.Embed float32 3000, bfloat16 256; looked up in float32 3000",
    "bfloat16 weight shared by scan 256, by vmap 3008; one_hot product 3008",
], "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/gradients.py"
